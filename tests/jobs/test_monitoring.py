"""Alerts and the dashboard: as their owners' schemas say, and about metrics that there are."""

import dataclasses
import json
import lzma
import re
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml

from audit.compare.check import check
from audit.report.formats import prometheus
from audit.report.formats.overview import overview_of
from tests.compare.test_waivers import OPEN, TODAY, expected, run
from tests.conftest import REPOSITORY

DATA = REPOSITORY / "tests" / "data"
RULES = yaml.safe_load((REPOSITORY / "jobs/monitoring/rules.yaml").read_text())
BOARD = json.loads((REPOSITORY / "jobs/monitoring/ovn-audit.json").read_text())


def schema(name: str) -> Any:
    return json.loads(lzma.decompress((DATA / f"{name}.schema.json.xz").read_bytes()))


def queries() -> list[str]:
    rules = [rule["expr"] for group in RULES["spec"]["groups"] for rule in group["rules"]]
    return [*rules, *(t["expr"] for panel in BOARD["panels"] for t in panel["targets"])]


def test_the_rules_are_as_the_operator_says() -> None:
    published = schema("prometheusrule")
    # Go's `(?i)` stands where Python allows none.
    group = published["properties"]["spec"]["properties"]["groups"]["items"]["properties"]
    group["partial_response_strategy"]["pattern"] = "^(abort|warn)?$"
    jsonschema.validate(RULES, published)
    spoilt = {**RULES, "spec": {"groups": [{"name": "a", "rules": [{"alert": "A"}]}]}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, published)
    names = [rule["alert"] for group in RULES["spec"]["groups"] for rule in group["rules"]]
    assert len(names) == len(set(names))


def test_the_dashboard_is_as_grafana_says() -> None:
    published = schema("grafana-dashboard")
    # Grafana's own source has `_` for these two, anything: an override's matcher and value.
    published["definitions"]["MatcherConfig"]["properties"]["options"] = {}
    published["definitions"]["DynamicConfigValue"]["properties"]["value"] = {}
    jsonschema.validate(BOARD, published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**BOARD, "panels": [{"kind": "stat"}]}, published)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_panels_do_not_cover_each_other() -> None:
    taken = set[tuple[int, int]]()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        squares = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not squares & taken, panel["title"]
        assert max(x for x, _ in squares) < 24
        taken |= squares


@pytest.mark.parametrize("query", queries())
def test_queries_are_promql(query: str) -> None:
    promql_parser.parse(query.replace("$instance", ".*"))


def test_queries_are_about_metrics_and_labels_that_there_are() -> None:
    of = run(OPEN)
    manifest = {**of.manifest, "finished": "2026-11-25T00:00:00+00:00"}
    overview = overview_of(of, check(of, expected("2026-12-31"), TODAY, lambda _: None))
    text = prometheus.prometheus(dataclasses.replace(overview, manifest=manifest))
    written = set(re.findall(r"^# TYPE (\w+)", text, flags=re.MULTILINE))
    queried = {name for query in queries() for name in re.findall(r"\baudit_\w+", query)}
    assert queried <= written
    assert 'audit_info{version="",cluster="",source=""} 1' in text
    labels = set(re.findall(r'(\w+)="', text)) | {"instance"}
    for query in queries():
        assert set(re.findall(r"(\w+)=~?\"", query)) <= labels, query
