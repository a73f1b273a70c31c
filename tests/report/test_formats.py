"""Every format of one run: valid by its own schema or parser, the same counts, hostile names."""

import csv
import dataclasses
import datetime as dt
import io
import json
import lzma
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
from playwright.sync_api import Browser
from prometheus_client.parser import text_string_to_metric_families

from audit.compare.check import check
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.expectations import (
    Checked,
    Exemption,
    Expect,
    Expectation,
    Side,
    Status,
    Violation,
    Where,
)
from audit.model.findings import FAILING, Disagreement, exit_code, recorded
from audit.model.matrix import Cells, Matrix
from audit.model.packets import Protocol
from audit.model.recorded import Recorded
from audit.model.run import StreamedRun
from audit.model.verdicts import CODE, REASON_CODE, VERDICTS, Blame, PolicyRef, Reason, Verdict
from audit.policy.deviations import Causes
from audit.policy.findings import about_drift
from audit.report.census import census, exposures
from audit.report.formats import junit, markdown, plain, prometheus, sarif, structured, terminal
from audit.report.formats.overview import Overview, Result, overview_of
from audit.report.grid import gather
from audit.report.render import render_html
from audit.tracing.follow import disagreement_fields

if TYPE_CHECKING:
    from tests.report.conftest import Made

DATA = Path(__file__).resolve().parent.parent / "data"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "{{7*7}}",
    "a\u202eexe.gpj",
    "x" * 253,
    "🐙]]>&amp;",
    '=cmd|"/c calc"!A1',
    "line\nbreak\r\x00\x1b[31m",
    "`|` **@everyone** [a](javascript:b)",
    '"} 1\naudit_cells{verdict="reachable"} 99',
)
REASONS = {
    Verdict.REACHABLE: Reason.ALLOWED_BY_ACL,
    Verdict.EXITS: Reason.LEFT_BY_GATEWAY,
    Verdict.BLOCKED: Reason.DEFAULT_DENY,
    Verdict.UNROUTABLE: Reason.NO_ROUTE,
    Verdict.INCONCLUSIVE: Reason.BACKENDS_DIFFER,
    Verdict.UNTRACED: Reason.ENGINE_TIMEOUT,
}


class Reader:
    """Cells in memory, in pieces."""

    def __init__(self, cells: Cells, blames: Sequence[Blame]) -> None:
        self._cells, self.blames = cells, tuple(blames)

    def of_source(self, source: int) -> Cells:
        first, last = np.searchsorted(self._cells.src, [source, source + 1]).tolist()
        return self._cells.take(slice(first, last))

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[Cells]:
        for start in range(0, len(self._cells), 50):
            yield self._cells.take(slice(start, start + 50))


def made() -> Recorded:
    """Return a run between pods with hostile names, with every verdict, a finding and drift."""
    endpoints = tuple(
        Endpoint(kind=EndpointKind.POD, namespace=f"ns{number % 3}{name}", name=name)
        for number, name in enumerate(HOSTILE)
    )
    size = len(endpoints)
    src, dst = (axis.ravel() for axis in np.indices((size, size)))
    src, dst = src[src != dst], dst[src != dst]
    verdict = ((src * 5 + dst * 3) % len(VERDICTS)).astype(np.uint8)
    reason = np.array([REASON_CODE[REASONS[VERDICTS[code]]] for code in verdict], np.uint8)
    blame = np.where(verdict == CODE[Verdict.BLOCKED], src % 2, -1).astype(np.int32)
    count = len(src)
    refs = [PolicyRef(kind="NetworkPolicy", namespace=n, name=n) for n in HOSTILE[:2]]
    return Recorded(
        path="run",
        manifest={
            "run_id": "20261125T000000Z-0000",
            "audit": "0.1.0",
            "source": HOSTILE[0],
            "started": "2026-11-25T00:00:00+00:00",
            "finished": "2026-11-25T00:00:09+00:00",
            "planes": ["logical"],
            "counts": {"cells": count},
            "findings": [
                {"kind": "drift", "text": HOSTILE[0], "subjects": list(HOSTILE), "cells": 3},
                {"kind": "selects-nothing", "text": HOSTILE[7], "subjects": [], "cells": 0},
            ],
            "verify": {"agree": 0, "of": 1, "disagreements": [HOSTILE[6]]},
        },
        endpoints=endpoints,
        ports=(Port(protocol=Protocol.TCP, number=80),),
        policies=(),
        cells=Reader(
            Cells(
                src=src.astype(np.int16),
                dst=dst.astype(np.int16),
                family=np.zeros(count, np.int8),
                port=np.zeros(count, np.int16),
                verdict=verdict,
                reply=verdict,
                reason=reason,
                drift=(src == 0).astype(np.uint8),
                blame=blame,
            ),
            [Blame(action="drop", direction="ingress", policy=ref) for ref in refs],
        ),
    )


@pytest.fixture(scope="module")
def run() -> Recorded:
    return made()


@pytest.fixture(scope="module")
def told(run: Recorded) -> Overview:

    expected = (
        Expectation(name=HOSTILE[0], expect=Expect.BLOCKED, where=Where.ACROSS_NAMESPACES),
        Expectation(name=HOSTILE[8], expect=Expect.ANY, by_policy=True),
        Expectation(name="nobody", expect=Expect.BLOCKED, src=Side(namespaces=("none",))),
        Expectation(
            name="exempt",
            expect=Expect.BLOCKED,
            exemptions=(Exemption(reason=HOSTILE[6], src=Side(kinds=(EndpointKind.POD,))),),
        ),
    )
    return overview_of(run, check(run, expected, dt.date(2026, 11, 25), lambda _: None))


def expected_counts(run: Recorded) -> dict[str, int]:
    """Count the cells once more, the plain way."""
    codes = [code for cells in run.cells for code in cells.verdict.tolist()]
    return {str(verdict): codes.count(code) for code, verdict in enumerate(VERDICTS)}


def parsed(told: Overview) -> ET.Element:
    return ET.fromstring(junit.junit(told))  # noqa: S314 - our own


def test_all_formats_state_the_same_counts(run: Recorded, told: Overview) -> None:
    counts = expected_counts(run)
    total = sum(counts.values())
    proven = total - counts["inconclusive"] - counts["untraced"]
    assert min(counts.values()) > 0
    as_json = json.loads(structured.structured(told))
    assert as_json["counts"] == {"cells": total, "proven": proven, "drifting": 8, **counts}
    for verdict, count in counts.items():
        assert sum(one[verdict] for one in as_json["namespaces"]) == count
    assert sum(one["cells"] for one in as_json["blockers"]) == counts["blocked"]
    assert sum(one["cells"] for one in as_json["unproven"]) == total - proven
    properties = {one.get("name"): one.get("value") for one in parsed(told).iter("property")}
    wanted = {"cells": total, "proven": proven, "drifting": 8, **counts}
    assert properties == {name: str(value) for name, value in wanted.items()}
    (log,) = json.loads(sarif.sarif(told))["runs"]
    kept = log["properties"]
    assert (kept["cells"], kept["proven"], kept["drifting"]) == (total, proven, 8)
    assert kept["counts"] == counts
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(prometheus.prometheus(told))
        for sample in family.samples
    }
    for verdict, count in counts.items():
        assert samples["audit_cells", ("verdict", verdict)] == count
    assert samples["audit_cells_proven",] == proven
    assert samples["audit_cells_drifting",] == 8
    page = markdown.markdown(told)
    assert f"{proven} of {total} cells proven, {total - proven} unproven." in page
    for verdict, count in counts.items():
        assert f"| {verdict} | {count} |" in page


def test_the_comment_and_the_page_rank_the_same_namespaces(
    run: Recorded, told: Overview, made: "Made"
) -> None:
    whole = streamed(run, made)
    grid = gather(whole)
    counted = census(grid)
    ranked = [(group, f"{one.passes} of {one.proven}") for group, one in exposures(grid, counted)]
    assert len(ranked) > 3
    page = markdown.markdown(told).partition("Most exposed namespaces")[2]
    rows = [line.split(" | ")[:2] for line in page.splitlines() if " of " in line][1:]
    expected = [[f"| {markdown.escaped(name)}", text] for name, text in ranked]
    assert rows == expected


@pytest.mark.browser
def test_the_page_shows_the_same_counts(
    run: Recorded, told: Overview, browser: Browser, made: "Made", tmp_path: Path
) -> None:
    """What stands on the page in Chromium: its figures, and the cells its map is drawn from."""
    (tmp_path / "report.html").write_text(render_html(streamed(run, made)), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate("window.auditReport.ready")
    counts = expected_counts(run)
    total = sum(counts.values())
    unproven = counts["inconclusive"] + counts["untraced"]
    for verdict, count in counts.items():
        assert page.get_by_test_id(f"counter-{verdict}").locator("b").inner_text() == f"{count}"
    coverage = page.get_by_test_id("coverage").inner_text()
    assert coverage.startswith(f"{total - unproven} cells decided")
    assert f"; {unproven} unproven;" in coverage
    blocks = page.locator("#policy-rows tr td:nth-child(2)").all_inner_texts()
    assert sorted(map(int, blocks)) == sorted(count for _, count in told.blockers)
    text = page.evaluate("window.auditReport.csv()")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for name in told.namespaces:
        mine = [row for row in rows if row["destination"] == name.name]
        shown = tuple(sum(int(row[verdict]) for row in mine) for verdict in VERDICTS)
        assert shown == name.tally.counts
    assert sum(int(row["drift"]) for row in rows) == told.drifting == 8
    page.goto((tmp_path / "report.html").as_uri() + "#ns=*,*")
    page.reload()
    page.evaluate("window.auditReport.ready")
    cells = csv.DictReader(io.StringIO(page.evaluate("window.auditReport.csv()"), newline=""))
    said = [cell["verdict"] for cell in cells]
    assert {verdict: said.count(verdict) for verdict in counts} == counts
    page.close()


def streamed(run: Recorded, made: "Made") -> StreamedRun:
    """Return the same run as the page reads it."""
    return StreamedRun(
        path=run.path,
        manifest=run.manifest,
        endpoints=run.endpoints,
        ports=run.ports,
        policies=run.policies,
        traces=made.traces({}),
        parts=lambda: iter(run.cells),
        blames=lambda: run.cells.blames,
        trace_keys=tuple,
    )


def test_findings_are_as_many_in_each(told: Overview) -> None:
    as_json = json.loads(structured.structured(told))
    (log,) = json.loads(sarif.sarif(told))["runs"]
    assert len(as_json["findings"]) == len(log["results"]) == len(told.results)
    cases = list(parsed(told).iter("testcase"))
    ours = [case for case in cases if case.get("classname") == "audit.expectations"]
    assert len(ours) == len(told.checks) == 4
    failed = sum(case.find("failure") is not None for case in ours)
    assert failed == sum(one.status is not Status.SATISFIED for one in told.checks) == 3


@pytest.mark.parametrize("kinds", [(), ("drift",), ("selects-nothing",), ("drift", "pod-differs")])
@pytest.mark.parametrize("incomplete", [False, True])
@pytest.mark.parametrize("checked", [False, True])
def test_junit_fails_exactly_when_the_exit_code_says_so(
    told: Overview, kinds: tuple[str, ...], *, incomplete: bool, checked: bool
) -> None:
    findings = [{"kind": kind, "text": f"a {kind}", "subjects": [], "cells": 1} for kind in kinds]
    manifest = {**told.manifest, "findings": findings, "notes": [], "incomplete": incomplete}
    results = tuple(
        Result(rule=one.kind, level=str(one.severity), text=one.text, key=(one.text,))
        for one in recorded(manifest)
    )
    checks = told.checks[:1] if checked else ()
    run = dataclasses.replace(told, manifest=manifest, results=results, checks=checks)
    cases = list(parsed(run).iter("testcase"))
    ours = [case for case in cases if case.get("classname") == "audit.run"]
    names = [case.get("name") for case in ours]
    assert names[:2] == ["everything was traced", "every cell is proven"]
    assert names[2:] == sorted(FAILING)
    failed = [case for case in ours if case.find("failure") is not None]
    assert bool(failed) == (not checked and exit_code(manifest) in (1, 3))
    skipped = {str(case.get("name")) for case in ours if case.find("skipped") is not None}
    assert "every cell is proven" in skipped
    whole = parsed(run).find("testsuite")
    assert whole is not None
    assert whole.get("name") == "audit"
    assert int(whole.get("failures", "")) == sum(c.find("failure") is not None for c in cases)


def test_json_is_what_its_schema_says(told: Overview) -> None:
    schema = structured.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(structured.structured(told))
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    assert document["version"] == schema["properties"]["version"]["const"] == structured.VERSION
    del document["counts"]["blocked"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_sarif_is_what_oasis_published(told: Overview) -> None:
    schema = json.loads(lzma.decompress((DATA / "sarif-2.1.0.schema.json.xz").read_bytes()))
    log = json.loads(sarif.sarif(told))
    jsonschema.validate(log, schema, cls=jsonschema.Draft4Validator)
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, schema, cls=jsonschema.Draft4Validator)


def test_sarif_leads_to_the_line_of_the_policy() -> None:
    """The rule that decides first, each policy of a finding in a result of its own, no guess."""
    schema = json.loads(lzma.decompress((DATA / "sarif-2.1.0.schema.json.xz").read_bytes()))
    run = made()
    names = [str(PolicyRef(kind="NetworkPolicy", namespace=n, name=n)) for n in HOSTILE[:2]]
    subjects = ["networkpolicy a/b", "networkpolicy a/c ingress[1]", "networkpolicy no/where"]
    manifest = {
        **run.manifest,
        "findings": [
            {"kind": "selects-nothing", "text": "nobody", "subjects": subjects},
            {"kind": "no-default-deny", "text": "open", "subjects": ["shop"]},
        ],
        "verify": None,
        "source_lines": {
            "networkpolicy a/b": ["my charts/ä.yaml", 7],
            "networkpolicy a/c ingress[1]": ["/elsewhere/c.yaml", 9],
            "namespace shop": ["big.json", 0],
            **{name: ["deny.yaml", number] for number, name in enumerate(names, start=1)},
        },
    }
    run = dataclasses.replace(run, manifest=manifest)
    blocked = Expectation(name="open", expect=Expect.REACHABLE)
    overview = overview_of(run, check(run, [blocked], dt.date(2026, 11, 25), lambda _: None))
    log = json.loads(sarif.sarif(overview))
    jsonschema.validate(log, schema, cls=jsonschema.Draft4Validator)

    def places(result: dict[str, Any]) -> list[tuple[str, int | None]]:
        physical = [location["physicalLocation"] for location in result["locations"]]
        return [
            (at["artifactLocation"]["uri"], at.get("region", {}).get("startLine"))
            for at in physical
        ]

    results = log["runs"][0]["results"]
    placed = {r["message"]["text"]: places(r) for r in results if "/" not in r["ruleId"]}
    assert placed == {
        "networkpolicy a/b: nobody": [("my%20charts/%C3%A4.yaml", 7)],
        "networkpolicy a/c ingress[1]: nobody": [("file:///elsewhere/c.yaml", 9)],
        "nobody (networkpolicy no/where)": [("run.json", None)],
        "open (shop)": [("big.json", None)],
    }
    deciding = {places(r)[0] for r in results if "is blocked (" in r["message"]["text"]}
    assert deciding == {("deny.yaml", 1), ("deny.yaml", 2)}


def test_fingerprints_are_of_workloads_and_not_of_counts(told: Overview) -> None:
    first = told.results[0]

    again = dataclasses.replace(first, cells=99, text="said otherwise")
    other = dataclasses.replace(first, key=("else",))
    assert sarif.fingerprint(first) == sarif.fingerprint(again) != sarif.fingerprint(other)
    assert len({sarif.fingerprint(result) for result in told.results}) == len(told.results)


def drifting(churn: str) -> Overview:
    """Return a run with drift of both kinds between two Deployments' pods, called after `churn`."""
    pods = tuple(
        Endpoint(
            kind=EndpointKind.POD,
            namespace="shop",
            name=f"{name}-{churn}-{number}",
            workload=f"Deployment/{name}",
        )
        for name in ("api", "db")
        for number in range(2)
    )
    src, dst = (axis.ravel().astype(np.int16) for axis in np.indices((4, 4)))
    zeros = np.zeros(16, np.int16)
    matrix = Matrix(
        endpoints=pods,
        ports=(Port(protocol=Protocol.TCP, number=80),),
        src=src,
        dst=dst,
        family=zeros.astype(np.int8),
        port=zeros,
    )
    cells = np.array([2, 3, 6], np.int64)  # api to db
    causes = Causes(cells=cells, cause=np.full(3, -1, np.int8), causes=())
    found = about_drift(
        matrix, causes, np.ones(3, np.bool_), ["networkpolicy shop/db"] * 3, [None] * 3
    )
    disagree = [
        Disagreement(text=f"{matrix.describe(cell)}: blocked, reachable", about=matrix.about(cell))
        for cell in cells.tolist()
    ]
    run = made()
    said = {"agree": 0, "of": 3, **disagreement_fields(disagree)}
    findings = [{**dataclasses.asdict(one), "subjects": list(one.subjects)} for one in found]
    manifest = json.loads(json.dumps({**run.manifest, "findings": findings, "verify": said}))
    return overview_of(dataclasses.replace(run, manifest=manifest))


def test_fingerprints_survive_that_pods_come_anew() -> None:
    one, two = drifting("7d9f8"), drifting("c4b21")
    assert [result.text for result in one.results] != [result.text for result in two.results]
    prints = [{sarif.fingerprint(r): r.rule for r in told.results} for told in (one, two)]
    assert prints[0] == prints[1]
    assert sorted(prints[0].values()) == ["drift", "verification-disagrees"]  # pods of one are one
    assert [result.cells for result in one.results] == [3, 3]


def test_an_expectation_about_nothing_says_which_part_of_it_nothing_fits(told: Overview) -> None:
    (nobody,) = (one for one in told.checks if one.status is Status.EMPTY and one.name == "nobody")
    assert nobody.sentence.endswith("no source of this run matches the expectation's `from`")


def test_hostile_names_are_text_in_markup(told: Overview) -> None:
    parsed(told)
    failures = [case.get("name") for case in parsed(told).iter("testcase")]
    assert HOSTILE[0] in failures
    page = markdown.markdown(told)
    for line in page.splitlines():
        assert not re.search(r"(?<!\\)(<img|\{\{|@everyone|\]\(|\*\*)", line)
    for text in (junit.junit(told), page, prometheus.prometheus(told), plain.plain(told.checks)):
        assert not {char for char in text if not char.isprintable()} - {"\n"}
    assert all(ord(char) < 128 for char in sarif.sarif(told))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ask with `--port tcp/80 | x`, *now*", r"ask with `--port tcp/80 \| x`, \*now\*"),
        ("one ` of @them", r"one \` of \@them"),
        ("``a`` and <b>", r"\`\`a\`\` and \<b\>"),
        ("`@team` and `<img>`", "`@team` and `<img>`"),
    ],
)
def test_what_stands_between_backticks_is_code(text: str, shown: str) -> None:
    assert markdown.escaped(text) == shown


def test_prometheus_has_bounded_labels(told: Overview) -> None:

    namespaces = tuple(
        dataclasses.replace(told.namespaces[0], name=f"n{number}") for number in range(5_000)
    )
    checks = tuple(
        dataclasses.replace(told.checks[0], name=f"e{number}" + "y" * 500)
        for number in range(5_000)
    )
    grown = dataclasses.replace(told, namespaces=namespaces, checks=checks)
    lines = prometheus.prometheus(grown).splitlines()
    assert len(lines) < 350
    series = [line for line in lines if line.startswith("audit_finding_cells{")]
    assert len(series) <= prometheus.MOST_FINDINGS
    assert max(map(len, lines)) < 600
    passing = {
        sample.labels["namespace"]: sample.value
        for family in text_string_to_metric_families("\n".join(lines) + "\n")
        for sample in family.samples
        if sample.name == "audit_namespace_cells_passing"
    }
    assert sum(passing.values()) == 5_000 * told.namespaces[0].tally.passes
    assert "(other)" in passing


def test_markdown_fits_a_comment(told: Overview) -> None:

    many: dict[str, Any] = {
        "namespaces": told.namespaces * 2_000,
        "results": told.results * 2_000,
        "checks": told.checks * 2_000,
        "blockers": told.blockers * 2_000,
    }
    assert len(markdown.markdown(dataclasses.replace(told, **many))) < 65_536


def test_the_terminal_shows_namespaces_in_80_columns(run: Recorded, told: Overview) -> None:
    head, *lines = terminal.matrix(told).splitlines()
    assert max(map(len, (head, *lines))) <= 80
    assert len(lines) == 9  # eight namespaces, and the one with fewest cells as (1 other)
    assert "(1 other)" in lines[-1]
    # One entry, counted the plain way: from the first namespace shown to the second.
    names = sorted({endpoint.namespace for endpoint in run.endpoints})
    left_out = [name for name in names if not any(_shown(name) in line for line in lines)]
    first, second = [name for name in names if name not in left_out][:2]
    codes = [
        VERDICTS[verdict]
        for cells in run.cells
        for src, dst, verdict in zip(cells.src, cells.dst, cells.verdict, strict=True)
        if run.endpoints[src].namespace == first and run.endpoints[dst].namespace == second
    ]
    assert len(codes) == 1
    entry = lines[0][32:38].strip()
    if codes[0] in (Verdict.INCONCLUSIVE, Verdict.UNTRACED):
        assert entry == "-?"
    else:
        assert entry == ("100%" if codes[0] in (Verdict.REACHABLE, Verdict.EXITS) else "0%")


def _shown(name: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in name)[:12]


def violating(name: str, count: int) -> Checked:
    """Return an expectation that `count` pods of one workload do not meet, alike."""
    violations = [
        Violation(
            src=f"pod shop/web-{number}",
            dst="pod data/db-0",
            ports=("tcp/80",),
            verdict=Verdict.EXITS,
            by="",
            cells=1,
        )
        for number in range(count)
    ]
    return checked(name, Status.VIOLATED, "some are not", tuple(violations))


def checked(
    name: str, status: Status, sentence: str, violations: tuple[Violation, ...] = ()
) -> Checked:
    return Checked(
        name=name,
        description="",
        status=status,
        sentence=sentence,
        as_expected=0,
        violating=len(violations),
        unproven=0,
        exempt=0,
        waived=0,
        violations=violations,
        notes=(),
    )


def test_what_is_not_as_expected_is_folded_and_apart_from_findings(run: Recorded) -> None:
    told = overview_of(run, [violating("no-exits", 3)])
    page = markdown.markdown(told)
    folded = "| pod shop/web-0, web-1, web-2 | pod data/db-0 | tcp/80 | exits |  | 3 |"
    assert folded in page.partition("#### Not as expected: no-exits")[2]
    assert "no-exits" not in page.partition("#### Findings")[2]
    line = "pod shop/web-0, web-1, web-2 to pod data/db-0 on tcp/80: exits, 3 cells"
    assert line in junit.junit(told)
    assert line in " ".join(plain.plain(told.checks).split())
    texts = [result.text for result in told.results if result.rule == "expectation/no-exits"]
    assert texts[0] == "no-exits: pod shop/web-0 to pod data/db-0 on tcp/80 leaves OVN"


def test_markdown_says_what_has_the_rest(run: Recorded) -> None:
    told = overview_of(run, [violating(f"e{number}", 1) for number in range(9)])
    assert "… and 5 more expectations: `audit check … -o json` has all." in markdown.markdown(told)


def test_expectations_without_cells_are_asked_about_in_one_run() -> None:
    needs = ("run with --to-ip 192.0.2.1 --port tcp/80", "run with --to-ip all, and label pods", "")
    empty = [checked(f"e{n}", Status.EMPTY, text) for n, text in enumerate(needs)]
    lines = plain.plain([*empty, violating("no-exits", 1)]).splitlines()
    assert " ".join(lines[-3:-1]) == (
        "What 2 of the empty ones ask for, in one run: audit run … --port tcp/80 --to-ip "
        "192.0.2.1 --to-ip all"
    )
    assert lines[-1] == "0 of 4 expectations are satisfied, 1 violated, 3 empty"
    assert "in one run" not in plain.plain(empty[:1])


def test_the_terminal_leaves_out_rows_and_columns_without_cells(told: Overview) -> None:
    a, b, c = (dataclasses.replace(told.namespaces[0], name=name) for name in "abc")
    table = ((0, 1, 2), (0, 0, 0), (0, 0, 0))
    of = dataclasses.replace(told, namespaces=(a, b, c), matrix=table, proven=table, pairs=table)
    assert terminal.matrix(of).splitlines() == [
        "gets through, from / to      [2]   [3]",
        "[1] a                       100%  100%",
        "to  [2] b, [3] c",
    ]
