"""Real packets through replayed switches: what is recorded of services, and what is not traced."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from audit.cli import progress
from audit.cover import requests
from audit.errors import ExitCode
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.options import PlaneName
from audit.model.packets import Family, Protocol
from audit.model.traces import TraceTask
from audit.scope import scope
from audit.trace.packets import PacketResult, inject
from audit.tracing import switches
from audit.tracing.options import Options
from audit.tracing.plan import Planned, plan
from audit.tracing.switches import Running
from tests.end_to_end.test_cover import DATA
from tests.end_to_end.test_datapath import run
from tests.parity import read_records

pytestmark = pytest.mark.ovn

SERVICES = DATA / "services-egressip.tar.xz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A recorded cluster whose switches run, and its pods by their logical ports."""

    planned: Planned
    running: Running

    @property
    def pods(self) -> dict[str, Endpoint]:
        attached = ((pod.attachment, pod) for pod in self.planned.state.pods)
        return {at.port: pod for at, pod in attached if at is not None and not pod.host_network}

    def local(self, record: dict[str, Any], ports: Iterable[str]) -> set[str]:
        """Return those of these ports that are at the sender's node."""
        return {port for port in ports if self.pods[port].node == record["src_node"]}

    def at(self, backends: Iterable[str]) -> set[str]:
        """Return the ports of the pods that are backends."""
        addresses = {backend.rpartition(":")[0].strip("[]") for backend in backends}
        return {port for port, pod in self.pods.items() if addresses & set(pod.addresses)}

    def request(self, record: dict[str, Any]) -> TraceTask:
        """Return the request that a record is of."""
        family = Family.IP6 if record["family"] == 6 else Family.IP4
        to = record["dst_ip"]
        at = Endpoint(kind=EndpointKind.EXTERNAL, name=to, addresses=(to,))
        dst = next((pod for pod in self.pods.values() if to in pod.addresses), at)
        port = Port(protocol=Protocol(record["protocol"]), number=record["port"])
        return requests.request_for(self.pods[record["src"]], dst, family, port)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    asked = Options(
        snapshot=SERVICES,
        scope=scope.Scope(),
        planes=frozenset({PlaneName.LOGICAL, PlaneName.DATAPATH}),
    )
    silent = progress.Silent()
    with ExitStack() as stack:
        planned = plan(asked, silent, stack)
        running = switches.replayed(planned, silent, stack)
        yield Cluster(planned=planned, running=running)


def recorded(*, affinity: bool) -> list[dict[str, Any]]:
    """Return what was recorded of pods' requests that load balancers take, or that go to pods."""
    return [
        record
        for record in read_records("services-egressip")
        if record["src"] != "external"
        and record["kind"] != "pod->outside"
        and record["affinity"] is affinity
    ]


def sent(cluster: Cluster, records: list[dict[str, Any]]) -> list[PacketResult]:
    return list(inject([cluster.request(r) for r in records], cluster.running.switches))


def test_packets_come_to_the_recorded_backends_of_their_node_and_to_nobody_else(
    cluster: Cluster,
) -> None:
    records = recorded(affinity=False)[::3]
    delivered = 0
    for record, result in zip(records, sent(cluster, records), strict=True):
        assert not result.unknown
        # A host behind a service gets it by its management port, as is recorded for no pod.
        came = result.delivered & cluster.pods.keys()
        # Fewer were drawn then, and not every backend came up.
        assert cluster.local(record, record["delivered_to"]) <= came, record
        behind = cluster.at(record["backends"] or ()) if record["delivered"] else set()
        assert came <= cluster.local(record, {*behind, *record["delivered_to"]}), record
        drawn = {draw.backend for draw in result.draws} - {""}
        if record["backends"] and record["delivered"]:
            assert drawn == set(record["backends"]), record
        assert not result.left
        for draw in result.draws:
            assert len(draw.left) <= 1
            assert draw.answered == ({record["src"]} if draw.left else None)
            for departure in draw.left:
                address, number = departure.packet.ip_dst, departure.packet.dst_port
                bare = f"[{address}]" if ":" in address else address
                assert draw.backend in ("", f"{bare}:{number}")
                assert departure.packet.ip_src == record["src_ip"]
        delivered += bool(came)
    assert len(records) > 70
    assert delivered > 20


def test_session_affinity_drops_the_connection_that_teaches_it(cluster: Cluster) -> None:
    """And no other: recorded of real packets, too."""
    records = recorded(affinity=True)
    for record, result in zip(records, sent(cluster, records), strict=True):
        [backend] = {draw.backend for draw in result.draws}
        assert backend in record["backends"]
        first, *others = result.draws
        assert not first.left
        local = cluster.local(record, cluster.at([backend]))
        assert [draw.delivered for draw in others] == [local] * len(others)
    assert len(records) == 6


def test_a_pod_that_calls_itself_gets_its_packet_from_another_address(cluster: Cluster) -> None:
    """The service's two backends are at one node; to itself 40 of 40 packets arrive."""
    service = next(s for s in cluster.planned.state.services if s.name == "etp-local")
    one = cluster.pods["svc_one-0"]
    at = Endpoint(kind=EndpointKind.SERVICE, name="etp-local", addresses=service.cluster_ips)
    task = requests.request_for(one, at, Family.IP4, Port(protocol=Protocol.TCP, number=80))
    again = [
        replace(task, key=str(n), microflow=replace(task.microflow, src_port=30_000 + 100 * n))
        for n in range(4)
    ]
    draws = [d for r in inject(again, cluster.running.switches) for d in r.draws]
    own = one.addresses[0]
    itself = [draw for draw in draws if draw.backend == f"{own}:8080"]
    others = [draw for draw in draws if draw.backend != f"{own}:8080"]
    assert len(itself) >= 40
    assert {draw.delivered for draw in itself} == {frozenset({"svc_one-0"})}
    assert {draw.answered for draw in itself} == {frozenset({"svc_one-0"})}
    sources = {departure.packet.ip_src for draw in itself for departure in draw.left}
    assert len(sources) == 1
    assert own not in sources
    assert others
    assert {departure.packet.ip_src for d in others for departure in d.left} <= {own}


def test_what_cannot_be_sent_says_why(cluster: Cluster) -> None:
    ports = [port for port in cluster.pods if port.startswith("svc_b-")]
    one, other = (cluster.pods[port] for port in ports[:2])
    port = Port(protocol=Protocol.TCP, number=80)
    request = requests.request_for(one, other, Family.IP4, port)
    sctp = requests.request_for(one, other, Family.IP4, replace(port, protocol=Protocol.SCTP))
    there = {n: s for n, s in cluster.running.switches.items() if n != one.node}
    why = [
        inject([sctp], cluster.running.switches)[0].unknown,
        inject([requests.reply_for(request, one, other)], cluster.running.switches)[0].unknown,
        inject([request], there)[0].unknown,
        inject([request], cluster.running.switches, timeout_s=0)[0].unknown,
    ]
    assert [text[:20] for text in why] == [
        "sctp is not handled ",
        "it is a reply, which",
        "no switch here has s",
        "there was no time fo",
    ]


def test_every_cell_of_one_node_is_verified_with_services(tmp_path: Path) -> None:
    """Pods calling themselves apart, of which neither tracer sees the translated source."""
    names = ("affinity", "itp-local-spread", "multi", "noep", "plain", "udp-tcp")
    services = tuple(f"svc/{name}" for name in names)
    asked = scope.from_flags(from_namespaces=("cli",), to_services=services)
    ran = run(tmp_path, asked, snapshot=SERVICES, verify_packets=10**9)
    packets = ran.said["packets"]
    assert packets["disagreements"] == []
    assert set(packets["kinds"]) == {"service"}
    assert packets["agree"] == packets["of"] == packets["kinds"]["service"]["of"] > 10
    assert ran.code is ExitCode.CLEAN
    assert json.loads((ran.path / "run.json").read_text())["packets"] == packets
