"""Microflow → expression, and whether the real ovn-trace takes it."""

import gzip
import string
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.model.packets import Microflow, Protocol
from audit.replay.databases import serve
from audit.replay.toolchain import Toolchain
from audit.trace import microflow, tree
from audit.trace.microflow import UnnameableError

DATABASE = Path(__file__).resolve().parent / "golden" / "ovn-23.03" / "sb.db.gz"
Trace = Callable[[str], str]


def _flow(*, inport: str = "p1", ip6: bool = False, protocol: Protocol = Protocol.TCP) -> Microflow:
    return Microflow(
        inport=inport,
        eth_src="0a:00:00:00:00:01",
        eth_dst="0a:00:00:00:00:02",
        ip_src="fd00::1" if ip6 else "10.0.0.1",
        ip_dst="fd00::2" if ip6 else "10.0.0.2",
        protocol=protocol,
        src_port=52888,
        dst_port=80,
    )


def test_a_packet_is_spelled_with_everything_ovn_trace_must_know() -> None:
    assert microflow.expression(_flow()) == (
        'inport=="p1" && eth.src==0a:00:00:00:00:01 && eth.dst==0a:00:00:00:00:02 && '
        "ip4.src==10.0.0.1 && ip4.dst==10.0.0.2 && ip.ttl==64 && tcp.dst==80 && tcp.src==52888"
    )


def test_the_family_is_the_addresses() -> None:
    expression = microflow.expression(_flow(ip6=True, protocol=Protocol.SCTP))
    assert "ip6.src==fd00::1 && ip6.dst==fd00::2" in expression
    assert "ip4" not in expression
    assert "sctp.dst==80 && sctp.src==52888" in expression


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.text(max_size=20),
    st.sampled_from(['"', "\\", "\n", "\r", "\t", "\0", "\x1b", "\x7f", "\ud800"]),
    st.text(max_size=20),
)
def test_a_name_that_could_leave_its_quotes_is_refused(before: str, bad: str, after: str) -> None:
    with pytest.raises(UnnameableError, match="cannot be named"):
        microflow.expression(_flow(inport=f"{before}{bad}{after}"))


def test_a_name_must_be_there() -> None:
    with pytest.raises(UnnameableError):
        microflow.expression(_flow(inport=""))


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet=string.ascii_letters + string.digits + "-_./: é", min_size=1))
def test_any_other_name_stands_between_quotes(name: str) -> None:
    assert microflow.expression(_flow(inport=name)).startswith(f'inport=="{name}" && ')


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> Iterator[Trace]:
    """Return a function that runs the real ovn-trace."""
    directory = tmp_path_factory.mktemp("sb")
    (directory / "sb.db").write_bytes(gzip.decompress(DATABASE.read_bytes()))
    (directory / "run").mkdir()
    with serve(toolchain, directory / "sb.db", directory / "run") as served:

        def run(expression: str) -> str:
            return subprocess.run(
                toolchain.argv("ovn-trace", f"--db=unix:{served}", "--ct=new", expression),
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout

        yield run


@pytest.mark.ovn
@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("ip6", [False, True])
def test_the_real_ovn_trace_takes_it(trace: Trace, protocol: Protocol, *, ip6: bool) -> None:
    output = trace(microflow.expression(_flow(ip6=ip6, protocol=protocol)))
    tree.parse(output)
    header = output.splitlines()[0]
    assert header.startswith(f"# {protocol}{'6' if ip6 else ''},")
    if protocol is not Protocol.ICMP:
        assert "tp_src=52888,tp_dst=80" in header


@pytest.mark.ovn
@pytest.mark.parametrize(("ip6", "types"), [(False, (8, 0)), (True, (128, 129))])
def test_a_ping_is_an_echo_request_and_its_reply(
    trace: Trace, types: tuple[int, int], *, ip6: bool
) -> None:
    request = replace(_flow(ip6=ip6, protocol=Protocol.ICMP), dst_port=0)
    reply = replace(request, src_port=0, dst_port=request.src_port)
    for flow, kind in zip((request, reply), types, strict=True):
        header = trace(microflow.expression(flow)).splitlines()[0]
        assert f"icmp_type={kind},icmp_code=0" in header


@pytest.mark.ovn
def test_the_real_ovn_trace_knows_no_port_by_a_foreign_name(trace: Trace) -> None:
    assert "unknown port" in trace(microflow.expression(_flow(inport="é $( ) '`|")))
