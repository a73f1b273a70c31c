"""A cell for programs: the columns' names, and its traces."""

import json
from typing import TYPE_CHECKING

import pytest

from audit.model.run import Run
from audit.model.verdicts import NO_VERDICT, REASONS, VERDICTS
from audit.report import cells
from tests.report.named import find_cell

if TYPE_CHECKING:
    from tests.report.conftest import Made


@pytest.fixture
def run(made: "Made") -> Run:
    return made.shop(1)


def test_the_fields_are_the_columns(run: Run) -> None:
    for cell in range(len(run.matrix)):
        told = cells.fields(run, cell, raw=False)
        verdicts = run.verdicts
        assert told["verdict"] == VERDICTS[verdicts.verdict[cell]]
        assert told["reason"] == REASONS[verdicts.reason[cell]]
        reply = int(verdicts.reply[cell])
        assert told["reply"] == (None if reply == NO_VERDICT else VERDICTS[reply])
        src, dst = told["src"], told["dst"]
        assert find_cell(run, src, dst, told["port"], told["family"]) == cell
        assert json.loads(json.dumps(told)) == told


def test_who_decided(run: Run) -> None:
    cell = find_cell(run, "shop/front-0", "payments/api-0", "80", None)
    told = cells.fields(run, cell, raw=False)
    assert told["blame"] == "networkpolicy payments/api-from-shop ingress"
    assert (told["blame_kind"], told["blame_namespace"]) == ("NetworkPolicy", "payments")
    assert (told["blame_name"], told["blame_direction"]) == ("api-from-shop", "ingress")
    assert told["blame_rule"] is None
    assert len(told["policies"]) == 2


def test_the_traces_are_the_requests_then_the_replies(run: Run) -> None:
    cell = find_cell(run, "shop/front-0", "shop/cart-0", "80", None)
    told = cells.fields(run, cell, raw=True)
    assert [trace["conntrack"] for trace in told["traces"]] == ["new", "new", "est,rpl"]
    assert all("ls_in_check_port_sec" in trace["raw"] for trace in told["traces"])
    assert all("raw" not in trace for trace in cells.fields(run, cell, raw=False)["traces"])
    assert {"acl", "acl_match", "logical_flow", "stage"} <= set(told["traces"][0])


def test_the_engines_own_words(run: Run, made: "Made") -> None:
    cell = find_cell(run, "shop/front-0", "shop/cart-0", "80", None)
    raw = cells.raw_text(run, cell)
    # The reply of a synthetic run has no microflow, as the name of a headless service has none.
    assert raw.count("\n=== zone ") == 2
    assert 'ingress(dp="worker-a"' in raw
    untraced = made.shop(1, traced=False)
    assert cells.raw_text(untraced, cell) == ""
    assert cells.traces_of(untraced, cell) == ()
