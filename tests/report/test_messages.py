"""Exit code 1 and a sentence come together: on the terminal and in every format."""

import dataclasses
import html
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from audit.cli import run as command
from audit.commands.report import Outcome
from audit.errors import ExitCode
from audit.model import findings
from audit.model.facts import Note
from audit.model.findings import FAILING, Disagreement, Finding, FindingKind, Severity
from audit.report import messages
from audit.report.formats import junit, markdown, prometheus, sarif, structured
from audit.report.formats.overview import overview_of
from tests.report.parts import render_html
from tests.report.test_formats import made as recorded

if TYPE_CHECKING:
    from tests.report.conftest import Made

TEXT = "pod a/one to pod a/two on tcp/80 is not as it should be"
NOTES = [
    Note(code="pod-finished", text="2 pods completed").fields(),
    Note(code="zone-torn", text="a zone is torn").fields(),
]


def outcome(**manifest: Any) -> Outcome:
    return Outcome(path=Path(), report=Path(), manifest=manifest, unproven=())


def listed(kind: str, text: str = TEXT, count: int = 1) -> list[dict[str, Any]]:
    return [
        Finding(kind=kind, text=f"{text}{number or ''}", cells=1, about=(str(number),)).fields(9)
        for number in range(count)
    ]


@pytest.mark.parametrize("kind", FindingKind)
def test_an_error_ends_a_run_with_1_and_is_said_everywhere(
    kind: FindingKind, made: "Made", capsys: pytest.CaptureFixture[str]
) -> None:
    done = outcome(findings=listed(kind), notes=NOTES)
    failing = kind in FAILING
    assert done.exit_code is (ExitCode.FINDINGS if failing else ExitCode.CLEAN)
    command._print_messages(done.manifest)  # noqa: SLF001 - what the terminal shows
    level = "error" if failing else "warning"
    assert capsys.readouterr().out.splitlines()[1] == f"{level}: {TEXT}"
    run = recorded()
    told = overview_of(
        dataclasses.replace(run, manifest={**run.manifest, **done.manifest, "verify": None})
    )
    (as_json,) = json.loads(structured.structured(told))["findings"]
    assert (as_json["level"], as_json["text"]) == (level, TEXT)
    assert f"{level}: {TEXT}" in markdown.markdown(told).replace("\\", "")
    (result,) = json.loads(sarif.sarif(told))["runs"][0]["results"]
    assert (result["level"], result["message"]["text"]) == (level, TEXT)
    failures = [
        case.findtext("failure")
        for case in ET.fromstring(junit.junit(told)).iter("testcase")  # noqa: S314 - our own
    ]
    assert (TEXT in failures) is failing  # a warning is no failed case
    families = text_string_to_metric_families(prometheus.prometheus(told))
    series = [s.labels for f in families if f.name == "audit_finding_cells" for s in f.samples]
    assert series == [{"level": level, "kind": str(kind), "cause": ""}]
    shop = made.shop()
    shown = dataclasses.replace(shop, manifest={**shop.manifest, **done.manifest})
    assert TEXT in html.unescape(render_html(shown))


@pytest.mark.parametrize("kind", sorted(FAILING))
def test_no_run_ends_with_1_that_has_nothing_to_say(kind: FindingKind) -> None:
    assert outcome(findings=[]).exit_code is ExitCode.CLEAN
    assert outcome(findings=[], incomplete=True).exit_code is ExitCode.INCOMPLETE
    assert outcome(findings=listed(kind), incomplete=True).exit_code is ExitCode.FINDINGS
    with pytest.raises(TypeError):
        Outcome(  # type: ignore[call-arg]
            path=Path(), report=Path(), manifest={}, unproven=(), exit_code=ExitCode.FINDINGS
        )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("drift", FindingKind.DATAPATH_DRIFT),
        ("verify", FindingKind.VERIFICATION),
        ("prediction", FindingKind.PREDICTION),
        ("packets", FindingKind.PACKETS),
    ],
)
def test_what_an_earlier_version_counted_only_is_a_finding(name: str, kind: FindingKind) -> None:
    manifest = {name: {"of": 9, "agree": 8, "disagreements": [TEXT]}, "findings": []}
    (found,) = findings.recorded(manifest)
    assert (found.kind, found.severity, TEXT in found.text) == (kind, Severity.ERROR, True)
    assert findings.exit_code(manifest) is ExitCode.FINDINGS


def test_findings_that_an_earlier_version_listed_as_notes_are_said_once() -> None:
    finding = {"kind": "selects-nothing", "text": "1 policy", "subjects": [], "cells": 0}
    note = {"code": "selects-nothing", "text": "1 policy", "subjects": []}
    said = messages.messages({"findings": [finding], "notes": [note, *NOTES]})
    assert [(one.severity, one.text) for one in said] == [
        ("warning", "1 policy"),
        ("warning", "a zone is torn"),
        ("note", "2 pods completed"),
    ]
    assert messages.counted(said) == "2 warnings, 1 note"


@pytest.mark.parametrize(
    ("names", "ending"),
    [
        (["x/a"], " (networkpolicy x/a)"),
        (
            ["x/a", "x/b", "y/a", "y/b", "y/c"],
            " (networkpolicy x/a, networkpolicy x/b, networkpolicy y/a and 2 more)",
        ),
        (
            [f"x/{n}" for n in range(findings.MOST_SUBJECTS)],
            " (networkpolicy x/0, networkpolicy x/1, networkpolicy x/2 and others)",
        ),
    ],
)
def test_a_sentence_that_stands_alone_names_what_it_counts(
    names: list[str], ending: str, made: "Made"
) -> None:
    """Beside a list of subjects it only counts them."""
    subjects = tuple(f"networkpolicy {name}" for name in names)
    text = "policies that select no pod"
    finding = Finding(kind=FindingKind.SELECTS_NOTHING, text=text, subjects=subjects)
    manifest = {"findings": [finding.fields(findings.MOST_SUBJECTS)], "verify": None}
    assert [message.text for message in messages.messages(manifest)] == [f"{text}{ending}"]
    assert [message.text for message in messages.findings_of(manifest)] == [text]
    run = recorded()
    told = overview_of(dataclasses.replace(run, manifest={**run.manifest, **manifest}))
    assert f"warning: {text}{ending}" in markdown.markdown(told).replace("\\", "")
    (result,) = json.loads(sarif.sarif(told))["runs"][0]["results"]
    assert result["message"]["text"] == f"{text}{ending}"
    (as_json,) = json.loads(structured.structured(told))["findings"]
    assert as_json["text"] == text
    shop = made.shop()
    page = html.unescape(
        render_html(dataclasses.replace(shop, manifest={**shop.manifest, **manifest}))
    )
    assert text in page
    assert f"{text} (" not in page


def test_what_is_alike_is_said_a_few_times_and_counted() -> None:
    said = messages.messages({"findings": listed("datapath-drift", count=9)})
    assert len(said) == messages.MOST_ALIKE
    assert said[-1].text == f"{TEXT}2; and 6 more like it"
    assert messages.counted(said) == "9 errors"


def test_disagreements_about_the_same_are_one_and_all_are_counted() -> None:
    same = [Disagreement(text=f"{n}", about=("workload",), cause="lost") for n in range(60)]
    found = findings.of_disagreements(FindingKind.DATAPATH_DRIFT, same, count=90)
    assert [one.cells for one in found] == [50, 40]
    assert found[0].cause == "lost"
    assert not findings.of_disagreements(FindingKind.PACKETS, ())
