"""What cookies stand for, against what the real ovn-detrace said of 300 recorded traces.

The program's own quirks are taken out of its words first: it strips quotation marks from the end of
a match, and it goes on about chassis, networks and addresses, which name nothing.
"""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.facts.origins import read_origins
from audit.model.origins import Origin, Origins, prefix_of, sources
from audit.replay import databases
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from audit.trace.detrace import Detracer
from tests.conftest import REPOSITORY
from tests.facts.test_ovn import insert, make

pytestmark = pytest.mark.ovn

ANSWERS = {
    "global": REPOSITORY / "tests/data/ovn-23.03-central-detrace.jsonl.gz",
    "ovn-worker": REPOSITORY / "tests/data/ovn-25.03-interconnect-detrace.jsonl.gz",
}
"""By a zone that the recorded cluster has."""


def answers_of(cluster: Path) -> list[dict[str, Any]]:
    [answers] = [path for zone, path in ANSWERS.items() if (cluster / "ovn" / zone).is_dir()]
    with gzip.open(answers, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row["said"] = [line for line in row.get("said", ()) if _names_a_row(line)]
    return rows


def _names_a_row(line: str) -> bool:
    return not line.startswith("Logical datapath")


def in_its_words(rows: tuple[Origin, ...]) -> list[str]:
    """Return everything we know of a cookie, one line per row."""
    ours = [text for row in rows for text in (row.text, *(s.text for s in row.sources))]
    return sorted(plain(text) for text in ours)


def plain(line: str) -> str:
    """Return a line without what ovn-detrace adds, or takes away."""
    line = re.sub(r"^(Port Binding: .* tunnel_key \d+),.*", r"\1", line)
    line = re.sub(r"^(Logical Router Port: .*) networks .*", r"\1", line)
    line = re.sub(r"^(Logical Switch Port: .*) \(addresses .*", r"\1", line)
    line = re.sub(r"^(Route: .*) \(port .*", r"\1", line)
    return line.replace('"), ', "), ").replace('=("', "=(")


def cookies_in(traces: list[dict[str, Any]]) -> set[int]:
    return {int(cookie, 16) for trace in traces for cookie in trace["cookies"]}


@pytest.fixture
def origins(recorded: Path, reader: OvsdbTool) -> Callable[[str, set[int]], Origins]:
    def read(zone: str, cookies: set[int]) -> Origins:
        place = recorded / "ovn" / zone
        return read_origins(reader, place / "nb.db", place / "sb.db", cookies)

    return read


def test_every_recorded_cookie_stands_for_what_ovn_detrace_said(
    recorded: Path, origins: Callable[[str, set[int]], Origins]
) -> None:
    answers = answers_of(recorded)
    said = [row for row in answers if "cookie" in row]
    traces = [row for row in answers if "cookies" in row]
    assert len(traces) == 150
    for zone in {row["zone"] for row in said}:
        mine = [row for row in said if row["zone"] == zone]
        known = origins(zone, {int(row["cookie"], 16) for row in mine})
        theirs = {row["cookie"]: sorted(map(plain, row["said"])) for row in mine}
        ours = {cookie: in_its_words(known.of(int(cookie, 16))) for cookie in theirs}
        assert ours == theirs
        # And so for every trace, the ACLs in order: those of its cookies.
        acls = 0
        for trace in (trace for trace in traces if trace["zone"] == zone):
            hit = [cookie for cookie in trace["cookies"] if _acls(theirs[cookie])]
            named = [_acls(in_its_words(known.of(int(cookie, 16)))) for cookie in hit]
            assert named == [_acls(theirs[cookie]) for cookie in hit]
            acls += len(hit)
        assert acls


def _acls(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("ACL: ")]


def test_the_real_program_names_the_same_rows(
    recorded: Path, toolchain: Toolchain, origins: Callable[[str, set[int]], Origins]
) -> None:
    traces = [row for row in answers_of(recorded) if "trace" in row]
    zone = traces[0]["zone"]
    mine = [trace for trace in traces if trace["zone"] == zone]
    known = origins(zone, cookies_in(mine))
    detracer = Detracer(programs=toolchain, serve=lambda a, b: databases.serve(toolchain, a, b))
    place = recorded / "ovn" / zone
    outputs = detracer.run(place / "nb.db", place / "sb.db", [trace["trace"] for trace in mine])
    for trace, output in zip(mine, outputs, strict=True):
        blocks = said_by_cookie(output)
        assert [cookie for cookie, _ in blocks] == trace["cookies"]
        for cookie, lines in blocks:
            assert in_its_words(known.of(int(cookie, 16))) == sorted(map(plain, lines))


def said_by_cookie(output: str) -> list[tuple[str, list[str]]]:
    """Split ovn-detrace's output into the lines below each cookie, without datapaths."""
    blocks: list[tuple[str, list[str]]] = []
    for line in output.splitlines():
        if found := re.match(r".*cookie[ =]0x([0-9a-fA-F]+)", line):
            blocks.append((found[1], []))
        elif re.match(r" {2,3}\* \S", line) and not line.startswith("  *     "):
            said = line.strip().removeprefix("* ")
            blocks[-1][1].extend([said] if _names_a_row(said) else [])
    return blocks


def test_owners_are_kubernetes_objects(
    recorded: Path, origins: Callable[[str, set[int]], Origins]
) -> None:
    traces = [row for row in answers_of(recorded) if "cookies" in row]
    owners = set()
    for zone in {trace["zone"] for trace in traces}:
        mine = [trace for trace in traces if trace["zone"] == zone]
        rows = [row for found in origins(zone, cookies_in(mine)).rows.values() for row in found]
        owners |= {source.owner for row in rows for source in row.sources}
        assert all(row.owner for row in sources(rows) if row.table == "ACL")
    assert "networkpolicy default/web-allow-prod ingress[0]" in owners
    assert "default deny of namespace default, ingress" in owners
    assert any(owner.startswith("pod default/web-") for owner in owners)


def test_a_prefix_that_several_rows_share_keeps_all_of_them(
    reader: OvsdbTool, toolchain: Toolchain, tmp_path: Path
) -> None:
    acl = "0badcafe-0000-4000-8000-00000000000"
    owner = {
        "k8s.ovn.org/owner-type": "NetworkPolicy",
        "k8s.ovn.org/id": "default-network-controller:NetworkPolicy:shop:web:Ingress:1:None:-1",
        "k8s.ovn.org/name": "shop:web",
        "direction": "Ingress",
        "gress-index": "1",
    }
    fields = {"direction": "to-lport", "priority": 1001, "action": "allow-related"}
    acls = [
        insert("ACL", **fields, match=match, external_ids=ids) | {"uuid": f"{acl}{number}"}
        for number, (match, ids) in enumerate((("tcp", owner), ("udp", {})))
    ]
    # An ACL is garbage unless a switch holds it.
    held = ["set", [["uuid", row["uuid"]] for row in acls]]
    switch = insert("Logical_Switch", name="s")
    switch["row"]["acls"] = held
    balancer = insert(
        "Load_Balancer",
        name="Service_shop/web_TCP_cluster",
        external_ids={"k8s.ovn.org/kind": "Service", "k8s.ovn.org/owner": "shop/web"},
    ) | {"uuid": "0badcafe-0000-4000-8000-000000000009"}
    northbound = make(toolchain, tmp_path / "nb.db", *acls, switch, balancer)
    flows = [
        insert(
            "Logical_Flow",
            pipeline="egress",
            table_id=number,
            priority=2001,
            match=f"m{number}",
            actions="next;",
            external_ids={"stage-name": "ls_out_acl_eval", "stage-hint": "0badcafe"},
        )
        | {"uuid": f"00000abc-0000-4000-8000-00000000000{number}"}
        for number in (1, 2)
    ]
    southbound = make(toolchain, tmp_path / "sb.db", *flows)
    found = read_origins(reader, northbound, southbound, {0xABC, 0xDEF})
    assert [row.text.split(",")[0] for row in found.of(0xABC)] == [
        "Logical flow: table=1 (ls_out_acl_eval)",
        "Logical flow: table=2 (ls_out_acl_eval)",
    ]
    for row in found.of(0xABC):
        assert [source.owner for source in row.sources] == [
            "networkpolicy shop/web ingress[1]",
            "",
            "service shop/web",
        ]
    assert found.of(0xDEF) == found.of(0) == ()
    assert prefix_of(0xABC) == "00000abc"
    assert read_origins(reader, northbound, southbound, set()).of(0xABC) == ()
