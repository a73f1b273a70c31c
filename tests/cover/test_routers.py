"""Which zones share a way: those that routers treat alike, and no other, whatever is edited."""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest

from audit.cover import classes
from audit.cover.routers import _COMMENT, _link_local, _without
from audit.facts import assemble
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import ClusterState, LogicalFlow, WayIn, Zone
from audit.model.matrix import FAMILIES, Matrix
from audit.model.packets import Family
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from audit.scope import expand, matrix, ports, scope
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.ovn

ROUTER, TRANSIT = "ovn_cluster_router", "transit_switch"
ZONES = ("worker-1", "worker-2", "worker-3", "worker-4")
Zones = dict[str, Zone]


class Cluster:
    """Four nodes that are alike, and a pod of the default network on each."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        asked = scope.from_flags(ports=["tcp/80"], family="both")
        sides = expand.sources_and_destinations(state, asked)
        resolved = ports.resolve(asked.ports, sides.endpoints, sides.destinations.tolist())
        self.matrix: Matrix = matrix.build(
            sides.endpoints, sides.blocks, resolved, asked.family.families
        ).matrix

    def subnet(self, node: str) -> str:
        (subnet,) = (s for s in self.state.zones[node].switches[node] if "." in s)
        return subnet

    def address(self, node: str) -> str:
        """Return the IPv4 address of a node's router on the transit switch."""
        port = self.state.zones[node].ports[f"rtots-{node}"]
        return next(a for a in port.addresses if "." in a).partition("/")[0]

    def alike(
        self,
        zones: Mapping[str, Zone] | None = None,
        ways_in: Sequence[WayIn] | None = None,
        family: Family = Family.IP4,
        sender: str = "worker-1",
    ) -> set[frozenset[str]]:
        """Return the nodes to whose pods the sender's have one way."""
        legs = classes.legs(
            self.matrix,
            zones or self.state.zones,
            ways_in=self.state.ways_in if ways_in is None else ways_in,
        )
        (plan,) = (plan for plan in legs.plans if plan.family == FAMILIES.index(family))
        pods: dict[str, int] = {}
        for index, endpoint in enumerate(self.matrix.endpoints):
            plain = endpoint.kind is EndpointKind.POD and not endpoint.host_network
            if plain and endpoint.network == "":
                pods.setdefault(endpoint.node, index)
        row = plan.ways[plan.sending[pods[sender]]]
        groups: dict[int, set[str]] = defaultdict(set)
        for node, pod in pods.items():
            if node != sender:
                way = int(row[plan.receiving[pod]])
                groups[way].add(node)
                assert plan.is_common(way) is (bool((row == way).sum() > 1))
        return set(map(frozenset, groups.values()))


@pytest.fixture(scope="module")
def cluster(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    path = REPOSITORY / "tests" / "data" / "four-nodes.tar.xz"
    workdir = tmp_path_factory.mktemp("four-nodes")
    return Cluster(assemble.load(path, workdir, OvsdbTool(programs=toolchain)))


def edited(
    cluster: Cluster, node: str, datapath: str, edit: Callable[[LogicalFlow], LogicalFlow | None]
) -> Zones:
    """Return the zones, with flows of a datapath of one as `edit` makes them."""
    zone = cluster.state.zones[node]
    before = zone.flows[datapath]
    after = tuple(flow for old in before if (flow := edit(old)) is not None)
    assert after != tuple(before)
    flows = MappingProxyType({**zone.flows, datapath: after})
    return {**cluster.state.zones, node: replace(zone, flows=flows)}


def added(cluster: Cluster, node: str, datapath: str, *flows: LogicalFlow) -> Zones:
    zone = cluster.state.zones[node]
    listed = MappingProxyType({**zone.flows, datapath: (*zone.flows[datapath], *flows)})
    return {**cluster.state.zones, node: replace(zone, flows=listed)}


def apart(*groups: Iterable[str]) -> set[frozenset[str]]:
    return set(map(frozenset, groups))


TOGETHER = apart(("worker-2", "worker-3", "worker-4"))
SECOND = apart(("worker-2",), ("worker-3", "worker-4"))
FOURTH = apart(("worker-2", "worker-3"), ("worker-4",))


@pytest.mark.parametrize("sender", ZONES)
def test_nodes_that_are_alike_share_a_way(cluster: Cluster, sender: str) -> None:
    assert cluster.alike(family=Family.IP6, sender=sender) == apart(set(ZONES) - {sender})


@pytest.mark.parametrize("sender", ZONES)
def test_the_node_of_the_api_server_balances_its_own_service_otherwise(
    cluster: Cluster, sender: str
) -> None:
    others = set(ZONES) - {sender, "worker-1"}
    own = apart() if sender == "worker-1" else apart({"worker-1"})
    assert cluster.alike(sender=sender) == apart(others) | own


def test_a_route_to_another_zone_is_no_route_as_others_are(cluster: Cluster) -> None:
    """Where two are exchanged, each names a zone that it should not."""
    second, third = cluster.address("worker-2"), cluster.address("worker-3")
    to = {cluster.subnet("worker-2"): (second, third), cluster.subnet("worker-3"): (third, second)}

    def misled(flow: LogicalFlow) -> LogicalFlow:
        for subnet, (right, wrong) in to.items():
            if flow.stage == "lr_in_ip_routing" and subnet in flow.match:
                return flow._replace(actions=flow.actions.replace(f"= {right};", f"= {wrong};"))
        return flow

    zones = edited(cluster, "worker-1", ROUTER, misled)
    assert cluster.alike(zones) == apart(("worker-2",), ("worker-3",), ("worker-4",))


def test_a_lost_route_is_told(cluster: Cluster) -> None:
    subnet = cluster.subnet("worker-2")
    zones = edited(cluster, "worker-1", ROUTER, lambda f: None if subnet in f.match else f)
    assert cluster.alike(zones) == SECOND


def test_a_neighbour_of_another_mac_is_told(cluster: Cluster) -> None:
    address = f"reg0 == {cluster.address('worker-2')}"

    def other(flow: LogicalFlow) -> LogicalFlow:
        mac = re.sub(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "0a:58:0a:0a:0a:0a", flow.actions)
        return flow._replace(actions=mac) if address in flow.match else flow

    assert cluster.alike(edited(cluster, "worker-1", ROUTER, other)) == SECOND


@pytest.mark.parametrize("length", [24, 23, 22])
def test_a_network_that_holds_a_zones_pods_tells_it(cluster: Cluster, length: int) -> None:
    """Half of its subnet, all of it, or the sender's besides."""
    wide = ipaddress.ip_network(cluster.subnet("worker-2")).network_address
    network = ipaddress.ip_network(f"{wide}/{length}", strict=False)
    stray = LogicalFlow("lr_in_ip_input", 200, f"ip4.dst == {network}", "drop;")
    assert cluster.alike(added(cluster, "worker-1", ROUTER, stray)) == SECOND


def test_a_set_that_holds_a_zones_subnet_tells_it(cluster: Cluster) -> None:
    stray = LogicalFlow("lr_in_ip_input", 200, "ip4.dst == $some", "drop;")
    zones = added(cluster, "worker-1", ROUTER, stray)
    sets = {**(zones["worker-1"].installed_sets or {}), "some": (cluster.subnet("worker-2"),)}
    zones["worker-1"] = replace(zones["worker-1"], installed_sets=sets)
    assert cluster.alike(zones) == SECOND


@pytest.mark.parametrize(
    "match",
    [
        "ip4",  # names nobody
        "ip4.src == {subnet}",  # the sender's zone
        "ip4.src != {others}",  # another zone, and not the sender's
        'inport == "rtots-worker-4"',
        "ip4.src == 10.0.0.0/8",
    ],
)
def test_what_the_receivers_zone_has_of_its_own_tells_it(cluster: Cluster, match: str) -> None:
    subnet, others = cluster.subnet("worker-1"), cluster.subnet("worker-3")
    match = match.format(subnet=subnet, others=others)
    stray = LogicalFlow("lr_in_ip_input", 200, match, "drop;")
    assert cluster.alike(added(cluster, "worker-4", ROUTER, stray)) == FOURTH


@pytest.mark.parametrize("match", [None, "udp", "ip6"])
def test_a_stage_that_packets_do_not_get_through_tells_its_zone(
    cluster: Cluster, match: str | None
) -> None:
    """Flows of stages that let all through are not compared; that one lets not all through is."""

    def lacking(flow: LogicalFlow) -> LogicalFlow | None:
        if flow.stage != "ls_in_dns_lookup":
            return flow
        return None if match is None else flow._replace(match=match)

    assert cluster.alike(edited(cluster, "worker-4", TRANSIT, lacking)) == FOURTH


def test_what_all_receivers_zones_have_of_their_own_tells_none(cluster: Cluster) -> None:
    zones: Zones = dict(cluster.state.zones)
    for node in ZONES[1:]:
        stray = LogicalFlow("lr_in_ip_input", 200, f'inport == "rtots-{node}"', "drop;")
        zones[node] = added(cluster, node, ROUTER, stray)[node]
    assert cluster.alike(zones) == TOGETHER


def test_a_comment_tells_nothing_and_a_string_like_one_does(cluster: Cluster) -> None:
    plain = LogicalFlow("lr_in_ip_input", 200, "ip4.src == 10.0.0.0/8", "drop;")
    zones: Zones = dict(cluster.state.zones)
    for node in ZONES[1:]:
        said = plain._replace(match=f"{plain.match} /* {node} */")
        zones[node] = added(cluster, node, ROUTER, said)[node]
    assert cluster.alike(zones) == TOGETHER
    assert _COMMENT.sub(_without, 'inport == "/* a */" /* b */') == 'inport == "/* a */" '


def test_a_zone_that_knows_a_port_by_another_key_is_told(cluster: Cluster) -> None:
    zone = cluster.state.zones["worker-1"]
    port = replace(zone.ports["tstor-worker-2"], tunnel_key=77)
    known = replace(zone, ports=MappingProxyType({**zone.ports, port.name: port}))
    assert cluster.alike({**cluster.state.zones, "worker-1": known}) == SECOND


def test_a_key_that_is_two_zones_own_tells_both(cluster: Cluster) -> None:
    zone = cluster.state.zones["worker-4"]
    key = (TRANSIT, cluster.state.zones["worker-2"].ports["tstor-worker-2"].tunnel_key)
    port = zone.ports["tstor-worker-4"]
    keys = MappingProxyType({**zone.by_tunnel_key, key: port})
    zones = {**cluster.state.zones, "worker-4": replace(zone, by_tunnel_key=keys)}
    assert {"worker-2"} in cluster.alike(zones)


def test_a_node_that_takes_packets_in_by_its_host_is_told(cluster: Cluster) -> None:
    ways_in = [
        replace(way, by_host=way.by_host or way.node == "worker-2") for way in cluster.state.ways_in
    ]
    assert ways_in
    assert cluster.alike(ways_in=ways_in) == SECOND


def test_a_subnet_that_is_also_anothers_tells_both(cluster: Cluster) -> None:
    wide = ipaddress.ip_network(cluster.subnet("worker-2").partition("/")[0] + "/22", strict=False)
    stray = replace(cluster.state.ways_in[0], node="worker-9", subnet=str(wide))
    groups = cluster.alike(ways_in=[*cluster.state.ways_in, stray])
    assert {"worker-2"} in groups


def test_an_interface_makes_its_link_local_address_of_its_mac() -> None:
    assert _link_local("0a:58:64:40:00:02") == "fe80::858:64ff:fe40:2"


def test_endpoints_without_a_place_have_no_way_like_others(cluster: Cluster) -> None:
    """Of pods that flows name on the way, each has its own, from each sender."""
    pods: list[Endpoint] = [
        e for e in cluster.matrix.endpoints if e.node == "worker-3" and e.network == ""
    ]
    address = next(e for e in pods if e.kind is EndpointKind.POD and not e.host_network)
    named = LogicalFlow("lr_in_ip_input", 200, f"ip4.dst == {address.address(Family.IP4)}", "drop;")
    groups = cluster.alike(added(cluster, "worker-1", ROUTER, named))
    assert groups == apart(("worker-2", "worker-4"), ("worker-3",))
