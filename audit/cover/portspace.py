"""All ports of a protocol, as the few ranges that no predicate in force tells apart. Pure.

An ACL's match names ports and ranges of ports, a load balancer those of its VIPs. Between two
neighbouring numbers that any of them names nothing distinguishes one port from the next, so one
trace decides the whole range. What it costs is the number of such ranges, not 65,536.
"""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from audit.cover import acls, identities, readings
from audit.cover.matches import Interval, MatchError
from audit.model.endpoints import Endpoint
from audit.model.facts import Policy, Zone
from audit.model.packets import Protocol
from audit.model.policies import PortMatch
from audit.model.portspace import PortSpace

_TEMPLATE = "^"
"""Begins the VIP of a template load balancer: a variable that stands for nodes' addresses."""


def space(zones: Iterable[Zone]) -> PortSpace:
    """Return the port space of a cluster: of every ACL in force, every other flow, every VIP.

    A match that is not understood adds nothing: what it sees of ports is not known, and the
    cells it can decide are not claimed for whole ranges (`audit.cover.classes.Legs.opaque`).
    """
    cuts: dict[Protocol, set[int]] = defaultdict(set)
    of_address: dict[str, dict[Protocol, set[int]]] = defaultdict(lambda: defaultdict(set))
    of_nodes: dict[Protocol, set[int]] = defaultdict(set)
    seen: set[str] = set()
    for zone in zones:
        matches = {acl.match for some in zone.acls.values() for acl in some} - seen
        seen |= matches
        for protocol, low, high in itertools.chain(_of_acls(matches), _of_flows(zone)):
            cuts[Protocol(protocol)] |= {low, high + 1}
        for balancer in zone.load_balancers:
            for address, port, _ in balancer.vips:
                into = of_nodes if address.startswith(_TEMPLATE) else of_address[address]
                into[balancer.protocol] |= {port, port + 1}
    return PortSpace(
        cuts=_frozen(cuts),
        of_address={address: _frozen(by_protocol) for address, by_protocol in of_address.items()},
        of_nodes=_frozen(of_nodes),
    )


def _of_acls(matches: Iterable[str]) -> Iterator[Interval]:
    """Yield the ports that ACLs tell apart, by their matches."""
    for match in matches:
        try:
            terms = acls.terms(match)
        except MatchError:
            continue
        for term in terms:
            yield from term.l4


def _of_flows(zone: Zone) -> Iterator[Interval]:
    """Yield the ports that a zone's logical flows tell apart, load balancers' apart.

    Those look at an address too, and tell ports apart there.
    """
    balanced = {address for balancer in zone.load_balancers for address, _, _ in balancer.vips}
    for match in {flow.match for some in zone.flows.values() for flow in some}:
        if not readings.LOOKS_AT_PORTS.search(match):
            continue
        if any(map(balanced.issuperset, identities.names_in(match).required)):
            continue
        try:
            yield from readings.read(match).l4 or ()
        except MatchError:
            continue


def with_policies(
    space: PortSpace, policies: Iterable[Policy], pods: Collection[Endpoint]
) -> PortSpace:
    """Return a port space cut besides where the policy objects tell ports apart.

    They say more than the ACLs do: OVN-Kubernetes makes a whole protocol of a named port. So do
    the ports that pods open on the default network.
    """
    cuts = {protocol: set(space.cuts.get(protocol, ())) for protocol in Protocol}
    names = set[str]()
    for match in set(_port_matches(policies)):
        if match.name:
            names.add(match.name)
        elif match.protocol is not None:
            cuts[match.protocol] |= {match.first, match.last + 1}
    named = {n.port for pod in pods for n in pod.declared if n.name in names}
    for port in named | {port for pod in pods for port in pod.opened}:
        cuts[port.protocol] |= {port.number, port.number + 1}
    return replace(space, cuts=_frozen(cuts))


def _port_matches(policies: Iterable[Policy]) -> Iterator[PortMatch]:
    for policy in policies:
        for rule in policy.spec.rules if policy.spec is not None else ():
            yield from rule.ports or ()


def _frozen(cuts: Mapping[Protocol, set[int]]) -> dict[Protocol, frozenset[int]]:
    return {protocol: frozenset(ports) for protocol, ports in cuts.items()}
