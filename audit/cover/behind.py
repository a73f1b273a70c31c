"""What a zone's southbound has otherwise than its northbound asks for, by content. Pure.

`nb_cfg`, which says how far ovn-northd has come, stays 0 where nobody waits for it (OVN-Kubernetes
since 1.2). So the rows that decide about packets are compared: flows of ACL stages with the ACLs in
force, address sets and port groups with theirs of the same names.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from audit.cover import acls, agreement, identities
from audit.flows.literals import sets_named
from audit.model.facts import Acl, LogicalFlow, Zone
from audit.model.findings import FindingKind
from audit.model.inventory import Difference
from audit.model.owners import words

_HEALTH_CHECK = "$svc_monitor_mac"
"""The set that northd's flows for health checks of load balancers name (northd.c)."""

MOST_NAMED = 5
"""Members of a set or group that a difference names of each side; it counts the rest."""


def differences(zones: Mapping[str, Zone]) -> tuple[Difference, ...]:
    """Return what each zone's two databases do not agree on."""
    return tuple(difference for name in sorted(zones) for difference in _of_zone(zones[name]))


def strange(
    listed: Iterable[LogicalFlow], explained: Collection[int], routers: Collection[str]
) -> Iterator[LogicalFlow]:
    """Yield a switch's flows of ACL stages that no ACL explains; `explained` are their indices.

    northd makes some of its own, which name nothing, `routers`' ports or the health checks'.
    """
    for index, flow in enumerate(listed):
        if flow.stage in agreement.ACL_STAGES and index not in explained:
            things = {thing for thing, _ in identities.names_in(flow.match).things}
            if any(not thing.startswith(_HEALTH_CHECK) for thing in things.difference(routers)):
                yield flow


def router_ports(zones: Iterable[Zone]) -> frozenset[str]:
    """Return the names of the ports between switches and routers."""
    return frozenset(port.name for zone in zones for port in zone.ports.values() if port.peer)


def whose(acl: Acl) -> str:
    """Say in words which ACL it is: by the policy or the purpose that it is for."""
    if acl.policy is not None:
        return f"an ACL of {acl.policy} ({acl.policy_direction})"
    return words(acl.owner) if acl.owner else f"the ACL {acl.uuid}"


def _of_zone(zone: Zone) -> Iterator[Difference]:
    in_force = acls.in_force(zone)
    yield from _flows(zone, in_force)
    # Only these are surely there: of the southbound's sets those are read that its flows name.
    every = itertools.chain.from_iterable(in_force.values())
    named = set(sets_named(acl.match for acl in every))
    yield from _members(zone, "address set", zone.address_sets, zone.installed_sets, named)
    groups = {group.name: group.ports for group in zone.port_groups}
    yield from _members(zone, "port group", groups, zone.installed_groups, groups)


def _flows(zone: Zone, in_force: Mapping[str, Sequence[Acl]]) -> Iterator[Difference]:
    """Yield the flows of ACL stages that are missing, and those that are of no ACL."""
    routers = router_ports([zone])
    for switch in sorted({*zone.switches, *in_force}):
        listed = zone.flows.get(switch, ())
        if not listed:
            if zone.flows and in_force.get(switch):
                yield _difference(zone, f"switch {switch} is not in the southbound")
            continue
        agreed = agreement.compare(in_force.get(switch, ()), listed)
        for acl in agreed.lacking:
            yield _difference(zone, f"switch {switch} lacks flows of {whose(acl)}")
        for flow in strange(listed, agreed.explained, routers):
            what = f"{flow.stage}, priority {flow.priority}: {flow.match}"
            yield _difference(zone, f"switch {switch} has a flow that is of no ACL ({what})")


def _members(
    zone: Zone,
    what: str,
    northbound: Mapping[str, Collection[str]],
    installed: Mapping[str, Collection[str]] | None,
    named: Iterable[str],
) -> Iterator[Difference]:
    """Yield sets or groups that have other members in the southbound; `named` must be there."""
    if installed is None:
        return
    for name in sorted(northbound.keys() & {*installed, *named}):
        wanted, members = set(northbound[name]), set(installed.get(name, ()))
        differing = (("lacks", sorted(wanted - members)), ("has", sorted(members - wanted)))
        parts = [f"{verb} {_named(some)}" for verb, some in differing if some]
        if parts:
            yield _difference(zone, f"{what} {name} {' and '.join(parts)}")


def _named(members: list[str]) -> str:
    more = len(members) - MOST_NAMED
    return ", ".join(members[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _difference(zone: Zone, text: str) -> Difference:
    return Difference(
        kind=FindingKind.SOUTHBOUND_DIFFERS,
        text=f"{text}, in zone {zone.name}",
        zones=(zone.name,),
    )
