"""What becomes of packets on user-defined networks, and between them."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from audit.model.facts import LoadBalancer, Zone
from audit.model.networks import Network, Role
from audit.model.packets import Protocol
from audit.model.traces import Hop, HopEnd, LogicalTrace, TraceTask
from audit.model.verdicts import Reason, Verdict
from audit.verdict.blame import Blamer
from audit.verdict.blindness import Blindness
from audit.verdict.hops import NextHops
from audit.verdict.judge import Judge, Judgement
from tests.verdict import made

BLUE = Network(name="shop_blue", topology="layer2", role=Role.PRIMARY)
SWITCH = "shop_blue_ovn_layer2_switch"
"""One switch of all zones: a pod's port is of type `remote` where the pod is not."""


def port(name: str, key: int, kind: str = "", **fields: object) -> object:
    given = {"kind": kind, "datapath": SWITCH, "tunnel_key": key, "mac": f"0a:58:0a:32:00:0{key}"}
    return made.port(name, **{**given, **fields})


def zone(name: str, here: str, there: str) -> Zone:
    """Return a zone with blue pods `here` and `there`, in their order by tunnel key."""
    keys = {"blue_a": 3, "blue_b": 4}
    ports = [
        port(here, keys[here]),
        port(there, keys[there], "remote", chassis="uuid-of-other"),
        port("blue_c", 6 if name == "worker" else 7),
        made.port("shop_p", tunnel_key=1),
        made.port("breth0", kind="localnet", datapath=f"ext_blue_{name}", is_pod=False),
    ]
    made_zone = made.zone(name, ports=ports)  # type: ignore[arg-type]
    return replace(made_zone, networks={SWITCH: BLUE}, chassis=frozenset({f"uuid-of-{name}"}))


ZONES = {"worker": zone("worker", "blue_a", "blue_b"), "other": zone("other", "blue_b", "blue_a")}
TASK = made.task(
    network=BLUE.name, target="blue_b", microflow=replace(made.FLOW, inport="blue_a", ttl=64)
)
LEFT = Hop(end=HopEnd.OUTPUT, port="blue_b", port_type="remote", entered="blue_a", datapath=SWITCH)


def judge(hop: Hop, zones: Mapping[str, Zone] = ZONES, task: TraceTask = TASK) -> Judgement:
    owners = made.owners()
    judging = Judge(
        blamer=Blamer.of(zones, ()),
        hops=NextHops(zones=zones, owners=owners),
        blindness=Blindness(zones=zones, owners=owners),
    )
    return judging.judge(task, LogicalTrace(key=task.key, hop=hop, output=""))


def test_a_packet_to_a_pod_on_another_node_of_one_switch_goes_on_there_as_it_is() -> None:
    """Its port in the sender's zone has the receiver's very name, and is not where it arrives."""
    judged = judge(LEFT)
    (onward,) = judged.next_hops
    assert (judged.verdict, onward.zone) == (None, "other")
    flow = onward.microflow
    assert (flow.inport, flow.eth_src, flow.eth_dst, flow.ttl) == (
        *("blue_a", TASK.microflow.eth_src),
        *("0a:58:0a:32:00:04", 64),
    )


def test_a_zone_that_has_not_the_port_takes_the_packet_nowhere() -> None:
    behind = replace(ZONES["other"], ports={}, by_tunnel_key={})
    judged = judge(LEFT, {**ZONES, "other": behind})
    assert (judged.verdict, judged.reason) == (Verdict.UNROUTABLE, Reason.REMOTE_PORT_MISSING)
    gone = judge(LEFT, {"worker": ZONES["worker"]})
    assert (gone.verdict, gone.reason) == (Verdict.UNTRACED, Reason.ZONE_MISSING)


def test_a_pods_network_is_the_one_it_is_audited_on_also_where_a_zone_does_not_know_it() -> None:
    """Else what leaves towards a pod of the cluster would have left for an address outside."""
    lost = {name: replace(known, networks={}) for name, known in ZONES.items()}
    pod = made.pod("b", "10.50.0.4")
    assert pod.attachment is not None
    pod = replace(pod, network=BLUE.name, attachment=replace(pod.attachment, port="blue_b"))
    hops = NextHops(zones=lost, owners=made.owners(pod))
    assert hops.network_of_pod("blue_b") == BLUE.name
    assert hops.network_of_pod("blue_a") == ""
    assert hops.network_of_pod("nobody") is None


def test_a_packet_that_leaves_its_network_towards_another_proves_nothing() -> None:
    out = Hop(end=HopEnd.OUTPUT, port="breth0", port_type="localnet", datapath="ext_blue_worker")
    judged = judge(out)
    assert (judged.verdict, judged.reason) == (Verdict.INCONCLUSIVE, Reason.LEFT_NETWORK)
    assert "left network shop_blue by breth0 towards a pod of network shop_blue" in judged.detail


@pytest.mark.parametrize(
    ("receiver", "verdict", "reason"),
    [
        ("shop_p", Verdict.UNROUTABLE, Reason.ADDRESS_OF_ANOTHER),
        ("blue_c", Verdict.INCONCLUSIVE, Reason.UNEXPECTED_OUTPUT),
        ("blue_b", Verdict.REACHABLE, Reason.DELIVERED),
    ],
)
def test_what_another_pod_gets_is_not_delivered(
    receiver: str, verdict: Verdict, reason: Reason
) -> None:
    """On another network than the destination's that is so because both have one address."""
    judged = judge(Hop(end=HopEnd.OUTPUT, port=receiver, datapath=SWITCH))
    assert (judged.verdict, judged.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("network", "verdict", "reason"),
    [
        ("", Verdict.INCONCLUSIVE, Reason.LEFT_NETWORK),
        ("shop_blue", Verdict.UNROUTABLE, Reason.SERVICE_NOT_PROGRAMMED),
        (None, Verdict.UNROUTABLE, Reason.SERVICE_NOT_PROGRAMMED),
    ],
)
def test_what_leaves_towards_a_service_of_another_network_is_decided_outside(
    network: str | None, verdict: Verdict, reason: Reason
) -> None:
    """On the service's own network, or where nobody has its address, it should not have left."""
    service = ("10.96.0.1", 443, ("172.18.0.2:6443",))
    balancer = LoadBalancer(
        owner="default/kubernetes",
        protocol=Protocol.TCP,
        vips=(service,),
        template=False,
        network=network or "",
    )
    balanced = replace(ZONES["other"], load_balancers=() if network is None else (balancer,))
    flow = replace(TASK.microflow, ip_dst="10.96.0.1", dst_port=443)
    task = replace(TASK, microflow=flow, target="", to_service=True)
    out = Hop(end=HopEnd.OUTPUT, port="breth0", port_type="localnet", datapath="ext_blue_worker")
    judged = judge(out, {**ZONES, "other": balanced}, task)
    assert (judged.verdict, judged.reason) == (verdict, reason)
