"""Waivers: they mark cells and hide none, end on their day, and every format shows them."""

import datetime as dt
import json
import xml.etree.ElementTree as ET
from typing import Any

import jsonschema
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from audit.compare.check import check
from audit.errors import ScopeError
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.expectations import Checked, Expectation, Status
from audit.model.matrix import Cells
from audit.model.options import PACKS
from audit.model.packets import Protocol
from audit.model.recorded import Recorded
from audit.model.selectors import UNSAID
from audit.model.verdicts import CODE, REASON_CODE, Reason, Verdict
from audit.report.formats import junit, markdown, plain, prometheus, sarif, structured
from audit.report.formats.overview import Overview, overview_of
from audit.scope import expectations
from tests.report.test_formats import Reader

TODAY = dt.date(2026, 11, 25)
FILE = """
waivers:
- for: [isolated]
  from: {namespaces: [shop]}
  to: {names: [data/db]}
  reason: until the move
  owner: team-shop
  expires: EXPIRES
expectations:
- name: isolated
  controls: [PCI DSS 4.0.1 1.3.1]
  from: {kinds: [pod]}
  where: across-namespaces
  expect: blocked
"""


def run(verdicts: dict[tuple[str, str], Verdict], labels: dict[str, Any] | None = None) -> Recorded:
    """Return a run of a pod in each of three namespaces; cells that are not given are blocked."""
    names = ("data/db", "shop/web", "test/tool")
    endpoints = tuple(
        Endpoint(kind=EndpointKind.POD, namespace=space, name=name)
        for space, name in (text.split("/") for text in names)
    )
    src, dst = (axis.ravel() for axis in np.indices((3, 3)))
    src, dst = src[src != dst], dst[src != dst]
    pairs = [(names[s], names[d]) for s, d in zip(src, dst, strict=True)]
    code = [CODE[verdicts.get(pair, Verdict.BLOCKED)] for pair in pairs]
    verdict, count = np.array(code, np.uint8), len(src)
    cells = Cells(
        src=src.astype(np.int16),
        dst=dst.astype(np.int16),
        family=np.zeros(count, np.int8),
        port=np.zeros(count, np.int16),
        verdict=verdict,
        reply=verdict,
        reason=np.full(count, REASON_CODE[next(iter(Reason))], np.uint8),
        drift=np.zeros(count, np.uint8),
        blame=np.full(count, -1, np.int32),
    )
    spaces = labels or {name: {} for name in ("data", "shop", "test")}
    return Recorded(
        path="run",
        manifest={"run_id": "r", "findings": [], "labels": {"namespaces": spaces}},
        endpoints=endpoints,
        ports=(Port(protocol=Protocol.TCP, number=80),),
        policies=(),
        cells=Reader(cells, []),
    )


def expected(expires: str = "2026-11-25") -> tuple[Expectation, ...]:
    listed, waivers = expectations.parse(FILE.replace("EXPIRES", expires), "f")
    return expectations.waived(listed, waivers)


def checked(of: Recorded, expires: str = "2026-11-25") -> Checked:
    (result,) = check(of, expected(expires), TODAY, lambda _: None)
    return result


OPEN = {("shop/web", "data/db"): Verdict.REACHABLE}


def test_what_is_waived_is_marked_and_counted_until_the_day_is_over() -> None:
    result = checked(run(OPEN))
    assert (result.status, result.waived, result.violating, result.as_expected) == (
        Status.WAIVED, 1, 0, 5,
    )  # fmt: skip
    (violation,) = result.violations
    assert (violation.src, violation.dst) == ("pod shop/web", "pod data/db")
    assert violation.waiver == "waived by team-shop until 2026-11-25: until the move"
    over = checked(run(OPEN), "2026-11-24")
    assert (over.status, over.waived, over.violating) == (Status.VIOLATED, 0, 1)
    assert over.violations[0].waiver == ""
    (sentence,) = over.expired
    assert "expired on 2026-11-24" in sentence
    assert "team-shop" in sentence
    assert sentence in over.sentence


def test_an_expired_waiver_fails_also_when_no_cell_needs_it() -> None:
    assert checked(run({}), "2026-11-24").status is Status.EXPIRED
    good = checked(run({}))
    assert good.status is Status.SATISFIED
    assert "is not needed" in good.notes[0]


def test_a_waiver_accepts_nothing_else() -> None:
    result = checked(run({**OPEN, ("test/tool", "data/db"): Verdict.EXITS}))
    assert (result.status, result.waived, result.violating) == (Status.VIOLATED, 1, 1)
    result = checked(run({**OPEN, ("data/db", "shop/web"): Verdict.UNTRACED}))
    assert (result.status, result.waived, result.unproven) == (Status.UNPROVEN, 1, 1)
    result = checked(run({("shop/web", "data/db"): Verdict.UNTRACED}))
    assert (result.status, result.waived, result.unproven) == (Status.WAIVED, 1, 0)


@pytest.fixture(scope="module")
def overview() -> Overview:
    of = run({**OPEN, ("test/tool", "data/db"): Verdict.REACHABLE})
    return overview_of(of, check(of, expected("2026-12-31"), TODAY, lambda _: None))


def test_every_format_shows_the_waiver_and_what_it_is_evidence_for(overview: Overview) -> None:
    for text in (
        plain.plain(overview.checks),
        markdown.markdown(overview),
        junit.junit(overview),
        sarif.sarif(overview),
        structured.structured(overview),
    ):
        flat = " ".join(text.replace("\\", "").split())
        for words in ("team-shop", "2026-12-31", "until the move", "PCI DSS 4.0.1 1.3.1"):
            assert words in flat
    document = json.loads(structured.structured(overview))
    jsonschema.validate(document, structured.schema(), cls=jsonschema.Draft202012Validator)
    results = json.loads(sarif.sarif(overview))["runs"][0]["results"]
    levels = {r["level"]: [s["status"] for s in r["suppressions"]] for r in results}
    assert levels == {"note": ["accepted"], "error": []}
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(prometheus.prometheus(overview))
        for sample in family.samples
    }
    assert samples["audit_expectation_satisfied"] == 0
    assert samples["audit_expectation_waived_cells"] == 1
    ends = samples["audit_expectation_waiver_expires_timestamp_seconds"]
    assert dt.datetime.fromtimestamp(ends, dt.UTC).isoformat() == "2026-12-31T23:59:59+00:00"


def test_a_waived_expectation_opens_the_gate() -> None:
    of = run(OPEN)
    overview = overview_of(of, check(of, expected(), TODAY, lambda _: None))
    cases = ET.fromstring(junit.junit(overview)).iter("testcase")  # noqa: S314 - our own
    (case,) = [case for case in cases if case.get("classname") == "audit.expectations"]
    assert [child.tag for child in case] == ["skipped"]
    assert plain.plain(overview.checks).endswith("0 of 1 expectations are satisfied, 1 waived\n")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("  owner: team-shop\n", ""), "line 3, column 3: a waiver needs 'owner'"),
        (("  expires: EXPIRES\n", ""), "a waiver needs 'expires'"),
        (("EXPIRES", "soon"), "'soon' is not a date"),
        (("for: [isolated]", "for: [isolatet]"), "'isolatet', and no expectation is called so"),
        (("for: [isolated]", "for: []"), "the list is empty"),
        (
            ("  from: {namespaces: [shop]}\n  to: {names: [data/db]}\n", ""),
            "would accept everything",
        ),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], complaint: str) -> None:
    text = FILE.replace(*change).replace("EXPIRES", "2027-01-01")
    with pytest.raises(ScopeError) as caught:
        expectations.waived(*expectations.parse(text, "f"))
    assert complaint in str(caught.value)


def test_waivers_may_be_for_a_pack_that_is_not_checked_now() -> None:
    text = FILE.replace("EXPIRES", "2027-01-01").replace("[isolated]", "[pci-1.3.1]")
    listed, waivers = expectations.parse(text, "f")
    assert not expectations.waived(listed, waivers)[0].waivers
    (first, *_) = expectations.waived(expectations.pack("pci-dss"), waivers)
    assert first.waivers == waivers


def test_the_cardholder_data_environment_is_what_is_labelled() -> None:
    labels = {"data": {"pci-dss": "cde-store"}, "shop": {"pci-dss": "cde"}, "test": {}}
    packed = {e.name: e for e in expectations.pack("pci-dss")}
    inside = run({**OPEN, ("data/db", "shop/web"): Verdict.REACHABLE}, labels)
    chosen = [packed["pci-1.3.1"], packed["pci-1.3.2"], packed["pci-1.4.2"]]
    statuses = [c.status for c in check(inside, chosen, TODAY, lambda _: None)]
    assert statuses == [Status.SATISFIED, Status.SATISFIED, Status.EMPTY]
    entered = run({("test/tool", "shop/web"): Verdict.REACHABLE}, labels)
    statuses = [c.status for c in check(entered, chosen[:2], TODAY, lambda _: None)]
    assert statuses == [Status.VIOLATED, Status.SATISFIED]


def test_a_namespace_whose_labels_are_not_known_may_belong_to_it() -> None:
    """Nothing is satisfied, and nothing violated, by whether an unknown label is there."""
    labels = {"data": {"pci-dss": "cde"}, "shop": {}, "test": {UNSAID: UNSAID}}
    (packed, *_) = expectations.pack("pci-dss")
    for verdict in (Verdict.BLOCKED, Verdict.REACHABLE):
        of = run({("test/tool", "data/db"): verdict}, labels)
        (result,) = check(of, [packed], TODAY, lambda _: None)
        assert result.status is Status.UNPROVEN
        assert "not all labels are" in result.notes[0]


@pytest.mark.parametrize("name", PACKS)
def test_packs_say_what_they_need_and_are_evidence_for(name: str) -> None:
    compliance = name in ("cis-kubernetes", "nsa-cisa", "pci-dss")
    for expectation in expectations.pack(name):
        assert expectation.description
        assert bool(expectation.controls) is compliance
