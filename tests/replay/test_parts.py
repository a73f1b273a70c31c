"""A part of a database lacks the flows that no packet can meet which it is made for."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.errors import EngineError
from audit.replay import parts
from audit.replay.parts import Division
from audit.replay.tables import Row, Tables, record, records
from tests.archives import extract

Rows = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory, example_snapshot: Path) -> bytes:
    """Return the schema of OVN's southbound database."""
    root = tmp_path_factory.mktemp("recorded")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root)
    return next(records((root / "ovn/ovn-worker/sb.db").read_bytes()))


@pytest.fixture
def write(schema: bytes, tmp_path: Path) -> Write:
    """Return what writes a database of some transactions."""

    def write(*transactions: Rows) -> Path:
        path = tmp_path / "sb.db"
        texts = (schema, *(json.dumps(value).encode() for value in transactions))
        path.write_bytes(b"".join(map(record, texts)))
        return path

    return write


def port(logical: str, key: int, address: str, *, kind: str = "", **ids: str) -> Rows:
    return {
        "logical_port": logical,
        "tunnel_key": key,
        "type": kind,
        "mac": f"0a:58:00:00:00:01 {address}",
        "external_ids": ["map", [["pod", "true"], *map(list, ids.items())]],
    }


PORTS = {
    "p1": port("shop_web", 1, "10.0.0.1"),
    "p2": port("shop_db", 2, "10.0.0.2"),
    "p3": port("shop_api", 3, "10.0.0.3"),
    "p4": port("router", 4, "10.0.0.254", kind="patch"),
    "p5": port("renamed", 5, "10.0.0.5", name="friendly"),
    "p6": port("learnt", 6, "10.0.0.6"),
    "p7": port("shop_8f5e2a6c-6f9e-4f51-9a4e-3f5b6a6f0d11", 7, "10.0.0.7"),
}
DATABASE = {
    "Port_Binding": PORTS,
    "FDB": {"l": {"mac": "0a:58:00:00:00:06", "dp_key": 1, "port_key": 6}},
    "Port_Group": {
        "g1": {"name": "1_web", "ports": "shop_web"},
        "g2": {"name": "1_all", "ports": ["set", ["shop_web", "shop_db", "router"]]},
        "g3": {"name": "2_web", "ports": "shop_api"},
    },
    "Load_Balancer": {
        "b": {"name": "db", "vips": ["map", [["172.30.0.2:5432", "10.0.0.2:5432,10.9.0.9:5432"]]]},
        "n": {"name": "node", "vips": ["map", [["10.0.0.254:30000", "10.0.0.3:80"]]]},
    },
    "Datapath_Binding": {"d": {"tunnel_key": (1 << 24) - 1}},
    "Address_Set": {"s1": {"name": "used"}, "s2": {"name": "aside"}},
}
FLOWS = {
    "web": 'inport == "shop_web"',
    "db": 'outport == "shop_db" && ip4.src == $aside',
    "webs": "outport == @web && ip4.src == $used",
    "all": "inport == @all",
    "nobody": "inport == @nobody",
    "router": 'inport == "router"',
    "renamed": 'inport == "renamed"',
    "learnt": 'inport == "learnt"',
    "uuid": 'inport == "shop_8f5e2a6c-6f9e-4f51-9a4e-3f5b6a6f0d11"',
    "service": "ct.new && ip4.dst == 172.30.0.2 && tcp.dst == 5432",
    "endpoint": "ip4.dst == 10.9.0.9 && ct.trk",
    "own": "ip4.dst == 10.0.0.254",
    "elsewhere": "ip4.dst == 8.8.8.8",
    "any": "1",
}
"""Their uuids are their names."""


def flow(match: str) -> Rows:
    return {"match": match, "actions": "next;", "pipeline": "ingress", "logical_datapath": _UUID}


_UUID = ["uuid", "d"]


def whole(write: Write) -> Path:
    return write({**DATABASE, "Logical_Flow": {name: flow(match) for name, match in FLOWS.items()}})


def flows(database: Path, kept: frozenset[str], division: Division | None = None) -> dict[str, Row]:
    """Return the flows of a part by uuid."""
    division = division or Division.of(database)
    target = database.with_name("part.db")
    division.copy(kept)(database, target)
    tables = Tables.of(target, "OVN_Southbound")
    rows = tables.rows("Logical_Flow", ("_uuid", "match", "logical_datapath"))
    return {row["_uuid"]: row for row in rows}


def left(database: Path, kept: frozenset[str]) -> set[str]:
    """Return the flows of a part that are in a datapath of packets."""
    return {name for name, row in flows(database, kept).items() if row["logical_datapath"] == "d"}


ALWAYS = {
    *("all", "nobody", "router", "renamed", "learnt", "uuid"),
    *("own", "elsewhere", "any"),
}
"""For ports that are no pods', or that ovn-trace may not name, and addresses of neither Services
nor pods."""


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ((), set()),
        (("shop_web",), {"web", "webs"}),
        (("10.0.0.1",), {"web", "webs"}),
        (("shop_api",), {"webs"}),
        (("shop_db",), {"db"}),
        (("172.30.0.2",), {"service", "endpoint", "db"}),
        (("10.0.0.254",), set()),
        (("unheard-of", ""), set()),
    ],
)
def test_flows_are_left_that_packets_at_these_ports_and_of_these_addresses_can_meet(
    write: Write, words: tuple[str, ...], more: set[str]
) -> None:
    database = whole(write)
    assert left(database, Division.of(database).kept(words)) == ALWAYS | more


def test_of_what_is_put_aside_so_many_flows_stay_that_all_keep_their_order(write: Write) -> None:
    database = whole(write)
    rows = flows(database, frozenset())
    assert len(FLOWS) == 14
    assert len(rows) == 9, "as many as are kept; there are as many places for rows as for 8"
    assert list(rows) == [name for name in FLOWS if name in rows]
    few = write({**DATABASE, "Logical_Flow": {n: flow(FLOWS["web"]) for n in map(str, range(9))}})
    rows = flows(few, frozenset())
    assert len(rows) == 8
    assert "d" not in {row["logical_datapath"] for row in rows.values()}


def test_what_is_put_aside_is_in_a_datapath_of_its_own(write: Write) -> None:
    database = whole(write)
    flows(database, frozenset())
    tables = Tables.of(database.with_name("part.db"), "OVN_Southbound")
    keys = {row["tunnel_key"] for row in tables.rows("Datapath_Binding", ("tunnel_key",))}
    assert keys == {(1 << 24) - 1, (1 << 24) - 2}
    sets = {row["name"] for row in tables.rows("Address_Set", ("name",))}
    assert sets == set(), "the flows that named them are aside"


def test_a_flow_that_is_written_more_than_once_is_left(write: Write) -> None:
    first = {**DATABASE, "Logical_Flow": {"a": flow(FLOWS["web"]), "b": flow(FLOWS["web"])}}
    second = {"Logical_Flow": {"a": {"match": "1"}, "c": flow(FLOWS["web"])}}
    third = {"Logical_Flow": {"c": None}}
    database = write(first, second, third)
    assert left(database, frozenset()) == {"a"}
    assert set(flows(database, frozenset())) == {"a", "b"}, "of how many is not known here"


def test_load_balancers_are_left_that_packets_may_be_sent_by(write: Write) -> None:
    database = whole(write)
    division = Division.of(database)

    def vips(*words: str) -> dict[str, Rows]:
        target = database.with_name("part.db")
        division.copy(division.kept(words))(database, target)
        tables = Tables.of(target, "OVN_Southbound")
        return {
            row["_uuid"]: row["vips"] for row in tables.rows("Load_Balancer", ("_uuid", "vips"))
        }

    every = vips("172.30.0.2")
    assert len(every["b"]) == len(every["n"]) == 1
    assert vips("shop_web") == {"b": {}, "n": every["n"]}, "node's addresses are always kept"
    assert vips("10.9.0.9") == vips("shop_web"), "its endpoint is not sent by it"


SETS = {
    "a1": {"name": "web", "addresses": ["set", ["10.9.1.1", "10.9.1.2", "10.9.1.0/28"]]},
    "a2": {"name": "macs", "addresses": ["set", ["10.9.1.1", "10.9.1.2"]]},
    "a3": {"name": "hops", "addresses": ["set", ["100.64.0.2", "10.9.1.2", "10.9.1.3"]]},
    "a4": {"name": "nobody", "addresses": ["set", ["10.9.1.1", "10.9.1.2"]]},
}
ASKING = {
    "web": flow("ip4.src == {$web} && tcp"),
    "hops": {**flow("ip4.dst != $hops"), "actions": "reg0 = 100.64.0.2; next;"},
    "macs": flow("ip4.src/24 == $macs"),
}


def test_address_sets_have_addresses_that_packets_have(write: Write) -> None:
    database = write({**DATABASE, "Address_Set": SETS, "Logical_Flow": ASKING})
    division = Division.of(database)
    target = database.with_name("part.db")

    def left() -> dict[str, list[str]]:
        rows = Tables.of(target, "OVN_Southbound").rows("Address_Set", ("name", "addresses"))
        return {row["name"]: row["addresses"] for row in rows}

    division.copy(division.kept(["10.9.1.1"]))(database, target)
    whole = {row["name"]: row["addresses"][1] for row in SETS.values()}
    assert left() == {
        "web": ["10.9.1.1", "10.9.1.0/28"],
        "hops": ["100.64.0.2", "10.9.1.3"],
        "macs": whole["macs"],
    }
    division.thin(frozenset())(database, target)
    assert left() == {
        "web": ["10.9.1.0/28"],
        "hops": ["100.64.0.2", "10.9.1.3"],
        "macs": whole["macs"],
    }
    missing = division.missing(division.kept(["10.9.1.1"]))
    assert missing("# tcp,nw_src=10.9.1.1,nw_dst=10.9.1.9,nw_tos=0") == frozenset()
    assert missing("# tcp,nw_src=10.9.1.2,nw_dst=10.9.1.9,nw_tos=0") == frozenset({"10.9.1.2"})
    assert missing("    reg0 = 100.64.0.2;") == frozenset(), "none is left out that actions write"
    assert missing("    ip4.src = 0x0a090102;") is None


def test_a_set_that_a_changing_flow_names_is_whole(write: Write) -> None:
    first = {**DATABASE, "Address_Set": SETS, "Logical_Flow": ASKING}
    database = write(first, {"Logical_Flow": {"web": {"match": "ip4.src/24 == $web"}}})
    division = Division.of(database)
    target = database.with_name("part.db")
    division.copy(division.kept(["10.9.1.1"]))(database, target)
    rows = Tables.of(target, "OVN_Southbound").rows("Address_Set", ("name", "addresses"))
    left = {row["name"]: row["addresses"] for row in rows}
    assert left["web"] == SETS["a1"]["addresses"][1]
    assert left["hops"] == ["100.64.0.2", "10.9.1.3"]


def test_a_thin_copy_has_every_flow_that_was_read_nowhere(write: Write) -> None:
    database = whole(write)
    target = database.with_name("part.db")
    division = Division.of(database)

    def left(read: set[int]) -> list[str]:
        division.thin(read)(database, target)
        rows = Tables.of(target, "OVN_Southbound").rows("Logical_Flow", ("_uuid",))
        return [row["_uuid"] for row in rows]

    assert left(set()) == [*FLOWS]
    texts = dict(zip(FLOWS, division.texts, strict=True))
    assert len(set(texts.values())) == len(FLOWS) - 4 + 1
    zonal = [name for name, text in texts.items() if not text]
    assert zonal == ["db", "webs", "all", "nobody"], "they name sets and groups"
    assert left({*texts.values()} - {0, texts["any"]}) == [*zonal, "any"]


@pytest.mark.parametrize(
    ("output", "missed"),
    [
        ('egress(dp="n", inport="router", outport="shop_db")', {"shop_db"}),
        ('    outport = "shop_web";\n    next;', set()),
        ('    /* output to "shop_api", type "" */', {"shop_api"}),
        ("# tcp,nw_src=10.0.0.1,nw_dst=172.30.0.2,nw_tos=0", {"172.30.0.2"}),
        ("    ct_lb_mark(backends=10.9.0.9:80,10.0.0.7:80);", {"10.9.0.9"}),
        ('    outport = "shop_webs";', set()),
        ("    ip4.dst = 10.0.0.1;", set()),
        ("    ip4.dst = 0xac1e0002", None),
        ("        pop(ip4.dst) <- 0xac1e0002", None),
        (" 3. no match (implicit drop)", None),
        (" 3. ls_in_x: no match (implicit drop)", set()),
    ],
)
def test_a_trace_that_mentions_what_flows_were_put_aside_for_may_be_another(
    write: Write, output: str, missed: set[str] | None
) -> None:
    division = Division.of(whole(write))
    assert division.missing(division.kept(["shop_web"]))(output) == missed


def test_addresses_of_the_other_family_are_found_as_they_are_printed(write: Write) -> None:
    vips = [["[fd00::a]:80", "[fd01::1]:8080"]]
    database = write(
        {
            "Load_Balancer": {"b": {"name": "six", "vips": ["map", vips]}},
            "Logical_Flow": {"s": flow("ip6.dst == fd00:0::a"), "e": flow("ip6.dst == fd01::1")},
        }
    )
    division = Division.of(database)
    assert division.kept(["fd00::a"]) == {"fd00::a", "fd01::1"}
    missed = division.missing(frozenset())
    assert missed("# tcp6,ipv6_dst=fd00::a,nw") == frozenset({"fd00::a"})
    assert missed("ct_lb_mark(backends=[fd01::1]:8080);") == frozenset({"fd01::1"})
    assert missed("eth.dst = 0a:58:00:00:00:01; fd00::ab") == frozenset()


def test_only_large_databases_that_can_be_read_are_divided(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = whole(write)
    assert parts.divide(database) is None
    monkeypatch.setattr(parts, "LEAST_BYTES", 0)
    parts.divide.cache_clear()
    division = parts.divide(database)
    assert division is not None
    torn = tmp_path / "torn.db"
    torn.write_bytes(database.read_bytes()[:-9])
    assert parts.divide(torn) is None
    with pytest.raises(EngineError, match=r"torn\.db cannot be read as an OVSDB file"):
        division.copy(frozenset())(torn, tmp_path / "part.db")
    parts.divide.cache_clear()
