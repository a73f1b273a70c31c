"""A part of a database lacks the flows that no packet can meet which it is made for."""

import dataclasses
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from audit.errors import EngineError
from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import TraceTask
from audit.replay import parts
from audit.replay.parts import Division
from audit.replay.tables import Row, Tables, record, records
from tests.archives import extract

T = TypeVar("T")
Rows = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory, example_snapshot: Path) -> bytes:
    """Return the schema of OVN's southbound database."""
    root = tmp_path_factory.mktemp("recorded")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root)
    return bytes(next(records((root / "ovn/ovn-worker/sb.db").read_bytes())))


@pytest.fixture
def write(schema: bytes, tmp_path: Path) -> Write:
    """Return what writes a database of some transactions."""

    def write(*transactions: Rows) -> Path:
        path = tmp_path / "sb.db"
        texts = (schema, *(json.dumps(value).encode() for value in transactions))
        path.write_bytes(b"".join(map(record, texts)))
        return path

    return write


_UUID = ["uuid", "d"]


def port(logical: str, key: int, address: str, *, kind: str = "", **ids: str) -> Rows:
    return {
        "logical_port": logical,
        "tunnel_key": key,
        "type": kind,
        "datapath": _UUID,
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
"""By name. Their uuids end with it (`uuid_of`)."""


def uuid_of(name: str) -> str:
    return f"{zlib.crc32(name.encode()):08x}-{name}"


def name_of(uuid: str) -> str:
    return uuid.partition("-")[2]


FILLER = "filler "
ENTERED = ["router"]
"""A port of entry of the datapath that all of them are in."""
IN_IT = frozenset({"connected with d"})


def entering(port: str) -> TraceTask:
    """Return a task whose packet enters by a port, and is for nobody."""
    packet = Microflow(
        inport=port,
        eth_src="0a:58:00:00:00:aa",
        eth_dst="0a:58:00:00:00:ab",
        ip_src="192.0.2.1",
        ip_dst="192.0.2.2",
        protocol=Protocol.TCP,
        src_port=50000,
        dst_port=80,
    )
    return TraceTask(key=port, zone="z", state=ConntrackState.REQUEST, microflow=packet, target="")


def kept(division: Division, *words: str, entries: Iterable[str] = ENTERED) -> frozenset[str]:
    """Return what packets need that enter by ports, and these words."""
    return division.kept(map(entering, entries), words)


def flow(match: str) -> Rows:
    return {"match": match, "actions": "next;", "pipeline": "ingress", "logical_datapath": _UUID}


def whole(write: Write) -> Path:
    return write({**DATABASE, "Logical_Flow": called(FLOWS, flow)})


def called(rows: Mapping[str, T], make: Callable[[T], Rows]) -> Rows:
    """Return rows by their uuids."""
    return {uuid_of(name): make(value) for name, value in rows.items()}


def flows(database: Path, kept: frozenset[str], division: Division | None = None) -> dict[str, Row]:
    """Return the flows of a part by name; those that fill it up are `FILLER` and a number."""
    division = division or Division.of(database)
    target = database.with_name("part.db")
    division.part(kept).copy(database, target)
    tables = Tables.of(target, "OVN_Southbound")
    rows = tables.rows("Logical_Flow", ("_uuid", "match", "actions", "logical_datapath"))
    return {
        f"{FILLER}{number}" if row["match"] == "0" else name_of(row["_uuid"]): row
        for number, row in enumerate(rows)
    }


def left(database: Path, kept: frozenset[str]) -> set[str]:
    """Return the flows of a part that are in a datapath of packets."""
    return {name for name in flows(database, kept) if not name.startswith(FILLER)}


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
        (("inport shop_web",), {"web"}),
        (("outport shop_web",), {"webs"}),
        (("10.0.0.1",), {"webs"}),
        (("outport shop_api",), {"webs"}),
        (("inport shop_api",), set()),
        (("outport shop_db",), {"db"}),
        (("172.30.0.2",), {"service", "endpoint", "db"}),
        (("10.0.0.254",), set()),
        (("unheard-of", ""), set()),
    ],
)
def test_flows_are_left_that_packets_at_these_ports_and_of_these_addresses_can_meet(
    write: Write, words: tuple[str, ...], more: set[str]
) -> None:
    database = whole(write)
    assert left(database, kept(Division.of(database), *words)) == ALWAYS | more


def test_of_what_leads_to_pods_that_is_left_which_packets_are_for(write: Write) -> None:
    mac, other = "0a:58:00:00:00:02", "0a:58:00:00:00:03"
    leading = {
        "hop": 'outport == "router" && reg0 == 10.0.0.2',
        "place": f"eth.dst == {mac}",
        "asked": "arp.tpa == 10.0.0.2 && arp.op == 1",
        "router's": "eth.dst == 0a:58:00:00:00:01",
    }
    ports = {**PORTS, "p2": {**PORTS["p2"], "mac": f"{mac} 10.0.0.2"}}
    ports["p3"] = {**PORTS["p3"], "mac": f"{other} 10.0.0.3"}
    database = write(
        {**DATABASE, "Port_Binding": ports, "Logical_Flow": called(leading, flow)},
    )
    division = Division.of(database)
    assert left(database, kept(division)) == {"router's"}
    assert left(database, kept(division, "10.0.0.3")) == {"router's"}
    assert left(database, kept(division, "outport shop_db")) == {"router's", "place"}
    assert left(database, kept(division, "10.0.0.2")) == leading.keys()
    missing = division.part(kept(division, "10.0.0.3")).missing
    assert missing("    eth.dst = 0a:58:00:00:00:03;") == frozenset()
    assert missing("    eth.dst = 0a:58:00:00:00:02;") == frozenset({mac})
    assert missing("    reg0 = 10.0.0.2;") == frozenset({"10.0.0.2"})
    assert missing("    reg0 = ip4.dst;") == frozenset()
    assert missing("    reg0 = 0xa000002;") is None
    assert missing("    eth.dst = 0xa5800000002;") is None


def test_who_sends_needs_what_it_leaves_by_as_a_packet_to_a_service_may_be_turned_back(
    write: Write,
) -> None:
    division = Division.of(whole(write))
    task = entering("shop_web")
    assert division.kept([task], ()) == {"inport shop_web", *IN_IT}
    to_service = dataclasses.replace(task, to_service=True)
    assert division.kept([to_service], ()) == {"inport shop_web", "outport shop_web", *IN_IT}


def test_flows_that_are_left_keep_their_order_and_are_called_as_before(write: Write) -> None:
    database = whole(write)
    rows = flows(database, IN_IT)
    names = [name for name in FLOWS if name in rows]
    assert {*names} == ALWAYS
    taken = sorted(names, key=lambda name: zlib.crc32(name.encode()) & 7)
    assert [*map(name_of, sorted(row["_uuid"] for row in rows.values()))][:9] == taken, (
        "there are as many places for 14 rows as for 8"
    )
    assert {row["_uuid"][:8] for row in rows.values()} == {f"{place:08x}" for place in range(16)}
    part = Division.of(database).part(IN_IT)
    at = taken.index("any")
    assert part.as_in_whole(f" 0. ls: 1, priority 1, uuid {at:08x}\n    next;\n") == (
        f" 0. ls: 1, priority 1, uuid {uuid_of('any')[:8]}\n    next;\n"
    )


def test_what_is_put_aside_is_in_a_datapath_of_its_own(write: Write) -> None:
    database = whole(write)
    flows(database, IN_IT)
    tables = Tables.of(database.with_name("part.db"), "OVN_Southbound")
    keys = {row["tunnel_key"] for row in tables.rows("Datapath_Binding", ("tunnel_key",))}
    assert keys == {(1 << 24) - 1, (1 << 24) - 2}
    sets = {row["name"] for row in tables.rows("Address_Set", ("name",))}
    assert sets == set(), "the flows that named them are aside"


def test_a_flow_that_is_written_more_than_once_is_left(write: Write) -> None:
    def web(*names: str) -> Rows:
        return called(dict.fromkeys(names, FLOWS["web"]), flow)

    first = {**DATABASE, "Logical_Flow": web("a", "b")}
    second = {"Logical_Flow": {uuid_of("a"): {"match": "1"}, **web("c")}}
    third = {"Logical_Flow": {uuid_of("c"): None}}
    database = write(first, second, third)
    rows = flows(database, IN_IT)
    assert rows["a"]["match"] == "1"
    assert rows["a"]["actions"] == "next;"
    assert left(database, IN_IT) == {"a"}
    assert len(rows) >= 2, "as many as of which a and c have places of their own"


def test_load_balancers_are_left_that_packets_may_be_sent_by(write: Write) -> None:
    database = whole(write)
    division = Division.of(database)

    def vips(*words: str) -> dict[str, Rows]:
        target = database.with_name("part.db")
        division.part(kept(division, *words)).copy(database, target)
        tables = Tables.of(target, "OVN_Southbound")
        return {
            row["_uuid"]: row["vips"] for row in tables.rows("Load_Balancer", ("_uuid", "vips"))
        }

    every = vips("172.30.0.2")
    assert len(every["b"]) == len(every["n"]) == 1
    assert vips("inport shop_web") == {"b": {}, "n": every["n"]}, "node's addresses are always kept"
    assert vips("10.9.0.9") == vips("inport shop_web"), "its endpoint is not sent by it"


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
    database = write({**DATABASE, "Address_Set": SETS, "Logical_Flow": called(ASKING, dict)})
    division = Division.of(database)
    target = database.with_name("part.db")

    def left() -> dict[str, list[str]]:
        rows = Tables.of(target, "OVN_Southbound").rows("Address_Set", ("name", "addresses"))
        return {row["name"]: row["addresses"] for row in rows}

    division.part(kept(division, "10.9.1.1")).copy(database, target)
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
    missing = division.part(kept(division, "10.9.1.1")).missing
    assert missing("# tcp,nw_src=10.9.1.1,nw_dst=10.9.1.9,nw_tos=0") == frozenset()
    assert missing("# tcp,nw_src=10.9.1.2,nw_dst=10.9.1.9,nw_tos=0") == frozenset({"10.9.1.2"})
    assert missing("    reg0 = 100.64.0.2;") == frozenset(), "none is left out that actions write"
    assert missing("    ip4.src = 0x0a090102;") is None


def test_a_set_that_a_changing_flow_names_is_whole(write: Write) -> None:
    first = {**DATABASE, "Address_Set": SETS, "Logical_Flow": called(ASKING, dict)}
    database = write(first, {"Logical_Flow": {uuid_of("web"): {"match": "ip4.src/24 == $web"}}})
    division = Division.of(database)
    target = database.with_name("part.db")
    division.part(kept(division, "10.9.1.1")).copy(database, target)
    rows = Tables.of(target, "OVN_Southbound").rows("Address_Set", ("name", "addresses"))
    left = {row["name"]: row["addresses"] for row in rows}
    assert left["web"] == SETS["a1"]["addresses"][1]
    assert left["hops"] == ["100.64.0.2", "10.9.1.3"]


def test_a_thin_copy_has_a_flow_of_each_text_that_was_read_nowhere(write: Write) -> None:
    database = whole(write)
    target = database.with_name("part.db")
    division = Division.of(database)

    def left(read: set[int]) -> list[str]:
        division.thin(read)(database, target)
        rows = Tables.of(target, "OVN_Southbound").rows("Logical_Flow", ("_uuid",))
        return [name_of(row["_uuid"]) for row in rows]

    alike = {"router", "renamed", "learnt", "uuid", "elsewhere"}
    assert left(set()) == [name for name in FLOWS if name not in alike]
    texts = dict(zip(FLOWS, division.texts, strict=True))
    zonal = [name for name, text in texts.items() if not text]
    assert zonal == ["nobody"], "it names a group that there is not"
    assert len(set(texts.values())) == len(FLOWS) - len(alike)
    assert left({*texts.values()} - {0, texts["any"]}) == [*zonal, "any"]


@pytest.mark.parametrize(
    ("output", "missed"),
    [
        ('egress(dp="n", inport="router", outport="shop_db")', {"outport shop_db"}),
        ('egress(dp="n", inport="shop_web", outport="router")', {"inport shop_web"}),
        (' 0. ls: inport == "shop_web" && tcp, priority 1, uuid 0', {"inport shop_web"}),
        ('    outport = "shop_web";\n    next;', set()),
        (
            '    outport = "shop_web";\n    outport <-> inport;',
            {"inport shop_web"},
        ),
        ('    outport = "shop_web";\n    inport = outport;', {"inport shop_web"}),
        ('    get_fdb("shop_web")', {"inport shop_web"}),
        ('    /* output to "shop_api", type "" */', {"outport shop_api"}),
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
    assert division.part(kept(division, "outport shop_web")).missing(output) == missed


def test_addresses_of_the_other_family_are_found_as_they_are_printed(write: Write) -> None:
    vips = [["[fd00::a]:80", "[fd01::1]:8080"]]
    database = write(
        {
            "Load_Balancer": {"b": {"name": "six", "vips": ["map", vips]}},
            "Logical_Flow": called({"s": "ip6.dst == fd00:0::a", "e": "ip6.dst == fd01::1"}, flow),
        }
    )
    division = Division.of(database)
    assert kept(division, "fd00::a") == {"fd00::a", "fd01::1"}
    missed = division.part(frozenset()).missing
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
        division.part(frozenset()).copy(torn, tmp_path / "part.db")
    parts.divide.cache_clear()


def binding(name: str, datapath: str, **options: str) -> Rows:
    return {
        "logical_port": name,
        "datapath": ["uuid", datapath],
        "options": ["map", [*options.items()]],
    }


def of(column: str, uuid: str) -> Rows:
    return {"match": "tcp", "actions": "next;", "pipeline": "ingress", column: ["uuid", uuid]}


BLUE, ROUTER, HUB, RED, EMPTY = UUIDS = tuple(
    f"{n:08x}-0000-4000-8000-000000000000" for n in range(5)
)
KNOWN_ELSEWHERE = "00000009-0000-4000-8000-000000000000"
NETWORKS: dict[str, Rows] = {
    "Port_Binding": {
        "p1": binding("blue", BLUE),
        "p2": binding("blue-to-router", BLUE, peer="router-to-blue"),
        "p3": binding("router-to-blue", ROUTER),
        "p4": binding("router-chassis", HUB, **{"distributed-port": "router-to-blue"}),
        "p5": binding("red", RED, peer="nobody"),
        KNOWN_ELSEWHERE: binding("red-hop", RED),
    },
    "Multicast_Group": {
        "m1": {"name": "flood", "datapath": ["uuid", BLUE], "ports": ["uuid", "p1"]},
        "m2": {"name": "flood", "datapath": ["uuid", RED], "ports": ["uuid", "p5"]},
    },
    "IGMP_Group": {"i": {"ports": ["set", [["uuid", KNOWN_ELSEWHERE]]]}},
    "Datapath_Binding": {uuid: {"tunnel_key": key} for key, uuid in enumerate(UUIDS, 1)},
    "Logical_DP_Group": {
        "g1": {"datapaths": ["set", [["uuid", ROUTER], ["uuid", RED]]]},
        "g2": {"datapaths": ["uuid", RED]},
        "g3": {"datapaths": ["set", [["uuid", BLUE], ["uuid", RED]]]},
    },
    "Logical_Flow": {
        "blue": of("logical_datapath", BLUE),
        "router": of("logical_datapath", ROUTER),
        "hub": of("logical_datapath", HUB),
        "red": of("logical_datapath", RED),
        "empty": of("logical_datapath", EMPTY),
        "both": of("logical_dp_group", "g1"),
        "reds": of("logical_dp_group", "g2"),
        "lost": of("logical_dp_group", "g9"),
        "nowhere": {"match": "tcp", "actions": "next;", "pipeline": "ingress"},
    },
}
"""Two networks, `blue` with a router, and `red`."""


@pytest.fixture
def networks(write: Write) -> Path:
    flows = called(NETWORKS["Logical_Flow"], dict)
    later = {"Logical_DP_Group": {"g3": {}}, "Port_Binding": {"p5": {"up": True}}}
    return write({**NETWORKS, "Logical_Flow": flows}, later)


UNKNOWN = {"lost", "nowhere"}
JOINED = {"blue", "router", "hub", "both"} | UNKNOWN
REDS = {"red", "both", "reds"} | UNKNOWN


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        (["blue"], JOINED),
        (["router-chassis"], JOINED),
        (["router-to-blue"], JOINED),
        (["red"], REDS),
        (["blue", "red"], JOINED | REDS),
        (["unheard-of"], UNKNOWN),
    ],
)
def test_flows_of_networks_that_no_packet_enters_are_put_aside(
    networks: Path, entries: list[str], left: set[str]
) -> None:
    division = Division.of(networks)
    of_entries = kept(division, entries=entries)
    rows = flows(networks, of_entries)
    assert {name for name, row in rows.items() if row["match"] == "tcp"} == left
    assert division.part(of_entries).missing('ingress(dp="blue")') == frozenset()


def test_networks_that_no_packet_enters_have_no_ports_there(networks: Path) -> None:
    division = Division.of(networks)
    target = networks.with_name("part.db")

    def left(table: str, column: str, *entries: str) -> dict[str, Any]:
        division.part(kept(division, entries=entries)).copy(networks, target)
        rows = Tables.of(target, "OVN_Southbound").rows(table, ("_uuid", column))
        return {row["_uuid"]: row[column] for row in rows}

    every = NETWORKS["Port_Binding"].keys()
    assert left("Port_Binding", "logical_port", "blue").keys() == every - {"p5"}, (
        "one that another row refers to stays"
    )
    reds = {"p5", KNOWN_ELSEWHERE}
    assert left("Port_Binding", "logical_port", "red").keys() == reds
    assert left("Multicast_Group", "name", "blue").keys() == {"m1"}
    assert left("Multicast_Group", "name", "red").keys() == {"m2"}
    groups = left("Logical_DP_Group", "datapaths", "blue")
    assert groups == {"g1": [ROUTER], "g2": RED, "g3": [BLUE, RED]}, (
        "g2 is as it was, since a group without any is another thing, and g3 since it changes"
    )
