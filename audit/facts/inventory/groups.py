"""Port groups beside the pods that policies select. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from audit.facts.inventory.cluster import Cluster, Name, in_zones, key_of, listed, name_of
from audit.facts.inventory.stock import POLICY_TYPES, hash_of
from audit.model.facts import Policy
from audit.model.findings import FindingKind
from audit.model.inventory import Difference, Effect, OwnedGroup
from audit.model.policies import Direction
from audit.model.selectors import EVERYTHING

MOST_ADMIN_PRIORITY = 99
"""OVN-Kubernetes refuses AdminNetworkPolicies of a higher one."""


def refused(policy: Policy) -> bool:
    """Whether OVN-Kubernetes does not accept a policy, so that nothing of it is in OVN."""
    spec = policy.spec
    admin = policy.ref.kind == "AdminNetworkPolicy"
    return spec is not None and admin and spec.priority > MOST_ADMIN_PRIORITY


Key = tuple[str, str, str]
"""(owner type, name, direction) of a port group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A port group that policies call for: its words, and who is in it."""

    key: Key
    words: str
    sure: frozenset[Name]
    maybe: frozenset[Name]
    denies: bool | None
    """Whether what its ACLs do is to stop; None where they do either."""


def groups(cluster: Cluster) -> Iterator[Group]:
    """Yield every port group that the policies call for, and the namespaces' own."""
    isolated: dict[tuple[str, str], list[Policy]] = defaultdict(list)
    for policy in cluster.policies:
        spec = policy.spec
        if spec is None or policy.ref.kind not in POLICY_TYPES or refused(policy):
            continue
        name = f"{policy.ref.namespace}:" if policy.ref.namespace else ""
        key = (policy.ref.kind, f"{name}{policy.ref.name}", "")
        yield _group(cluster, key, f"the pods of {policy.ref}", [policy])
        for isolating in spec.isolates:
            isolated[policy.ref.namespace, isolating].append(policy)
    for (namespace, direction), policies in isolated.items():
        yield _group(
            cluster,
            ("NetpolNamespace", namespace, direction),
            f"the pods of namespace {namespace} that a NetworkPolicy isolates for {direction}",
            policies,
            denies=True,
        )
    for namespace in cluster.by_namespace:
        chosen = cluster.select(None, namespace, EVERYTHING)
        yield Group(
            key=("Namespace", namespace, ""),
            words=f"the pods of namespace {namespace}",
            sure=frozenset(map(name_of, chosen.sure)),
            maybe=frozenset(map(name_of, chosen.maybe)),
            denies=None,
        )


def _group(
    cluster: Cluster,
    key: Key,
    words: str,
    policies: Iterable[Policy],
    *,
    denies: bool | None = None,
) -> Group:
    chosen = [
        cluster.peer(policy.spec.subject, policy.spec.namespace)
        for policy in policies
        if policy.spec is not None
    ]
    return Group(
        key=key,
        words=words,
        sure=frozenset(name_of(pod) for selected in chosen for pod in selected.sure),
        maybe=frozenset(name_of(pod) for selected in chosen for pod in selected.maybe),
        denies=denies,
    )


class Groups:
    """Compares port groups zone by zone: each holds the ports of its own zone."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._hashed = {hash_of(name): name for name in cluster.namespaces}
        self._there: dict[Key, dict[str, OwnedGroup]] = defaultdict(dict)
        for zone in cluster.zones.values():
            with_acls = {group.name for group in zone.port_groups if group.acls}
            for owned in zone.stock.groups:
                # A namespace's group has ACLs where something needs it: a firewall, multicast.
                if owned.owner_type != "Namespace" or owned.group in with_acls:
                    self._there[self._key(owned)][zone.name] = owned

    def _key(self, owned: OwnedGroup) -> Key:
        return owned.owner_type, self._hashed.get(owned.name, owned.name), owned.direction

    def differences(
        self, wanted: Iterable[Group], absent: Mapping[str, set[str]]
    ) -> Iterator[Difference]:
        """Yield what port groups lack or have too much; not of policies that are not in OVN.

        `absent` are the zones in which a policy (`type:name`) is not.
        """
        for group in wanted:
            there = self._there.get(group.key, {})
            without = absent.get(":".join(group.key[:2]), set())
            for zone, names in sorted(self._lacking(group, without).items()):
                yield from self._difference(group, zone, names, too_much=False)
            for zone, owned in sorted(there.items()):
                pods = {self._cluster.pods_of_ports.get((zone, port)) for port in owned.ports}
                extra = {name for name in pods if name is not None} - group.sure - group.maybe
                yield from self._difference(group, zone, extra - self._unsure, too_much=True)

    def _lacking(self, group: Group, without: Collection[str]) -> Mapping[str, set[Name]]:
        """Return, by zone, the pods that must be in a group and are not."""
        there = self._there.get(group.key, {})
        lacking: dict[str, set[Name]] = defaultdict(set)
        for name in group.sure:
            zone = self._cluster.zone_of.get(name)
            if zone is None or zone in without:
                continue
            if zone in there:
                is_in = self._is_in(name, zone, there[zone])
            else:  # a namespace's group need not be there
                is_in = group.key[0] == "Namespace"
            if not is_in:
                lacking[zone].add(name)
        return lacking

    @cached_property
    def _unsure(self) -> frozenset[Name]:
        """Pods that are gone: a port that they left behind is a difference of its own."""
        return frozenset(self._cluster.topology.pod_ports) - {
            name_of(pod) for pod in self._cluster.present
        }

    def _is_in(self, name: Name, zone: str, owned: OwnedGroup) -> bool:
        ports = self._cluster.topology.pod_ports.get(name, ())
        return any(there == zone and port.name in owned.ports for there, port in ports)

    def _difference(
        self, group: Group, zone: str, names: Collection[Name], *, too_much: bool
    ) -> Iterator[Difference]:
        if not names:
            return
        owned = self._there.get(group.key, {}).get(zone)
        pods = listed(["/".join(name) for name in sorted(names)])
        which = f"pod{'' if len(names) == 1 else 's'} {pods}"
        if owned is None:
            text = f"no port group of {group.words} {in_zones([zone])} has {which}"
        else:
            does = "has too much" if too_much else "lacks"
            text = f"port group {owned.group} ({group.words}) {in_zones([zone])} {does} {which}"
        directions = [group.key[2]] if group.key[2] else list(Direction)
        yield Difference(
            kind=FindingKind.PORT_GROUP_DIFFERS,
            text=text,
            zones=(zone,),
            effects=tuple(
                Effect(
                    direction=direction,
                    pods=frozenset(map(key_of, names)),
                    passes=None if group.denies is None else group.denies is not too_much,
                )
                for direction in directions
            ),
        )
