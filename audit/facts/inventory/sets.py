"""Address sets beside the pods that selectors and rules mean. Pure.

Zones have most sets alike: each distinct one is compared once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from audit.facts.inventory.cluster import (
    Cluster,
    family_of,
    in_zones,
    key_of,
    listed,
    name_of,
    plain,
)
from audit.facts.inventory.selecting import selection
from audit.facts.inventory.stock import ADMIN_TYPES
from audit.facts.kube import FINISHED, PodFacts
from audit.model.facts import Acl, Zone
from audit.model.findings import FindingKind
from audit.model.inventory import Difference, Effect, OwnedSet
from audit.model.owners import words
from audit.model.policies import BlockPeer, Direction, NamePeer, NodePeer, PodPeer

_FAMILIES = {"v4": "IPv4", "v6": "IPv6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    """What a set should have: addresses of pods that must be there, and others that may."""

    words: str
    sure: Mapping[str, PodFacts]
    networks: frozenset[str]
    maybe: frozenset[str]
    pods_only: bool
    """Whether what is no pod's address is of no interest: what nodes have in it depends."""


class Sets:
    """Compares the address sets that are in force."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._expected: dict[str, _Expected | None] = {}
        self._users: dict[str, dict[str, list[Acl]]] = {}
        self._policies = {(p.ref.kind, p.ref.name): p for p in cluster.policies}

    def differences(self) -> Iterator[Difference]:
        """Yield what is wrong with the sets of all zones."""
        yield from self._wrong_members()
        yield from self._absent()

    def _wrong_members(self) -> Iterator[Difference]:
        """Yield what a set lacks, and what it has too much, once for all zones that say so."""
        alike: dict[OwnedSet, list[str]] = defaultdict(list)
        for zone in self._cluster.zones.values():
            for owned in zone.stock.sets:
                alike[owned].append(zone.name)
        wrong: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
        named: dict[str, OwnedSet] = {}
        for owned, zones in alike.items():
            expected = self._expectation(owned)
            if expected is None:
                continue
            named[owned.set] = owned
            lacks, extra = self._compared(owned, expected)
            for address in lacks:
                wrong[owned.set, address, False] += zones
            for address in extra:
                wrong[owned.set, address, True] += zones
        for (name, address, too_much), zones in sorted(wrong.items()):
            yield self._difference(named[name], address, sorted(zones), too_much=too_much)

    def _absent(self) -> Iterator[Difference]:
        for zone in self._cluster.zones.values():
            for name in zone.stock.absent_sets:
                acls = self._using(zone.name).get(name, ())
                users = {str(acl.policy or words(acl.owner)) for acl in acls}
                yield Difference(
                    kind=FindingKind.ADDRESS_SET_DIFFERS,
                    text=f"address set {name} {in_zones([zone.name])} is not there, and is "
                    f"used by {listed(sorted(users)) or 'router policies'}",
                    zones=(zone.name,),
                    effects=tuple(self._effects(name, [zone.name], (), too_much=False)),
                )

    def _compared(
        self, owned: OwnedSet, expected: _Expected
    ) -> tuple[Iterable[str], Iterable[str]]:
        has = frozenset(map(plain, owned.addresses))
        wanted = expected.sure.keys() | expected.networks
        extra = has - wanted - expected.maybe
        return wanted - has, [a for a in extra if self._counts(a, expected)]

    def _counts(self, address: str, expected: _Expected) -> bool:
        """Whether an address that is too much says that the set is wrong."""
        if "/" in address:
            return not expected.pods_only
        cluster = self._cluster
        owners = cluster.owners.get(address, ())
        if owners:
            return True
        if address in cluster.hosts or not cluster.on_pod_network(address):
            return False
        return not cluster.unlisted

    def _expectation(self, owned: OwnedSet) -> _Expected | None:
        if owned.set not in self._expected:
            self._expected[owned.set] = self._expect(owned)
        return self._expected[owned.set]

    def _expect(self, owned: OwnedSet) -> _Expected | None:
        """Return what a set should have; None for one whose content is no matter of pods."""
        if owned.owner_type == "PodSelector":
            chosen = selection(owned.name)
            if chosen is None:
                return None
            return self._pods(
                owned,
                str(chosen),
                [PodPeer(namespaces=chosen.namespaces, pods=chosen.pods)],
                chosen.namespace,
            )
        if owned.owner_type == "Namespace":
            return self._pods(owned, f"all pods of namespace {owned.name}", [PodPeer()], owned.name)
        return self._expect_peers(owned) if owned.owner_type in ADMIN_TYPES else None

    def _expect_peers(self, owned: OwnedSet) -> _Expected | None:
        """Return what the set of a rule's peers should have."""
        policy = self._policies.get((owned.owner_type, owned.name))
        if policy is None or policy.spec is None:
            return None
        rules = policy.spec.facing(Direction(owned.direction))
        peers = next((rule.peers for rule in rules if rule.index == owned.rule), None)
        if peers is None:
            return None
        words = f"the peers of {policy.ref} {owned.direction}[{owned.rule}]"
        pods = [peer for peer in peers if isinstance(peer, PodPeer)]
        blocks = [peer for peer in peers if isinstance(peer, BlockPeer)]
        others = any(isinstance(peer, NodePeer | NamePeer) for peer in peers)
        return self._pods(owned, words, pods, "", blocks=blocks, others=others)

    def _pods(
        self,
        owned: OwnedSet,
        words: str,
        peers: Iterable[PodPeer],
        namespace: str,
        *,
        blocks: Iterable[BlockPeer] = (),
        others: bool = False,
    ) -> _Expected:
        selected = [self._cluster.peer(peer, namespace) for peer in peers]
        must = [*chain.from_iterable(chosen.sure for chosen in selected)]
        may = chain.from_iterable(chosen.maybe for chosen in selected)
        sure = {
            plain(address): pod
            for pod in must
            for address in pod.addresses
            if family_of(address) == owned.family
        }
        maybe = {plain(a) for pod in (*must, *may) for a in (*pod.addresses, *pod.assigned)}
        return _Expected(
            words=words,
            sure=sure,
            networks=_networks(blocks, owned.family),
            maybe=frozenset(maybe | self._cluster.doubtful),
            pods_only=others or owned.owner_type not in ADMIN_TYPES,
        )

    def _difference(
        self, owned: OwnedSet, address: str, zones: list[str], *, too_much: bool
    ) -> Difference:
        expected = self._expectation(owned)
        assert expected is not None  # noqa: S101 - it was compared
        owners = self._cluster.owners.get(address, ())
        if not too_much and address in expected.sure:
            owners = (expected.sure[address], *owners)
        living = [pod for pod in owners if pod.phase not in FINISHED]
        whose = _whose(owners, too_much=too_much)
        if too_much and not owners and "/" not in address:
            whose = ", which no pod has"
        does = "has too much" if too_much else "lacks"
        return Difference(
            kind=FindingKind.ADDRESS_SET_DIFFERS,
            text=f"address set {owned.set} ({expected.words}, "
            f"{_FAMILIES.get(owned.family, owned.family)}) {in_zones(zones)} {does} "
            f"{address}{whose}",
            zones=tuple(zones),
            effects=tuple(self._effects(owned.set, zones, living, too_much=too_much)),
        )

    def _effects(
        self, name: str, zones: Iterable[str], pods: Iterable[PodFacts], *, too_much: bool
    ) -> Iterator[Effect]:
        """Yield which cells it matters to: those of the ACLs' own pods with these."""
        others = frozenset(key_of(name_of(pod)) for pod in pods) or None
        for zone in zones:
            for acl in self._using(zone).get(name, ()):
                allows = acl.action.startswith("allow")
                yield Effect(
                    direction=acl.policy_direction,
                    pods=governed(self._cluster, self._cluster.zones[zone], acl.uuid),
                    others=others,
                    passes=None if acl.action == "pass" else allows is too_much,
                )

    def _using(self, zone: str) -> Mapping[str, list[Acl]]:
        """Return the ACLs of a zone by the sets that they use."""
        if zone not in self._users:
            users: dict[str, list[Acl]] = defaultdict(list)
            for acls in self._cluster.zones[zone].acls.values():
                for acl in acls:
                    for part in acl.match.split("$")[1:]:
                        users[part.split("}")[0].split(",")[0].split(")")[0].split()[0]].append(acl)
            self._users[zone] = users
        return self._users[zone]


def _networks(blocks: Iterable[BlockPeer], family: str) -> frozenset[str]:
    return frozenset(plain(b.cidr) for b in blocks if family_of(b.cidr) == family)


def _whose(owners: Sequence[PodFacts], *, too_much: bool) -> str:
    """Return whose an address is, as what follows it."""
    living = [pod for pod in owners if pod.phase not in FINISHED]
    completed = [pod for pod in owners if pod.phase in FINISHED]
    whose = f" of pod {'/'.join(name_of(living[0]))}" if living else ""
    if completed and not (living and too_much):
        verb = "had" if living else "has"
        whose += f", an address that completed pod {'/'.join(name_of(completed[0]))} {verb}"
    return whose


def governed(cluster: Cluster, zone: Zone, acl: str) -> frozenset[str]:
    """Return the keys of the pods in the port groups that have an ACL."""
    return frozenset(
        key_of(pod)
        for group in zone.port_groups
        if acl in group.acls
        for port in group.ports
        if (pod := cluster.pods_of_ports.get((zone.name, port))) is not None
    )
