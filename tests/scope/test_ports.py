"""Ports mean the same number everywhere, names what each destination declares."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ScopeError
from audit.model import portspace
from audit.model.endpoints import MAX_PORT, Endpoint, EndpointKind, NamedPort, Port
from audit.model.packets import WITH_PORTS, Protocol
from audit.model.portspace import PortSpace
from audit.scope import ports
from audit.scope.ports import DECLARED, PortName, PortRange, PortSpec

numbers = st.integers(1, MAX_PORT)
small = st.integers(1, 12)
names = st.sampled_from(["http", "dns", "metrics"])


def make_range(protocol: Protocol, one: int, other: int) -> PortRange:
    return PortRange(protocol=protocol, first=min(one, other), last=max(one, other))


def ranges(bounds: st.SearchStrategy[int]) -> st.SearchStrategy[PortRange]:
    return st.builds(make_range, st.sampled_from(WITH_PORTS), bounds, bounds)


def specs(bounds: st.SearchStrategy[int]) -> st.SearchStrategy[PortSpec]:
    return st.one_of(ranges(bounds), st.builds(PortName, name=names), st.just(DECLARED))


PING = PortRange(protocol=Protocol.ICMP, first=0, last=0)


declarations = st.lists(
    st.builds(
        NamedPort,
        name=names | st.just(""),
        port=st.builds(Port, protocol=st.sampled_from(WITH_PORTS), number=small),
    ),
    max_size=4,
).map(tuple)


def pod(name: str, *declared: tuple[str, Protocol, int]) -> Endpoint:
    return Endpoint(
        kind=EndpointKind.POD,
        namespace="shop",
        name=name,
        declared=tuple(
            NamedPort(name=port, port=Port(protocol=protocol, number=number))
            for port, protocol, number in declared
        ),
    )


def tcp(*wanted: int) -> tuple[Port, ...]:
    return tuple(Port(protocol=Protocol.TCP, number=number) for number in wanted)


WEB = pod("web", ("http", Protocol.TCP, 8080), ("", Protocol.TCP, 9090))
DNS = pod("dns", ("dns", Protocol.UDP, 53), ("http", Protocol.TCP, 80))
OUTSIDE = Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.7", addresses=("198.51.100.7",))


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("tcp/80", PortRange(protocol=Protocol.TCP, first=80, last=80)),
        ("udp/53", PortRange(protocol=Protocol.UDP, first=53, last=53)),
        ("SCTP/38412", PortRange(protocol=Protocol.SCTP, first=38412, last=38412)),
        ("80", PortRange(protocol=Protocol.TCP, first=80, last=80)),
        ("80/tcp", PortRange(protocol=Protocol.TCP, first=80, last=80)),
        ("5000-5010/UDP", PortRange(protocol=Protocol.UDP, first=5000, last=5010)),
        ("icmp", PING),
        (" ICMP ", PING),
        ("8000-8100", PortRange(protocol=Protocol.TCP, first=8000, last=8100)),
        ("udp/1-65535", PortRange(protocol=Protocol.UDP, first=1, last=65535)),
        ("http", PortName(name="http")),
        ("8080-http", PortName(name="8080-http")),
        (" declared ", DECLARED),
    ],
)
def test_a_port_is_a_number_a_range_a_name_or_declared(text: str, spec: PortSpec) -> None:
    assert ports.parse(text) == spec


@given(specs(numbers))
def test_a_port_written_out_parses_to_itself(spec: PortSpec) -> None:
    assert ports.parse(str(spec)) == spec


def test_a_ping_has_no_ports_and_is_none_of_all_ports() -> None:
    assert str(PING) == "icmp"
    (ping,) = ports.resolve([PING], [WEB], [0])[0]
    assert (str(ping), ping.number) == ("icmp", 0)
    assert not ports.means(ports.parse("all"), WEB, ping)
    assert ping not in ports.resolve([DECLARED], [WEB], [0])[0]
    for text in ("icmp/8", "icmp/0", "icmp/all"):
        with pytest.raises(ScopeError, match="icmp"):
            ports.parse(text)


@given(st.lists(specs(small), max_size=4), declarations)
def test_expansion_is_every_port_that_some_spec_means(
    asked: list[PortSpec], declared: tuple[NamedPort, ...]
) -> None:
    endpoint = Endpoint(kind=EndpointKind.POD, namespace="shop", name="web", declared=declared)
    candidates = [
        Port(protocol=protocol, number=number)
        for protocol in (Protocol.SCTP, Protocol.TCP, Protocol.UDP)
        for number in range(1, 14)
    ]

    def means(spec: PortSpec, port: Port) -> bool:
        if isinstance(spec, PortRange):
            return spec.protocol is port.protocol and spec.first <= port.number <= spec.last
        held = {named.name for named in declared if named.port == port}
        return bool(held) if spec == DECLARED else str(spec) in held

    known = {named.name for named in declared}
    asked = [spec for spec in asked if not isinstance(spec, PortName) or spec.name in known]
    expected = tuple(port for port in candidates if any(means(spec, port) for spec in asked))
    assert ports.resolve(asked, [endpoint], [0]) == (expected,)


def test_all_ports_of_a_protocol_are_ranges_and_nothing_else_is_asked_of_it() -> None:
    cuts = {Protocol.TCP: frozenset({80, 81, 1024})}
    vip = {"10.96.0.1": {Protocol.TCP: frozenset({443, 444})}}
    known = PortSpace(cuts=cuts, of_address=vip, of_nodes={Protocol.TCP: frozenset({30080})})
    node = Endpoint(kind=EndpointKind.NODE, name="worker", addresses=("10.96.0.1",))
    asked = [ports.parse("tcp/all"), DECLARED, ports.parse("tcp/443"), ports.parse("udp/53")]
    web, host = ports.resolve(asked, [WEB, node], [0, 1], known)
    assert [str(port) for port in web] == [
        *("tcp/0-79", "tcp/80", "tcp/81-1023", "tcp/1024-65535", "udp/53"),
    ]
    assert [str(port) for port in host] == [
        *("tcp/0-79", "tcp/80", "tcp/81-442", "tcp/443", "tcp/444-1023", "tcp/1024-30079"),
        *("tcp/30080-65535", "udp/53"),
    ]
    (everything,) = ports.resolve([ports.parse("all")], [WEB], [0])
    assert [str(port) for port in everything] == ["sctp/0-65535", "tcp/0-65535", "udp/0-65535"]


@given(st.sets(st.integers(0, MAX_PORT + 1), max_size=9))
def test_ranges_partition_all_ports(cuts: set[int]) -> None:
    found = portspace.ranges(Protocol.TCP, {0} | cuts)
    assert found[0].number == 0
    assert found[-1].sample == MAX_PORT
    assert all(one.sample + 1 == two.number for one, two in pairwise(found))
    assert {port.number for port in found} == {0} | {cut for cut in cuts if cut <= MAX_PORT}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tpc/80", "did you mean tcp/80?"),
        ("80,443", "is several: give each with a --port of its own"),
        ("upd/53-54", "did you mean udp/53-54?"),
        ("80:tcp", "did you mean tcp/80?"),
        ("tcp:80", "did you mean tcp/80?"),
        ("53/upd", "did you mean udp/53?"),
        ("tcp/http", "a name is given without a protocol; did you mean http?"),
        ("icmp/8", "icmp has no ports; write icmp"),
        ("icmp/all", "icmp has no ports; write icmp"),
        ("8/icmp", "icmp has no ports; write icmp"),
        ("igmp/8", "expected tcp, udp or sctp as the protocol, got 'igmp'"),
        ("tcp/0", "0 is not between 1 and 65535"),
        ("70000", "70000 is not between 1 and 65535"),
        ("tcp/90-80", "did you mean tcp/80-90?"),
        ("", "expected tcp/80, udp/53"),
        ("tcp/", "expected tcp/80, udp/53"),
        ("tcp/80,81", "is several"),
        ("-80", "expected"),
        ("tcp/٨٠", "expected tcp/80"),
    ],
)
def test_a_bad_port_is_refused_with_what_was_probably_meant(text: str, expected: str) -> None:
    with pytest.raises(ScopeError) as caught:
        ports.parse(text)
    assert repr(text) in str(caught.value)
    assert expected in str(caught.value)


def test_a_name_is_the_number_each_destination_declares_for_it() -> None:
    assert ports.resolve([PortName(name="http")], [WEB, DNS], [0, 1]) == (tcp(8080), tcp(80))


def test_declared_is_all_a_destination_declares_named_or_not() -> None:
    resolved = ports.resolve([DECLARED], [WEB, DNS], [0])
    assert resolved == (tcp(8080, 9090), ())


def test_a_name_nobody_in_scope_declares_is_refused_with_the_names_they_do() -> None:
    with pytest.raises(ScopeError, match="they declare dns, http; did you mean http"):
        ports.resolve([PortName(name="htpt")], [WEB, DNS], [0, 1])
    with pytest.raises(ScopeError, match="'dns': they declare http"):
        ports.resolve([PortName(name="dns")], [WEB, DNS], [0])
    with pytest.raises(ScopeError, match="they name none"):
        ports.resolve([PortName(name="dns")], [OUTSIDE], [0])


def test_an_external_destination_needs_a_port_that_is_no_declaration() -> None:
    with pytest.raises(ScopeError, match=r"external 198\.51\.100\.7 .* --port tcp/443"):
        ports.resolve([DECLARED], [WEB, OUTSIDE], [0, 1])
    both = [DECLARED, ports.parse("443")]
    assert ports.resolve(both, [WEB, OUTSIDE], [0, 1]) == (tcp(443, 8080, 9090), tcp(443))


def test_a_large_range_is_held_once_however_many_destinations_there_are() -> None:
    many = [pod(f"web-{n}", ("http", Protocol.TCP, 80)) for n in range(100)]
    resolved = ports.resolve([ports.parse("tcp/1-65535"), DECLARED], many, range(100))
    assert len(resolved[0]) == MAX_PORT
    assert len({id(own) for own in resolved}) == 1


def test_a_range_that_is_none_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="no range"):
        PortRange(protocol=Protocol.TCP, first=2, last=1)
