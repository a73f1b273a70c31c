"""What two runs do not share is said, is no change, and never ends in a clean exit."""

from typing import Any

import numpy as np
import pytest

from audit.compare import common, diff
from audit.errors import ExitCode
from audit.model.changes import Changes
from audit.model.recorded import Recorded
from audit.model.verdicts import CODE, Verdict
from audit.report import changes
from tests.compare.test_compare import pod, port, run

REACHABLE, BLOCKED, UNTRACED = (
    CODE[verdict] for verdict in (Verdict.REACHABLE, Verdict.BLOCKED, Verdict.UNTRACED)
)
ENDS = (pod("a"), pod("b"))
SAME: dict[str, Any] = {
    "planes": ["intent", "logical"],
    "scope": {"ports": ["tcp/80"], "family": "ip4"},
    "cluster": "one",
    "labels": {"complete": True, "nodes": {"a": {}}},
}


def recorded(verdict: int = BLOCKED, **said: Any) -> Recorded:
    return run(ENDS, (port(80),), {(0, 1, 0): verdict}, **{**SAME, **said})


def compared(before: Recorded, after: Recorded, *, asked: bool = True) -> Changes:
    masks = np.full(len(before.endpoints), asked), np.full(len(after.endpoints), asked)
    shared = common.restricted(before, after, masks)
    return diff.compare(before, after, lambda _: None, shared=shared)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({}, ""),
        ({"planes": ["logical", "intent"]}, ""),
        ({"scope": {"family": "ip4", "ports": ["tcp/80"]}}, ""),
        ({"planes": ["intent"]}, "only what the intent plane says was compared"),
        ({"planes": ["datapath"]}, "they have no plane in common"),
        ({"scope": {"ports": ["tcp/80", "tcp/81"]}}, "different scopes (family ip4, then not"),
        ({"scope": {**SAME["scope"], "from": {"selector": "a=b"}}}, "from.selector not given, th"),
        ({"cluster": "two"}, "different clusters (namespace kube-system has another uid)"),
        ({"cluster": None, "labels": {"nodes": {"b": {}}}}, "clusters (they share no node)"),
        ({"cluster": None}, ""),
        ({"labels": {"complete": False}}, "is of manifests and run of a cluster"),
        (
            {"notes": [{"code": "namespaces-missing", "subjects": ["x"]}]},
            "lacks namespaces which that of",
        ),
    ],
)
def test_what_the_runs_do_not_share_is_a_sentence_and_exit_code_3(
    said: dict[str, Any], part: str
) -> None:
    for before, after in ((recorded(), recorded(**said)), (recorded(**said), recorded())):
        found = compared(before, after)
        assert found.exit_code == (ExitCode.INCOMPLETE if part else ExitCode.CLEAN)
    found = compared(recorded(), recorded(**said))
    assert part in " ".join(found.limits)
    assert bool(found.limits) == bool(part)
    told = changes.plain(found).splitlines(), changes.sentences(found)
    assert all({*found.limits} <= {*lines} for lines in told)
    lines = changes.markdown(found).splitlines()
    assert sum(line.startswith(("run ", "Nothing was")) for line in lines) == len(found.limits)


def test_what_changed_is_a_change_also_where_not_all_was_compared() -> None:
    found = compared(recorded(), recorded(REACHABLE, cluster="two"))
    assert (found.exit_code, found.counts["opened"]) == (ExitCode.FINDINGS, 1)


def test_without_a_common_plane_nothing_is_compared() -> None:
    found = compared(recorded(), recorded(REACHABLE, planes=["datapath"]))
    assert (found.compared, found.paths, found.unmatched_before) == (0, (), 1)
    assert changes.plain(found).startswith("nothing was compared")
    assert "### Connectivity: nothing was compared" in changes.markdown(found)


def test_what_is_unproven_in_both_says_nothing() -> None:
    found = compared(recorded(UNTRACED), recorded(UNTRACED))
    assert (found.compared, found.proven, found.exit_code) == (1, 0, ExitCode.INCOMPLETE)
    assert "No cell is proven in both" in changes.plain(found)


def test_what_the_other_run_did_not_ask_about_is_neither_new_nor_gone() -> None:
    more = run((*ENDS, pod("c")), (port(80),), {(0, 1, 0): BLOCKED, (0, 2, 0): BLOCKED}, **SAME)
    assert compared(recorded(), more).appeared == ("pod shop/c",)
    assert compared(more, recorded()).vanished == ("pod shop/c",)
    for before, after, outside in ((recorded(), more, (0, 1)), (more, recorded(), (1, 0))):
        found = compared(before, after, asked=False)
        assert (found.appeared, found.vanished, found.out_of_scope) == ((), (), outside)
        earlier, later = ("earlier", "later") if outside[0] else ("later", "earlier")
        text = f"1 workload of the {earlier} run is outside the {later} run's scope"
        assert f"{text}; it is not compared." in changes.plain(found)


@pytest.mark.parametrize(
    "said",
    [
        {"labels": {"complete": False}},
        {"notes": [{"code": "namespaces-missing", "subjects": ["shop"]}]},
    ],
)
def test_what_manifests_or_a_partial_snapshot_lack_is_not_gone(said: dict[str, Any]) -> None:
    more = run((*ENDS, pod("c")), (port(80),), {(0, 1, 0): BLOCKED}, **SAME)
    part = recorded(**said)
    assert (compared(more, part).vanished, compared(part, more).appeared) == ((), ())
