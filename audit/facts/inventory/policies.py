"""Policies in OVN beside those in Kubernetes: which are no more, which are missing where. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property

from audit.facts.inventory.cluster import Cluster, Name, family_of, in_zones, key_of, name_of
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

    def _gone(self) -> Iterator[Difference]:
        """Yield the policies that OVN has and Kubernetes does not."""
        zones: dict[PolicyRef, set[str]] = defaultdict(set)
        for stored in {zone.stock.policies for zone in self._cluster.zones.values()}:
            there = {z.name for z in self._cluster.zones.values() if z.stock.policies == stored}
            for ref in map(_ref, stored):
                if ref not in self._by_ref:
                    zones[ref] |= there
        for ref in self._acls.keys() | self._holding.keys():
            if ref not in self._by_ref:
                zones[ref] |= self._acls.get(ref, {}).keys() | self._holding.get(ref, {}).keys()
        for ref in sorted(zones):
            if ref.kind not in self._cluster.kinds or ref.namespace in self._cluster.unlisted:
                continue
            held = self._holding.get(ref, {})
            in_force = sorted(held.keys() | self._acls.get(ref, {}).keys())
            if not in_force and self._cluster.unlisted:
                continue  # it may be of a namespace that was not listed
            kind = FindingKind.POLICY_ONLY_IN_OVN if in_force else FindingKind.POLICY_LEFT_OVER
            pods = frozenset[str]().union(*held.values())
            if not held:
                pods = frozenset(
                    pod
                    for zone, acls in self._acls.get(ref, {}).items()
                    for acl in acls
                    for pod in governed(self._cluster, self._cluster.zones[zone], acl.uuid)
                )
            where = in_zones(in_force or zones[ref])
            force = f"in force {where} for {_count(pods)}" if in_force else f"without a pod {where}"
            yield Difference(
                kind=kind,
                text=f"{_words(ref)} is in OVN and no longer in Kubernetes: {force}",
                zones=tuple(in_force or sorted(zones[ref])),
                effects=tuple(Effect(direction=d, pods=pods, policy=ref) for d in _BOTH)
                if in_force
                else (),
            )

    def _missing(self, wanted: Mapping[str, Group]) -> Iterator[Difference]:
        """Yield the policies that Kubernetes has and some zone does not."""
        stored = {zone.name: zone.stock.policies for zone in self._cluster.zones.values()}
        distinct = {
            names: [zone for zone, held in stored.items() if held is names]
            for names in stored.values()
        }
        for policy in self._by_ref.values():
            name = _stored(policy.ref)
            if name not in wanted:
                continue
            without = {z for names, zones in distinct.items() if name not in names for z in zones}
            if not without:
                continue
            self.absent[name] = without
            pods: dict[str, set[Name]] = defaultdict(set)
            for pod in wanted[name].sure:
                zone = self._cluster.zone_of.get(pod)
                if zone in without:
                    pods[zone].add(pod)
            keys = frozenset(key_of(pod) for names in pods.values() for pod in names)
            if pods:
                yield Difference(
                    kind=FindingKind.POLICY_NOT_IN_OVN,
                    text=f"{_words(policy.ref)} is not in OVN {in_zones(sorted(pods))}, where it "
                    f"selects {_count(keys)}",
                    zones=tuple(sorted(pods)),
                    effects=tuple(Effect(direction=d, pods=keys) for d in _BOTH),
                )
            else:
                yield Difference(
                    kind=FindingKind.POLICY_AWAITED,
                    text=f"{_words(policy.ref)} is not in OVN {in_zones(sorted(without))}, where "
                    "it selects no pod",
                    zones=tuple(sorted(without)),
                )

    def _rules(self, wanted: Mapping[str, Group]) -> Iterator[Difference]:
        """Yield the rules, and default denies, without an ACL; and the ACLs of rules no more."""
        for policy in self._by_ref.values():
            group = wanted.get(_stored(policy.ref))
            if group is None or policy.spec is None:
                continue
            zones = {
                self._cluster.zone_of[pod] for pod in group.sure if pod in self._cluster.zone_of
            }
            zones -= self.absent.get(_stored(policy.ref), set())
            zones &= self._holding.get(policy.ref, {}).keys()
            acls = self._acls.get(policy.ref, {})
            for rule in policy.spec.rules:
                if self._needs_acl(rule, policy.spec.namespace):
                    bare = [z for z in sorted(zones) if not _of_rule(acls.get(z, ()), rule)]
                    if bare:
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
            selected = self._cluster.select(None, policy.ref.namespace, EVERYTHING).sure
            zones: dict[str, set[str]] = defaultdict(set)
            for pod in selected:
                zone = self._cluster.zone_of.get(name_of(pod))
                if zone is not None:
                    zones[zone].add(key_of(name_of(pod)))
            acls = self._acls.get(policy.ref, {})
            needed = [r for r in policy.spec.rules if self._needs_acl(r, policy.ref.namespace)]
            for rule in needed:
                bare = [z for z in sorted(zones) if not _of_rule(acls.get(z, ()), rule)]
                whole = [z for z in bare if not acls.get(z)]
                which = f": its rule egress[{rule.index}]" if not whole else ""
                if bare:
                    pods = frozenset[str]().union(*(zones[zone] for zone in bare))
                    yield Difference(
                        kind=FindingKind.POLICY_NOT_IN_OVN,
                        text=f"{_words(policy.ref)}{which} is not in OVN {in_zones(bare)}, where "
                        f"it concerns {_count(pods)}",
                        zones=tuple(bare),
                        effects=(Effect(direction=Direction.EGRESS, pods=pods),),
                    )
                if whole:
                    break  # its other rules are not there either
            yield from self._outdated(policy, acls)


def _of_rule(acls: list[Acl] | tuple[Acl, ...], rule: Rule) -> list[Acl]:
    return [a for a in acls if a.rule == rule.index and a.policy_direction == rule.direction]


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
