"""OVN's inventory: whose its rows are, and where they and Kubernetes' objects do not agree."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from audit.model.findings import FindingKind
from audit.model.packets import Protocol
from audit.model.verdicts import PolicyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedGroup:
    """A port group that has ports: what it stands for.

    `name` is the object's, `namespace:name` or a namespace; `direction` is `ingress` or `egress`
    where the group has one.
    """

    group: str
    owner_type: str
    name: str
    direction: str
    ports: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedSet:
    """An address set that some ACL in force uses; `rule` is -1 where it belongs to no rule."""

    set: str
    owner_type: str
    name: str
    direction: str
    rule: int
    family: str
    """`v4` or `v6`."""
    addresses: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """A load balancer of a Service of the default network that is in force, and where.

    `owner` is `namespace/name`; each VIP is `(address, port, backends)`. One of a load balancer
    group is in force on switches and routers.
    """

    owner: str
    protocol: Protocol
    vips: tuple[tuple[str, int, tuple[str, ...]], ...]
    on_switch: bool
    on_router: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What a zone's databases hold that belongs to Kubernetes objects."""

    policies: frozenset[str] = frozenset()
    """`owner type:name` of every policy with a port group, whether a port is in it or not."""
    groups: tuple[OwnedGroup, ...] = ()
    sets: tuple[OwnedSet, ...] = ()
    absent_sets: tuple[str, ...] = ()
    """Address sets that ACLs in force use and that are not there: no packet is in them."""
    balancers: tuple[Balancer, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Values of each template variable, of all chassis."""
    bound: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The chassis of each pod's port; empty where it is bound to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Cells that a difference explains: those of `pods` on the side of `direction`.

    `others` are who is on the other side, None for anyone; `passes` is what OVN does with the
    packet other than the objects say, None for either; `policy` is what must have decided it in
    OVN, if it is one policy's doing. Endpoints are named by their keys.
    """

    direction: str
    pods: frozenset[str]
    others: frozenset[str] | None = None
    passes: bool | None = None
    policy: PolicyRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that OVN's databases and Kubernetes' objects do not agree on.

    `text` names the row, the zones and the object; `about` are the keys of the endpoints of which
    it must be told when one asks about them alone.
    """

    kind: FindingKind
    text: str
    zones: tuple[str, ...]
    about: frozenset[str] = frozenset()
    effects: tuple[Effect, ...] = ()
