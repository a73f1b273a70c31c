from dataclasses import replace

import pytest

from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import Tunnel
from audit.trace import ofproto
from tests.trace.recorded_datapath import CLUSTERS, recorded

FLOW = Microflow(
    inport="default_web-1",
    eth_src="0a:58:0a:80:00:05",
    eth_dst="0a:58:0a:80:00:01",
    ip_src="10.128.0.5",
    ip_dst="10.129.0.3",
    protocol=Protocol.TCP,
    src_port=12345,
    dst_port=80,
)
SIX = replace(FLOW, ip_src="fd01::5", ip_dst="fd01::3", protocol=Protocol.SCTP)


def test_a_packet_is_written_as_it_was_recorded() -> None:
    row = next(
        one
        for one in recorded(CLUSTERS[0])
        if (one.src, one.dst, one.port) == ("prod_prod-client-1", "default_web-2", 80)
    )
    in_port = row.flow.partition(",")[0].removeprefix("in_port=")
    assert ofproto.flow(FLOW, in_port) == row.flow


def test_a_tunnelled_packet_is_written_as_it_was_recorded() -> None:
    row = next(one for one in recorded(CLUSTERS[0]) if one.leg == "destination")
    flow = replace(
        FLOW, eth_src="0a:58:64:58:00:03", eth_dst="0a:58:64:58:00:02", ttl=63, inport=""
    )
    tunnel = Tunnel(local="172.18.0.3", remote="172.18.0.4", key=0xFF0003, metadata=0x30002)
    assert ofproto.flow(flow, "2", tunnel=tunnel) == row.flow


def test_ip6_has_fields_of_its_own() -> None:
    text = ofproto.flow(SIX, "p1")
    assert "sctp6" in text
    assert "ipv6_src=fd01::5, ipv6_dst=fd01::3" in text
    assert "sctp_dst=80, sctp_src=12345" in text
    tunnel = Tunnel(local="fd00::1", remote="fd00::2", key=1, metadata=2)
    assert "tun_ipv6_src=fd00::1, tun_ipv6_dst=fd00::2" in ofproto.flow(SIX, "1", tunnel=tunnel)


@pytest.mark.parametrize("state", ConntrackState)
def test_the_state_is_stated_at_every_step(state: ConntrackState) -> None:
    bridge, flow, *states = ofproto.arguments("in_port=1", state)
    assert (bridge, flow) == ("br-int", "in_port=1")
    assert states == ["--ct-next", f"trk,{state}"] * ofproto.STEPS


def test_without_a_state_the_tracer_has_its_own() -> None:
    assert list(ofproto.arguments("in_port=1", None)) == ["br-int", "in_port=1"]
