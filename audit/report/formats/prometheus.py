"""Prometheus' text format, for node_exporter's textfile collector or a Pushgateway.

The number of series is bounded whatever the cluster is: labels are verdicts, expectations' names,
the kinds and causes of findings, and the MOST_NAMESPACES namespaces that most gets through to; the
rest are summed under `other`. No label counts anything: each night would make new series.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from audit.model.expectations import Checked
from audit.report import printing
from audit.report.formats.overview import Overview

MOST_NAMESPACES = 50
MOST_EXPECTATIONS = 200
MOST_LABEL = 200
"""Characters of a label's value."""
MOST_FINDINGS = 100
OTHER = "(other)"

_Sample = tuple[Mapping[str, str], float]


def prometheus(overview: Overview) -> str:
    """Return the run as metrics."""
    lines: list[str] = []
    for name, text, samples in _metrics(overview):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {value:.17g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _metrics(overview: Overview) -> Iterator[tuple[str, str, list[_Sample]]]:
    manifest = overview.manifest
    info = {
        "version": str(manifest.get("audit") or ""),
        "cluster": str(manifest.get("cluster") or ""),
        "source": str(manifest.get("source") or "")[:MOST_LABEL],
    }
    yield "audit_info", "Which audit ran, and the uid of the cluster's kube-system.", [(info, 1)]
    yield (
        "audit_cells",
        "Cells of the last run, by verdict.",
        [({"verdict": str(verdict)}, count) for verdict, count in overview.counts.items()],
    )
    yield "audit_cells_proven", "Cells that are proven either way.", [({}, overview.proven_cells)]
    yield "audit_cells_drifting", "Cells about which planes disagree.", [({}, overview.drifting)]
    finished = overview.manifest.get("finished")
    if finished:
        moment = dt.datetime.fromisoformat(str(finished)).timestamp()
        yield "audit_run_finished_timestamp_seconds", "When the run ended.", [({}, moment)]
    yield "audit_namespace_cells_passing", _PASSING, _passing(overview)
    levels = dict.fromkeys(("error", "warning", "note"), 0)
    for result in (*overview.results, *overview.notes):
        levels[result.level] += 1
    yield (
        "audit_findings",
        "Findings, and notes about the facts, by level.",
        [({"level": level}, count) for level, count in levels.items()],
    )
    yield "audit_finding_cells", _FINDING_CELLS, _finding_cells(overview)
    if overview.checks:
        yield from _expectations(overview.checks[:MOST_EXPECTATIONS])


def _expectations(checks: Sequence[Checked]) -> Iterator[tuple[str, str, list[_Sample]]]:
    """Yield the metrics of expectations and their waivers."""
    passing = _least((check.name, float(check.status.passes)) for check in checks)
    waived = _least((check.name, -float(check.waived)) for check in checks if check.waivers)
    ends = _least(
        (check.name, dt.datetime.combine(waiver.expires, dt.time.max, dt.UTC).timestamp() // 1)
        for check in checks
        for waiver in check.waivers
    )
    for name, text, values in (
        (
            "audit_expectation_satisfied",
            "Whether an expectation is satisfied or waived: 1, else 0.",
            passing,
        ),
        (
            "audit_expectation_waived_cells",
            "Cells that are not as expected and waived.",
            {name: -cells for name, cells in waived.items()},
        ),
        (
            "audit_expectation_waiver_expires_timestamp_seconds",
            "When the first of an expectation's waivers ends.",
            ends,
        ),
    ):
        if values:
            yield name, text, [({"expectation": key}, value) for key, value in values.items()]


_FINDING_CELLS = "Cells that the findings of a kind and cause are about."
_PASSING = "Cells into a namespace that get through; those with most, and (other) for the rest."


def _least(pairs: Iterator[tuple[str, float]]) -> dict[str, float]:
    """Return the lowest value of each label: long names are cut, and two could become one."""
    lowest: dict[str, float] = {}
    for name, value in pairs:
        short = name[:MOST_LABEL]
        lowest[short] = min(value, lowest.get(short, value))
    return lowest


def _finding_cells(overview: Overview) -> list[_Sample]:
    """Return a series for each level, kind and cause of the findings."""
    cells: Counter[tuple[str, ...]] = Counter()
    for result in overview.results:
        labels = (result.level, result.rule[:MOST_LABEL], result.cause[:MOST_LABEL])
        cells[labels] += result.cells
    return [
        (dict(zip(("level", "kind", "cause"), labels, strict=True)), count)
        for labels, count in [*cells.items()][:MOST_FINDINGS]
    ]


def _passing(overview: Overview) -> list[_Sample]:
    ranked = sorted(overview.namespaces, key=lambda n: (-n.tally.passes, n.name))
    shown, rest = ranked[:MOST_NAMESPACES], ranked[MOST_NAMESPACES:]
    samples: list[_Sample] = [({"namespace": n.name[:MOST_LABEL]}, n.tally.passes) for n in shown]
    if rest:
        samples.append(({"namespace": OTHER}, sum(n.tally.passes for n in rest)))
    return samples


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """Return a label's value: backslash, quote and line feed are escaped, control characters go."""
    kept = printing.printable(value)
    return kept.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
