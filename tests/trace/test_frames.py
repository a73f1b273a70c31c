"""Packets' bytes, by what Open vSwitch itself makes of them."""

import subprocess
from dataclasses import replace

import pytest

from audit.model.packets import Microflow, Protocol
from audit.replay.toolchain import Toolchain
from audit.trace import frames
from tests.trace.test_ofproto import FLOW, SIX

pytestmark = pytest.mark.ovn

MARK = 0xDEADBEEF


def read_by_ovs(programs: Toolchain, packet: bytes) -> str:
    """Return what ovs-ofctl reads; of TCP and UDP it prints the checksum it expects, if wrong."""
    done = subprocess.run(
        programs.argv("ovs-ofctl", "parse-packet"), input=packet, capture_output=True, check=True
    )
    return done.stdout.decode()


def expected_checksum(programs: Toolchain, microflow: Microflow) -> bytes:
    """Return the packet that Open vSwitch composes of a flow, its L4 checksum with it."""
    flow = ofproto_flow(microflow)
    done = subprocess.run(
        programs.argv("ovs-ofctl", "compose-packet", "--bare", flow),
        capture_output=True,
        text=True,
        check=True,
    )
    return bytes.fromhex(done.stdout.strip())


def ofproto_flow(microflow: Microflow) -> str:
    six = ":" in microflow.ip_src
    words = {
        "eth_type": "0x86dd" if six else "0x0800",
        "dl_src": microflow.eth_src,
        "dl_dst": microflow.eth_dst,
        "ipv6_src" if six else "nw_src": microflow.ip_src,
        "ipv6_dst" if six else "nw_dst": microflow.ip_dst,
        "nw_proto": "6" if microflow.protocol is Protocol.TCP else "17",
        "nw_ttl": str(microflow.ttl),
        "tp_src": str(microflow.src_port),
        "tp_dst": str(microflow.dst_port),
    }
    if microflow.protocol is Protocol.TCP:
        words["tcp_flags"] = "syn"
    return ",".join(f"{name}={value}" for name, value in words.items())


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("flow", [FLOW, SIX], ids=["ip4", "ip6"])
def test_open_vswitch_reads_the_flow_that_was_meant(
    toolchain: Toolchain, flow: Microflow, protocol: Protocol
) -> None:
    sent = replace(flow, protocol=protocol, ttl=63)
    found = read_by_ovs(toolchain, frames.packet(sent, MARK))
    for word in (sent.ip_src, sent.ip_dst, f"dl_dst={sent.eth_dst}", "nw_ttl=63", "tp_src=12345"):
        assert word in found
    assert ("tcp_flags=syn " in found) is (protocol is Protocol.TCP)
    answer = read_by_ovs(toolchain, frames.packet(sent, MARK, reply=True))
    assert ("tcp_flags=syn|ack " in answer) is (protocol is Protocol.TCP)


@pytest.mark.parametrize("flow", [FLOW, SIX], ids=["ip4", "ip6"])
def test_checksums_are_those_of_open_vswitch(toolchain: Toolchain, flow: Microflow) -> None:
    sent = replace(flow, protocol=Protocol.TCP)
    ours, theirs = frames.packet(sent, 0), expected_checksum(toolchain, sent)
    # Theirs has another window; it is the only other word that the sum is of.
    place = len(ours) - 20
    window, checksum = slice(place + 14, place + 16), slice(place + 16, place + 18)
    assert ours[: place + 14] == theirs[: place + 14]
    both = (int.from_bytes(p[window]) + int.from_bytes(p[checksum]) for p in (ours, theirs))
    assert len({total % 0xFFFF for total in both}) == 1
