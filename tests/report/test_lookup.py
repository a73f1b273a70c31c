"""A cell is found by every word the report and the command line use for its ends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from audit.errors import UsageError
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.packets import Family, Protocol
from audit.model.run import Run
from audit.model.verdicts import CODE, NO_VERDICT, Reason, Verdict
from tests.report.named import cells_between, find_cell
from tests.report.parts import render_html

if TYPE_CHECKING:
    from tests.report.conftest import Made

HTTP, TLS = (Port(protocol=Protocol.TCP, number=number) for number in (80, 443))
DELIVERED = (Verdict.REACHABLE, Reason.DELIVERED, CODE[Verdict.REACHABLE], -1)
BLOCKED = (Verdict.BLOCKED, Reason.ACL_DROP, NO_VERDICT, -1)


def endpoint(kind: EndpointKind, name: str, *addresses: str, **fields: Any) -> Endpoint:
    return Endpoint(kind=kind, name=name, addresses=addresses, **fields)


POD, SERVICE, NODE, OUTSIDE, INGRESS = EndpointKind
A = endpoint(POD, "a", "10.0.0.5", "fd00::5", namespace="shop", node="n1")
B = endpoint(POD, "b", "10.0.0.6", "fd00::6", namespace="shop", node="n2")
WEB = endpoint(SERVICE, "web", "172.30.0.10", namespace="shop")
B_TOO = endpoint(SERVICE, "b", "172.30.0.11", namespace="shop")
DB = endpoint(SERVICE, "db", "10.0.0.6", namespace="shop")  # headless, before pod b
PROXY = endpoint(POD, "proxy", "172.18.0.3", namespace="kube-system", node="n1", host_network=True)
N1 = endpoint(NODE, "n1", "172.18.0.3", node="n1", host_network=True)
WORLD = endpoint(OUTSIDE, "198.51.100.7", "198.51.100.7")
VIA1 = endpoint(OUTSIDE, "198.51.100.7", "198.51.100.7", node="n1")
VIA2 = endpoint(OUTSIDE, "198.51.100.7", "198.51.100.7", node="n2")
LED = endpoint(INGRESS, "route/shop/b", obstacle="no-address")
ENDPOINTS = (A, B, PROXY, WEB, B_TOO, DB, N1, WORLD, VIA1, VIA2, LED)


def decide(made: "Made", endpoints: Sequence[Endpoint], **fields: Any) -> Run:
    """Return the run of every pair that a scope could have."""

    def one(src: Endpoint, dst: Endpoint, family: Family, port: Port) -> Any:
        del port
        sends = src.kind is not SERVICE and src is not WORLD
        receives = dst not in (VIA1, VIA2, LED)
        both = family is Family.IP4 or (src in (A, B) and dst in (A, B))
        return DELIVERED if sends and receives and both else None

    return made.assemble(endpoints, (HTTP, TLS), one, **fields)


@pytest.fixture
def run(made: "Made") -> Run:
    return decide(made, ENDPOINTS)


def ends(run: Run, cell: int) -> tuple[Endpoint, Endpoint]:
    matrix = run.matrix
    return matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("shop/web", WEB),
        ("service/shop/web", WEB),
        ("service shop/web", WEB),
        ("172.30.0.10", WEB),
        ("pod/shop/b", B),
        ("service/shop/b", B_TOO),
        ("10.0.0.6", B),
        ("fd00:0:0::6", B),
        ("FD00::6", B),
        ("node/n1", N1),
        ("n1", N1),
        ("172.18.0.3", N1),
        ("kube-system/proxy", PROXY),
        ("198.51.100.7", WORLD),
        ("external 198.51.100.7", WORLD),
    ],
)
def test_a_destination_by_each_of_its_names(run: Run, word: str, meant: Endpoint) -> None:
    assert ends(run, find_cell(run, "shop/a", word, "tcp/80", None)) == (A, meant)


@pytest.mark.parametrize("word", ["external 198.51.100.7 via n2", "198.51.100.7@n2"])
def test_an_address_outside_by_the_gateway_it_enters(run: Run, word: str) -> None:
    assert ends(run, find_cell(run, word, "shop/a", "80", None)) == (VIA2, A)


@pytest.mark.parametrize("word", ["route/shop/b", "route shop/b"])
def test_an_object_that_leads_in_by_its_kind(run: Run, word: str) -> None:
    assert ends(run, find_cell(run, word, "shop/a", "80", None)) == (LED, A)


def test_every_cell_by_the_words_the_report_prints(run: Run, made: "Made") -> None:
    table = made.tables_of(made.data_of(render_html(run)))["endpoints"]
    keys = [row[0] for row in table]
    names = [key.split(" ", 1)[1] for key in keys]

    def argument(at: int) -> str:
        """Do as the page's script does where it prints the command."""
        kind = table[at][1]
        if kind in ("external", "ingress"):
            return str(keys[at])
        alone = names.count(names[at]) == 1
        return names[at] if kind == "pod" and alone else f"{kind}/{names[at]}"

    at = {key: argument(i) for i, key in enumerate(keys)}
    for cell in range(len(run.matrix)):
        src, dst = ends(run, cell)
        port = str(run.matrix.ports[run.matrix.port[cell]])
        assert find_cell(run, at[src.key], at[dst.key], port, None) == cell


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("shop/aa", "shop/b", "80"), "no endpoint shop/aa; did you mean shop/a?"),
        (("shop/a", "zzz", "80"), "no endpoint zzz"),
        (("service/shop/web", "shop/a", "80"), "no cell from service/shop/web"),
        (("shop/a", "shop/web", "81"), "on tcp/81; it has tcp/80, tcp/443"),
        (("shop/a", "shop/web", "udp/80"), "on udp/80"),
        (("shop/a", "shop/b", "80"), "shop/b may mean several things"),
    ],
)
def test_what_is_not_one_cell(run: Run, words: tuple[str, str, str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_cell(run, *words, None)
    assert complaint in str(caught.value)


def test_both_families(made: "Made") -> None:
    run = decide(made, (A, B), families=(Family.IP4, Family.IP6))
    assert len(cells_between(run, "shop/a", "shop/b", "80")) == 2, "they come to the same"
    cells = [find_cell(run, "shop/a", "shop/b", "80", family) for family in ("ip4", "ip6")]
    assert len(set(cells)) == 2
    with pytest.raises(UsageError, match="in ip6"):
        find_cell(decide(made, (A, B)), "shop/a", "shop/b", "80", "ip6")


def test_cells_that_come_to_the_same_are_explained_as_one(run: Run) -> None:
    for words in (("198.51.100.7", "shop/a", "80"), ("shop/a", "shop/web", "")):
        assert len(cells_between(run, *words)) == 2
    assert len(cells_between(run, "shop/a", "pod/shop/b", "all")) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("shop/a", "pod/shop/b", ""),
            "which differ: tcp/80: reachable; tcp/443: blocked; add the port",
        ),
        (
            ("ns/shop", "n1", "80"),
            (
                "'pod shop/a' to 'node n1' on tcp/80: reachable; "
                "'pod shop/b' to 'node n1' on tcp/80: blocked"
            ),
        ),
    ],
)
def test_cells_that_differ_are_named(
    made: "Made", words: tuple[str, str, str], complaint: str
) -> None:
    def decide_each(src: Endpoint, dst: Endpoint, family: Family, port: Port) -> Any:
        del family
        stops = (dst is B and port == TLS) or (src, dst) == (B, N1)
        return BLOCKED if stops else DELIVERED

    run = made.assemble((A, B, N1), (HTTP, TLS), decide_each)
    with pytest.raises(UsageError) as caught:
        cells_between(run, *words)
    assert complaint in str(caught.value)


def test_families_that_differ_are_to_be_told_apart(made: "Made") -> None:
    def decide_each(src: Endpoint, dst: Endpoint, family: Family, port: Port) -> Any:
        del src, dst, port
        return BLOCKED if family is Family.IP6 else DELIVERED

    run = made.assemble((A, B), (HTTP,), decide_each, families=(Family.IP4, Family.IP6))
    with pytest.raises(UsageError, match="add --family"):
        cells_between(run, "shop/a", "shop/b", "80")
    assert len(cells_between(run, "shop/a", "shop/b", "80", "ip6")) == 1
