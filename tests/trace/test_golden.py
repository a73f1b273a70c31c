"""Real traces of small networks: the parser reads out of them what the networks were built to do.

`golden/make.py` records them; nothing here is rebuilt by itself.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from audit.model.traces import Hop
from audit.trace import tree, walk

GOLDEN = Path(__file__).resolve().parent / "golden"
FILES = {"asked.json", "hop.json", "trace.txt"}
RELEASES = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
CASES = sorted(path for release in RELEASES for path in release.iterdir() if path.is_dir())


def _name(case: Path) -> str:
    return f"{case.parent.name}/{case.name}"


def _read(case: Path) -> tuple[Hop, str]:
    asked = json.loads((case / "asked.json").read_text())
    text = (case / "trace.txt").read_text()
    hop = walk.read(
        tree.parse(text), target=asked["target"], select=asked["select"], draws=asked["draws"]
    )
    return hop, text


def test_nothing_is_missing_and_nothing_is_left_over() -> None:
    assert [release.name for release in RELEASES] == ["ovn-23.03", "ovn-25.03", "ovn-26.03"]
    assert {path.name for path in GOLDEN.iterdir() if path.is_file()} == {"README.md", "make.py"}
    for release in RELEASES:
        assert [path.name for path in release.iterdir() if path.is_file()] == ["sb.db.gz"]
    for case in CASES:
        assert {path.name for path in case.iterdir()} == FILES, case


def test_a_newer_release_knows_every_case_of_the_older_ones() -> None:
    older, newer, newest = ({case.name for case in release.iterdir()} for release in RELEASES)
    assert older < newer < newest
    assert all(name.startswith("tier-") for name in newer - older)
    assert all(name.startswith(("mirrored", "lb-distributed")) for name in newest - newer)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_real_trace_says_what_the_network_was_built_to_do(case: Path) -> None:
    expected: dict[str, Any] = json.loads((case / "hop.json").read_text())
    hop, text = _read(case)
    match = expected.pop("acl_match", None)
    priority = expected.pop("acl_priority", None)
    for line, port in expected.pop("port_by_line", {}).items():
        if line in text:
            expected["port"] = port
    found = {name: getattr(hop, name) for name in expected}
    if "acls" in found:
        found["acls"] = [[acl.stage, acl.action] for acl in hop.acls]
    found = {
        name: list(value) if isinstance(value, tuple) else value for name, value in found.items()
    }
    assert found == expected
    if match is not None:
        acl = hop.acls[-1]
        flow = next(line for line in text.splitlines() if f"uuid {acl.logical_flow}" in line)
        assert match in flow
        assert f"{acl.stage} (" in flow
        assert f", priority {acl.priority}, " in flow
    if priority is not None:
        assert hop.acls[-1].priority == priority


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_end_is_a_logical_flow_of_the_trace(case: Path) -> None:
    hop, text = _read(case)
    pattern = rf"^ *\d+\. {hop.stage} .*, priority \d+, uuid {hop.logical_flow}$"
    assert re.search(pattern, text, re.MULTILINE)
    assert not walk.ran_out_of_states(text)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_real_trace_cut_off_anywhere_is_never_output_where_the_whole_is_not(case: Path) -> None:
    asked = json.loads((case / "asked.json").read_text())
    whole, text = _read(case)
    target = asked["target"] or whole.port or "p2"
    reading = {"target": target, "select": asked["select"], "draws": asked["draws"]}
    arrives = walk.read(tree.parse(text), **reading).end == "output"
    lines = text.splitlines()
    reached = False
    for count in range(len(lines) + 1):
        try:
            hop = walk.read(tree.parse("\n".join(lines[:count])), **reading)
        except tree.TraceSyntaxError:
            continue
        if hop.end == "output" and hop.port == target:
            reached = True
            assert arrives
            assert any(f'/* output to "{target}", type ' in line for line in lines[:count])
        else:
            assert not reached, "once there, further lines cannot take it back"
