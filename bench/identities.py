"""How OVN-Kubernetes marks its rows: `external_ids` by owner type, and what hangs on them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from bench.addresses import hash_for_ovn
from bench.ovsdb import Key, Row

_CONTROLLER = ContextVar("controller", default="default-network-controller")
INGRESS, EGRESS = "Ingress", "Egress"
_TIER_DEFAULT = 2


@contextmanager
def controller_of(network: str) -> Iterator[None]:
    """Have rows marked as those of a user-defined network's controller."""
    token = _CONTROLLER.set(f"{network}-network-controller")
    try:
        yield
    finally:
        _CONTROLLER.reset(token)


def marks(owner_type: str, name: str, **keys: str) -> dict[str, str]:
    """Return the `external_ids` of a row: the owner, its name, the type's own keys in order."""
    return {
        "k8s.ovn.org/id": ":".join([_CONTROLLER.get(), owner_type, name, *keys.values()]),
        "k8s.ovn.org/name": name,
        "k8s.ovn.org/owner-controller": _CONTROLLER.get(),
        "k8s.ovn.org/owner-type": owner_type,
        **{key.replace("_", "-"): value for key, value in keys.items()},
    }


def name_of(external_ids: dict[str, str]) -> str:
    """Return the name of a port group or address set with these `external_ids`."""
    return hash_for_ovn(external_ids["k8s.ovn.org/id"])


def acl(
    external_ids: dict[str, str],
    match: str,
    *,
    direction: str,
    action: str,
    priority: int,
    tier: int = _TIER_DEFAULT,
    name: str = "",
) -> Row:
    """Return an ACL; policies of direction Egress are in force after load balancing.

    What isolates networks, in tier 0, is before it.
    """
    columns: dict[str, object] = {
        "action": action,
        "direction": "from-lport" if direction == EGRESS else "to-lport",
        "external_ids": external_ids,
        "match": match,
        "meter": "acl-logging",
        "priority": priority,
        "tier": tier,
    }
    if name:
        columns["name"] = name[:63]
    if direction == EGRESS and tier:
        columns["options"] = {"apply-after-lb": "true"}
    return Row.of("ACL", external_ids["k8s.ovn.org/id"], columns)


class PortGroup:
    """A port group: in every zone with its ACLs, and with the ports of that zone only."""

    def __init__(
        self,
        external_ids: dict[str, str],
        ports: Iterable[tuple[str, str]],
        acls: Sequence[Row] = (),
    ) -> None:
        """Take the ports as (zone, logical port)."""
        self.name = name_of(external_ids)
        self.acls = acls
        self._external_ids = external_ids
        self._ports: dict[str, list[Key]] = defaultdict(list)
        for zone, port in ports:
            self._ports[zone].append(("Logical_Switch_Port", port))
        columns = {"name": self.name, "external_ids": external_ids}
        self._columns = Row.of("Port_Group", self.name, columns).columns

    def row(self, zone: str) -> Row:
        """Return the row of one zone."""
        references: dict[str, Sequence[Key]] = {}
        if self.acls:
            references["acls"] = [acl.key for acl in self.acls]
        if zone in self._ports:
            references["ports"] = self._ports[zone]
        return Row(("Port_Group", self.name), self._columns, references)


class AddressSet:
    """The addresses of something, a row for each family."""

    def __init__(self, families: int, owner_type: str, name: str, **keys: str) -> None:
        """Name the set; its addresses are added."""
        self._marks = [
            marks(owner_type, name, **keys, ip_family=family) for family in ("v4", "v6")[:families]
        ]
        self.names = [name_of(found) for found in self._marks]
        self._members: set[str] = set()

    def add(self, addresses: Iterable[str]) -> None:
        """Add addresses or networks of any family."""
        self._members.update(addresses)

    def rows(self) -> list[Row]:
        """Return the rows, the same in every zone."""
        found = []
        for six, (name, external_ids) in enumerate(zip(self.names, self._marks, strict=True)):
            members = sorted(member for member in self._members if (":" in member) == bool(six))
            columns = {"name": name, "external_ids": external_ids, "addresses": members}
            found.append(Row.of("Address_Set", name, columns))
        return found
