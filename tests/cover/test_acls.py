"""What an endpoint sees of the ACLs in force, against each ACL asked about each packet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.cover import acls, matches
from audit.cover.acls import Entry, Predicates, Seen, Stage, ZoneAcls
from audit.model.endpoints import Endpoint, Port
from audit.model.facts import Acl, LogicalPort, PortGroup, Zone
from audit.model.packets import Family, Protocol
from tests.verdict import made

NODES = ("n0", "n1")
GROUPS = ("pg0", "pg1", "pg2")
SETS = ("as0", "as1", "as2")
PODS = tuple(made.pod(f"p{i}", f"10.128.{i % 2}.{10 + i}", node=NODES[i % 2]) for i in range(6))
PORTS = (
    Port(protocol=Protocol.TCP, number=80),
    Port(protocol=Protocol.TCP, number=443),
    Port(protocol=Protocol.UDP, number=53),
)
NETWORKS = ("10.128.0.0/24", "10.128.1.8/29", "10.128.0.12", "0.0.0.0/0", "10.128.1.13/32")


def router_port(node: str) -> str:
    return f"stor-{node}"


# --- zones made by hand, as hypothesis draws them

named_sets = st.lists(st.sampled_from([f"${name}" for name in SETS]), max_size=2, unique=True)
networks = st.lists(st.sampled_from(NETWORKS), max_size=2, unique=True)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    field = draw(st.sampled_from(["ip4.src", "ip4.dst"]))
    relation = draw(st.sampled_from(["==", "==", "!="]))
    named = draw(named_sets) if relation == "==" else []  # != a set depends on its being empty
    listed = [*named, *draw(networks)] or [NETWORKS[0]]
    return f"{field} {relation} {{{', '.join(listed)}}}"


protocols = st.sampled_from(
    [
        "tcp",
        "udp",
        "ip4",
        "tcp && tcp.dst == 80",
        "(tcp.dst == 80 || udp.dst == 53)",
        "tcp && 100 <= tcp.dst <= 500",
        "tcp && tcp.dst != 443",
        "(ip4 || ip6)",
        "1",
    ]
)


@st.composite
def conditions(draw: st.DrawFn, fields: Sequence[str]) -> str:
    """Return a conjunction; `fields` are the port fields that may be asked for."""
    parts = [draw(protocols), *draw(st.lists(addresses(), max_size=2))]
    for field in draw(st.lists(st.sampled_from(fields), max_size=2, unique=True)):
        groups = draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2, unique=True))
        parts.append(f"{field} == {{{', '.join(f'@{group}' for group in groups)}}}")
    return " && ".join(draw(st.permutations(parts)))


@st.composite
def access_lists(draw: st.DrawFn, number: int) -> Acl:
    direction = draw(st.sampled_from(["from-lport", "to-lport"]))
    fields = ["inport"] if direction == "from-lport" else ["inport", "outport"]
    some = draw(st.lists(conditions(fields), min_size=1, max_size=2))
    return made.acl(
        f"{number:08x}-acl",
        direction=direction,
        action=draw(st.sampled_from(["drop", "allow-related", "pass", "reject"])),
        priority=draw(st.integers(1000, 1003)),
        tier=draw(st.integers(0, 2)),
        match=" || ".join(f"({one})" for one in some) if len(some) > 1 else some[0],
        after_lb=direction == "from-lport" and draw(st.booleans()),
    )


def hosted(node: str) -> list[Endpoint]:
    return [pod for pod in PODS if pod.node == node]


def port_of(pod: Endpoint) -> str:
    assert pod.attachment is not None
    return pod.attachment.port


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Two zones of one switch each; the same ACLs in both, the sets as each has them."""

    zones: Mapping[str, Zone]


def logical_ports(node: str) -> Iterator[LogicalPort]:
    for pod in hosted(node):
        yield made.port(port_of(pod), datapath=node)
    inner, outer = router_port(node), f"rtos-{node}"
    yield made.port(inner, datapath=node, kind="patch", peer=outer, is_pod=False)
    gateway = (f"10.128.{NODES.index(node)}.1/24",)
    yield made.port(outer, datapath="router", kind="patch", peer=inner, addresses=gateway)


@st.composite
def clusters(draw: st.DrawFn) -> Made:
    listed = [draw(access_lists(i)) for i in range(draw(st.integers(1, 5)))]
    uuids = st.sets(st.sampled_from([acl.uuid for acl in listed]))
    members = {g: draw(st.sets(st.sampled_from([port_of(p) for p in PODS]))) for g in GROUPS}
    carried = {g: frozenset(draw(uuids)) for g in GROUPS}
    own = {node: frozenset(draw(uuids)) for node in NODES}
    zones = {}
    for node in NODES:
        here = {port_of(pod) for pod in hosted(node)}
        content = st.lists(st.sampled_from([*(p.addresses[0] for p in PODS)]), unique=True)
        zones[node] = replace(
            made.zone(node, ports=logical_ports(node), acls=listed),
            switches={node: (f"10.128.{NODES.index(node)}.0/24",)},
            switch_acls={node: own[node]},
            port_groups=tuple(
                PortGroup(name=g, ports=frozenset(members[g] & here), policy=None, acls=carried[g])
                for g in GROUPS
            ),
            address_sets={name: tuple(draw(content)) for name in SETS},
        )
    return Made(zones=zones)


# --- what the planner sees, and what each ACL says

Found = set[tuple[int, str, str]]


def looked_at(cluster: Made) -> tuple[Predicates, dict[str, ZoneAcls]]:
    predicates = Predicates(PODS, Family.IP4)
    groups = {
        g: np.array([any(port_of(p) in ports for ports in listed) for p in PODS])
        for g, listed in (
            (g, [p.ports for z in cluster.zones.values() for p in z.port_groups if p.name == g])
            for g in GROUPS
        )
    }
    zones = cluster.zones.items()
    return predicates, {name: ZoneAcls(zone, predicates, groups) for name, zone in zones}


def seen_by(cluster: Made, pod: Endpoint, seeing: Mapping[str, ZoneAcls]) -> Seen | None:
    assert pod.attachment is not None
    assert pod.node in cluster.zones
    seen = seeing[pod.node].seen_by(pod, pod.attachment)
    return None if pod.node in seeing[pod.node].opaque else seen


def true_of(entries: Sequence[Entry], predicates: Predicates, other: int, port: Port) -> Found:
    return {
        (entry.stage, entry.action, predicates.deciders[entry.decider])
        for entry in entries
        if predicates.vectors[entry.others][other]
        and any(p == port.protocol and low <= port.number <= high for p, low, high in entry.l4)
    }


def in_force(zone: Zone, switch: str) -> Iterator[Acl]:
    uuids = set(zone.switch_acls[switch])
    for group in zone.port_groups:
        if any(zone.ports[port].datapath == switch for port in group.ports):
            uuids |= group.acls
    for listed in zone.acls.values():
        yield from (acl for acl in listed if acl.uuid in uuids)


def stage_of(acl: Acl) -> Stage:
    if acl.direction == "to-lport":
        return Stage.TO_LPORT
    return Stage.FROM_LPORT_AFTER_LB if acl.after_lb else Stage.FROM_LPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet on one switch."""

    src: Endpoint
    dst: Endpoint
    port: Port
    inport: str
    outport: str


def said_of(packet: Packet, zone: Zone, directions: Sequence[str]) -> Found:
    """Ask every ACL in force on the zone's switch about a packet."""
    return {
        (int(stage_of(acl)), acl.action, acl.owner)
        for acl in in_force(zone, zone.name)
        if acl.direction in directions
        and matches.holds(
            matches.parse(acl.match),
            inport=packet.inport,
            outport=packet.outport,
            ports_in_groups={group.name: group.ports for group in zone.port_groups},
            src=packet.src.addresses[0],
            dst=packet.dst.addresses[0],
            address_sets=zone.address_sets,
            protocol=packet.port.protocol,
            port=packet.port.number,
        )
    }


def legs_of(cluster: Made, src: Endpoint, dst: Endpoint, port: Port) -> tuple[Found, Found]:
    """Return what the ACLs say of a packet on its source's side, and on its destination's."""
    packet = Packet(src=src, dst=dst, port=port, inport=port_of(src), outport=port_of(dst))
    both = ("from-lport", "to-lport")
    if src.node == dst.node:
        zone = cluster.zones[src.node]
        return said_of(packet, zone, both[:1]), said_of(packet, zone, both[1:])
    leaving = replace(packet, outport=router_port(src.node))
    coming = replace(packet, inport=router_port(dst.node))
    return (
        said_of(leaving, cluster.zones[src.node], both),
        said_of(coming, cluster.zones[dst.node], both),
    )


@settings(max_examples=30)
@given(clusters())
def test_the_entries_of_an_endpoint_are_what_each_acl_says_of_each_packet(cluster: Made) -> None:
    predicates, seeing = looked_at(cluster)
    seen = [seen_by(cluster, pod, seeing) for pod in PODS]
    for i, src in enumerate(PODS):
        for j, dst in enumerate(PODS):
            local = int(src.node == dst.node)
            for port in PORTS:
                out, into = legs_of(cluster, src, dst, port)
                if (one := seen[i]) is not None:
                    assert true_of(one.egress[local], predicates, j, port) == out
                if (one := seen[j]) is not None:
                    assert true_of(one.ingress[local], predicates, i, port) == into


@given(clusters())
def test_only_names_without_a_port_or_without_a_set_make_a_match_opaque(cluster: Made) -> None:
    _, seeing = looked_at(cluster)
    for pod in PODS:
        seen_by(cluster, pod, seeing)
    for node, seer in seeing.items():
        here = {g.name for g in cluster.zones[node].port_groups if g.ports}
        for match in seer.opaque.get(node, ()):
            assert matches.parse(match)
            assert any(f"@{group}" in match for group in set(GROUPS) - here)


def one_acl(beside: Acl | None = None, **changes: str) -> ZoneAcls:
    """Return what is seen where one ACL, or another beside it, is in force on every switch."""
    acl = replace(made.acl(), **changes)  # type: ignore[arg-type]  # fields that are text
    listed = [acl, *([beside] if beside else [])]
    zone = replace(
        made.zone("n0", ports=logical_ports("n0"), acls=listed),
        switches={"n0": ("10.128.0.0/24",)},
        switch_acls={"n0": frozenset(one.uuid for one in listed)},
        address_sets={"mixed": ("10.128.0.10", "fd01::10"), "six": ("fd01::10",)},
    )
    return ZoneAcls(zone, Predicates(PODS, Family.IP4), {})


def test_a_match_that_is_not_understood_is_named_with_its_switch() -> None:
    for match in ("reg0[1] == 1 && tcp", "ip4.src == $nowhere", "ip4.src == $mixed"):
        seeing = one_acl(match=match)
        seeing.switch("n0")
        assert seeing.opaque == {"n0": {match}}
    early = one_acl(match='outport == "p0"', direction="from-lport")
    early.switch("n0")
    assert early.opaque == {"n0": {'outport == "p0"'}}


@pytest.mark.parametrize(
    ("match", "opaque"),
    [
        ("tcp || (arp && inport == @pg0)", True),
        ("tcp || (arp && arp.spa == $nowhere)", True),
        ("tcp || (arp && arp.spa == $six)", True),
        ("tcp || (nd && nd.target == $six)", False),
        ('outport == {@pg0, "p0"}', True),
        ("outport == @pg0 && tcp", False),
        ("outport == @pg0 && ip4.src == $nowhere", False),
        ("arp && arp.spa == $nowhere", False),
    ],
)
def test_names_of_nothing_make_opaque_only_what_might_be_true(match: str, *, opaque: bool) -> None:
    seeing = one_acl(match=match)
    seeing.switch("n0")
    assert bool(seeing.opaque) == opaque


def test_sets_and_matches_hold_addresses_with_any_mask() -> None:
    predicates = Predicates(PODS, Family.IP4)
    members = predicates.members(
        matches.Side.SRC, ("10.128.0.12/255.255.0.255", "0a:00:00:00:00:01", "10.128.1.11")
    )
    assert np.flatnonzero(members).tolist() == [1, 2]


def test_a_stateless_acl_is_noticed_where_it_is_in_force() -> None:
    for action in ("allow-stateless", "allow-related"):
        seeing = one_acl(match="ip4", action=action)
        assert not seeing.stateless, "nothing is read before it is asked for"
        seeing.switch("n0")
        assert bool(seeing.stateless) == (action == "allow-stateless")


@pytest.mark.parametrize(
    ("match", "direction", "stops"),
    [
        ('inport == "p0" && ip4', "from-lport", False),
        ("ip4.src == 10.128.0.10", "from-lport", True),  # also where it comes from the router
        ('inport == "p0" || ip4.dst == 10.128.0.10', "from-lport", True),
        ('outport == "p0" && ip4', "to-lport", False),
        ("ip4.src == 10.128.0.10", "to-lport", True),  # also on its way to the router
    ],
)
def test_an_acl_that_stops_what_is_not_tracked_stops_replies(
    match: str, direction: str, *, stops: bool
) -> None:
    related = replace(made.acl(), uuid="ac100001-more", action="allow-related", match="ip4")
    seeing = one_acl(match=match, direction=direction, action="drop", beside=related)
    seeing.switch("n0")
    assert bool(seeing.stopping) is stops
    assert not seeing.stateless


def test_sets_with_the_same_content_have_one_number() -> None:
    predicates = Predicates(PODS, Family.IP4)
    first = predicates.members(matches.Side.SRC, ("10.128.0.10", "10.128.0.12/32", "fd01::1"))
    second = predicates.members(matches.Side.SRC, ("10.128.0.8/29",))
    assert np.flatnonzero(first).tolist() == [0, 2]
    assert predicates.number(first) == predicates.number(first.copy())
    assert np.flatnonzero(second).tolist() == [0, 2, 4]
    assert predicates.number(first) != predicates.number(second)
    assert acls.address_as(PODS[0], matches.Side.SRC, Family.IP6) is None


def test_pods_that_only_a_default_denys_policies_tell_apart_are_told_apart() -> None:
    first, second, third = (pod for pod in PODS if pod.node == "n0")
    deny = made.acl("ac100000-deny", match="outport == @pg0", namespace_default="shop")
    groups = [
        PortGroup(
            name="pg0", ports=ports(first, second, third), policy=None, acls=frozenset({deny.uuid})
        ),
        PortGroup(name="pg1", ports=ports(first, third), policy=made.ref("web")),
        PortGroup(name="pg2", ports=ports(second), policy=made.ref("db")),
    ]
    zone = replace(
        made.zone("n0", ports=logical_ports("n0"), acls=[deny]),
        switches={"n0": ("10.128.0.0/24",)},
        switch_acls={},
        port_groups=tuple(groups),
    )
    predicates = Predicates(PODS, Family.IP4)
    seeing = ZoneAcls(zone, predicates, {})
    one, two, three = (
        seeing.seen_by(pod, pod.attachment).ingress
        for pod in (first, second, third)
        if pod.attachment is not None
    )
    assert one == three != two
    assert [len(entries) for entries in (*one, *two)] == [1, 1, 1, 1]


def test_a_remote_port_of_a_stretched_switch_is_in_groups_of_the_senders_zone() -> None:
    """A packet to another zone's pod on the same segment leaves by that pod's remote port."""
    pods = [
        replace(pod, attachment=replace(pod.attachment, switch="layer2", segment="layer2"))
        for pod in PODS
        if pod.attachment is not None
    ]
    near, far = (pod for pod in pods[:2])  # on n0 and on n1
    remote = replace(
        made.port(port_of(far), datapath="layer2"), kind="remote", is_pod=False, tunnel_key=9
    )
    deny = made.acl("ac100000-deny", match="outport == @pg0")
    group = PortGroup(name="pg0", ports=ports(far), policy=None, acls=frozenset({deny.uuid}))
    local = made.port(port_of(near), datapath="layer2")
    zone = replace(
        made.zone("n0", ports=[local, remote], acls=[deny]), switch_acls={}, port_groups=(group,)
    )
    predicates = Predicates(pods, Family.IP4)
    assert near.attachment is not None
    apart, together = ZoneAcls(zone, predicates, {}).seen_by(near, near.attachment).egress
    (entry,) = apart
    assert np.flatnonzero(predicates.vectors[entry.others]).tolist() == [1]
    assert not together


def ports(*pods: Endpoint) -> frozenset[str]:
    return frozenset(port_of(pod) for pod in pods)
