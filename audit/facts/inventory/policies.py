"""Policies in OVN beside those in Kubernetes: which are no more, which are missing where. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from audit.facts.inventory.cluster import Cluster, family_of, in_zones, key_of, name_of
from audit.facts.inventory.groups import Group
from audit.facts.inventory.sets import governed
from audit.model.facts import Acl, Policy, Zone
from audit.model.findings import FindingKind
from audit.model.inventory import Difference, Effect
from audit.model.policies import BlockPeer, Direction, Peer, PodPeer, Rule
from audit.model.selectors import EVERYTHING
from audit.model.verdicts import PolicyRef

_BOTH = tuple(Direction)


class Policies:
    """Compares which policies there are."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._by_ref = {policy.ref: policy for policy in cluster.policies}
        self.absent: dict[str, set[str]] = defaultdict(set)
        """Zones in which a policy (`type:name`) that is in Kubernetes is not."""

    def differences(self, wanted: Mapping[str, Group]) -> Iterator[Difference]:
        """Yield what is in one of the two only. `wanted` are policies' groups by `type:name`."""
        yield from self._gone()
        yield from self._missing(wanted)
        yield from self._rules(wanted)
        yield from self._firewalls()

    @cached_property
    def _acls(self) -> Mapping[PolicyRef, Mapping[str, list[Acl]]]:
        """The ACLs in force of each policy, by zone."""
        by_policy: dict[PolicyRef, dict[str, list[Acl]]] = defaultdict(lambda: defaultdict(list))
        for zone in self._cluster.zones.values():
            for acls in zone.acls.values():
                for acl in acls:
                    if acl.policy is not None:
                        by_policy[acl.policy][zone.name].append(acl)
        return by_policy

    @cached_property
    def _holding(self) -> Mapping[PolicyRef, Mapping[str, frozenset[str]]]:
        """The pods in each policy's port group, by zone: where there are any."""
        by_policy: dict[PolicyRef, dict[str, frozenset[str]]] = defaultdict(dict)
        for zone in self._cluster.zones.values():
            for group in zone.port_groups:
                if group.policy is not None and group.ports:
                    by_policy[group.policy][zone.name] = self._pods(zone, group.ports)
        return by_policy

    def _pods(self, zone: Zone, ports: frozenset[str]) -> frozenset[str]:
        named = self._cluster.pods_of_ports
        pods = (named.get((zone.name, port)) for port in ports)
        return frozenset(key_of(pod) for pod in pods if pod is not None)

    @cached_property
    def _zones_by_stock(self) -> Mapping[frozenset[str], set[str]]:
        """Zones by the policies (`type:name`) that they hold: nearly always all hold the same."""
        zones: dict[frozenset[str], set[str]] = defaultdict(set)
        for zone in self._cluster.zones.values():
            zones[zone.stock.policies].add(zone.name)
        return zones

    def _gone(self) -> Iterator[Difference]:
        """Yield the policies that OVN has and Kubernetes does not."""
        for ref, zones in sorted(self._zones_of_unlisted().items()):
            if ref.kind not in self._cluster.kinds or ref.namespace in self._cluster.unlisted:
                continue
            in_force = self._holding.get(ref, {}).keys() | self._acls.get(ref, {}).keys()
            if in_force:
                yield self._only_in_ovn(ref, sorted(in_force))
            elif not self._cluster.unlisted:  # else it may be of a namespace that was not listed
                yield Difference(
                    kind=FindingKind.POLICY_LEFT_OVER,
                    text=f"{_words(ref)} is in OVN and no longer in Kubernetes: without a pod "
                    f"{in_zones(zones)}",
                    zones=tuple(sorted(zones)),
                )

    def _zones_of_unlisted(self) -> Mapping[PolicyRef, set[str]]:
        """Return where the policies are of which OVN has rows, and Kubernetes no object."""
        zones: dict[PolicyRef, set[str]] = defaultdict(set)
        for names, there in self._zones_by_stock.items():
            for ref in set(map(_ref, names)) - self._by_ref.keys():
                zones[ref] |= there
        for by_policy in (self._acls, self._holding):
            for ref in by_policy.keys() - self._by_ref.keys():
                zones[ref] |= by_policy[ref].keys()
        return zones

    def _only_in_ovn(self, ref: PolicyRef, zones: list[str]) -> Difference:
        pods = self._governed_by(ref)
        return Difference(
            kind=FindingKind.POLICY_ONLY_IN_OVN,
            text=f"{_words(ref)} is in OVN and no longer in Kubernetes: in force "
            f"{in_zones(zones)} for {_count(pods)}",
            zones=tuple(zones),
            effects=tuple(Effect(direction=d, pods=pods, policy=ref) for d in _BOTH),
        )

    def _governed_by(self, ref: PolicyRef) -> frozenset[str]:
        """Return the pods in a policy's own port groups; without any, in those with its ACLs."""
        held = self._holding.get(ref)
        if held:
            return frozenset[str]().union(*held.values())
        return frozenset(
            pod
            for zone, acls in self._acls.get(ref, {}).items()
            for acl in acls
            for pod in governed(self._cluster, self._cluster.zones[zone], acl.uuid)
        )

    def _missing(self, wanted: Mapping[str, Group]) -> Iterator[Difference]:
        """Yield the policies that Kubernetes has and some zone does not."""
        for policy in self._by_ref.values():
            name = _stored(policy.ref)
            if name not in wanted:
                continue
            lacking = (there for names, there in self._zones_by_stock.items() if name not in names)
            without = set[str]().union(*lacking)
            if without:
                self.absent[name] = without
                yield self._not_in_ovn(policy, wanted[name], without)

    def _not_in_ovn(self, policy: Policy, group: Group, without: set[str]) -> Difference:
        pods = [pod for pod in group.sure if self._cluster.zone_of.get(pod) in without]
        if not pods:
            return Difference(
                kind=FindingKind.POLICY_AWAITED,
                text=f"{_words(policy.ref)} is not in OVN {in_zones(without)}, where it selects "
                "no pod",
                zones=tuple(sorted(without)),
            )
        zones = sorted({self._cluster.zone_of[pod] for pod in pods})
        keys = frozenset(map(key_of, pods))
        return Difference(
            kind=FindingKind.POLICY_NOT_IN_OVN,
            text=f"{_words(policy.ref)} is not in OVN {in_zones(zones)}, where it selects "
            f"{_count(keys)}",
            zones=tuple(zones),
            effects=tuple(Effect(direction=d, pods=keys) for d in _BOTH),
        )

    def _rules(self, wanted: Mapping[str, Group]) -> Iterator[Difference]:
        """Yield the rules, and default denies, without an ACL; and the ACLs of rules no more."""
        for policy in self._by_ref.values():
            group = wanted.get(_stored(policy.ref))
            if group is None or policy.spec is None:
                continue
            zones = {self._cluster.zone_of.get(pod, "") for pod in group.sure}
            zones -= self.absent.get(_stored(policy.ref), set())
            zones &= self._holding.get(policy.ref, {}).keys()
            acls = self._acls.get(policy.ref, {})
            for rule in policy.spec.rules:
                bare = _zones_without(rule, zones, acls)
                if bare and self._needs_acl(rule, policy.spec.namespace):
                    yield self._bare(policy, rule, bare)
            yield from self._outdated(policy, acls)

    def _bare(self, policy: Policy, rule: Rule, zones: list[str]) -> Difference:
        held = self._holding.get(policy.ref, {})
        pods = frozenset[str]().union(*(held.get(zone, ()) for zone in zones))
        return Difference(
            kind=FindingKind.POLICY_NOT_IN_OVN,
            text=f"{_words(policy.ref)}: its rule {rule.direction}[{rule.index}] has no ACL "
            f"{in_zones(zones)}",
            zones=tuple(zones),
            effects=(Effect(direction=rule.direction, pods=pods),),
        )

    def _outdated(self, policy: Policy, acls: Mapping[str, list[Acl]]) -> Iterator[Difference]:
        assert policy.spec is not None  # noqa: S101 - who calls has looked
        rules = {(str(rule.direction), rule.index) for rule in policy.spec.rules}
        outdated: dict[tuple[str, int], dict[str, Acl]] = defaultdict(dict)
        for zone, zone_acls in acls.items():
            for acl in zone_acls:
                key = acl.policy_direction, acl.rule
                if acl.rule >= 0 and acl.policy_direction and key not in rules:
                    outdated[key][zone] = acl
        for (direction, index), zones in sorted(outdated.items()):
            pods = frozenset[str]().union(
                *(
                    governed(self._cluster, self._cluster.zones[zone], acl.uuid)
                    for zone, acl in zones.items()
                )
            )
            yield Difference(
                kind=FindingKind.POLICY_ONLY_IN_OVN,
                text=f"{_words(policy.ref)}: a rule {direction}[{index}] is in OVN "
                f"{in_zones(sorted(zones))} and no longer in Kubernetes",
                zones=tuple(sorted(zones)),
                effects=(Effect(direction=direction, pods=pods, policy=policy.ref),),
            )

    def _needs_acl(self, rule: Rule, namespace: str) -> bool:
        """Whether OVN-Kubernetes surely makes an ACL of a rule: there is somebody to name in it."""
        if rule.ports is not None and not any(not match.name for match in rule.ports):
            return False
        return rule.peers is None or any(self._anyone(peer, namespace) for peer in rule.peers)

    def _anyone(self, peer: Peer, namespace: str) -> bool:
        if isinstance(peer, PodPeer):
            return bool(self._cluster.peer(peer, namespace).sure)
        return isinstance(peer, BlockPeer) and family_of(peer.cidr) in self._families

    @cached_property
    def _families(self) -> frozenset[str]:
        return frozenset(family_of(s) for node in self._cluster.nodes for s in node.subnets)

    def _firewalls(self) -> Iterator[Difference]:
        """Yield the EgressFirewalls, and rules of theirs, that a zone with their pods lacks."""
        for policy in self._by_ref.values():
            if policy.ref.kind != "EgressFirewall" or policy.spec is None:
                continue
            yield from self._unenforced(policy, policy.spec.rules)
            yield from self._outdated(policy, self._acls.get(policy.ref, {}))

    def _unenforced(self, policy: Policy, rules: Iterable[Rule]) -> Iterator[Difference]:
        zones: dict[str, set[str]] = defaultdict(set)
        for pod in self._cluster.select(None, policy.ref.namespace, EVERYTHING).sure:
            zone = self._cluster.zone_of.get(name_of(pod))
            if zone is not None:
                zones[zone].add(key_of(name_of(pod)))
        acls = self._acls.get(policy.ref, {})
        for rule in rules:
            bare = _zones_without(rule, zones, acls)
            if not bare or not self._needs_acl(rule, policy.ref.namespace):
                continue
            whole = not all(acls.get(zone) for zone in bare)
            which = "" if whole else f": its rule egress[{rule.index}]"
            pods = frozenset[str]().union(*(zones[zone] for zone in bare))
            yield Difference(
                kind=FindingKind.POLICY_NOT_IN_OVN,
                text=f"{_words(policy.ref)}{which} is not in OVN {in_zones(bare)}, where "
                f"it concerns {_count(pods)}",
                zones=tuple(bare),
                effects=(Effect(direction=Direction.EGRESS, pods=pods),),
            )
            if whole:
                return  # its other rules are not there either


def _zones_without(
    rule: Rule, zones: Iterable[str], acls: Mapping[str, Sequence[Acl]]
) -> list[str]:
    """Return the zones, in order, that have no ACL of a rule among the policy's there."""

    def has_acl(zone: str) -> bool:
        return any(
            acl.rule == rule.index and acl.policy_direction == rule.direction
            for acl in acls.get(zone, ())
        )

    return [zone for zone in sorted(zones) if not has_acl(zone)]


def _stored(ref: PolicyRef) -> str:
    name = f"{ref.namespace}:" if ref.namespace else ""
    return f"{ref.kind}:{name}{ref.name}"


def _ref(stored: str) -> PolicyRef:
    """Return the policy of a port group's `type:name`."""
    kind, _, name = stored.partition(":")
    if kind == "NetworkPolicy":
        namespace, _, name = name.partition(":")
        return PolicyRef(kind=kind, namespace=namespace, name=name)
    return PolicyRef(kind=kind, namespace="", name=name)


def _words(ref: PolicyRef) -> str:
    """Return `NetworkPolicy shop/web`: the kind as an operator types it in a manifest."""
    where = f"{ref.namespace}/" if ref.namespace else ""
    return f"{ref.kind} {where}{ref.name}"


def _count(pods: frozenset[str]) -> str:
    return f"{len(pods)} pod{'' if len(pods) == 1 else 's'}"
