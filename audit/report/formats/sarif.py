"""SARIF 2.1.0 (OASIS): what was found, where it is written, with fingerprints that churn spares.

A finding about policies of manifests is a result for each of them, at its file and line: GitHub
shows a result at its first location alone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from audit.model.changes import ChangedPath, Changes
from audit.model.findings import FindingKind
from audit.report import printing
from audit.report.changes import states as words_of
from audit.report.formats.overview import Overview, Result
from audit.report.sentences import ports_text

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RESULTS = 5_000
"""GitHub shows no more of one run; what is left out is counted in the run's properties."""
MOST_SUBJECTS = 20
_ORDER = {"error": 0, "warning": 1, "note": 2}
_HELP: Mapping[str, str] = {
    FindingKind.DRIFT: "OVN and the policy objects decide cells differently; see `audit explain`.",
    FindingKind.NOT_ENFORCED: "OVN-Kubernetes does something else than this policy says.",
    FindingKind.DATAPATH_DRIFT: "A node's Open vSwitch does something else than OVN decided.",
    FindingKind.PREDICTION: "A trace contradicts what the logical flows say; report it.",
    FindingKind.VERIFICATION: "A cell's own trace contradicts the traces of its legs; report it.",
    FindingKind.PACKETS: "A real packet contradicts its trace.",
    FindingKind.PROBE_DRIFT: "A real connection passes that the run says is stopped.",
    FindingKind.PROBE_UNANSWERED: "Does the destination listen, and does its own firewall let it?",
    FindingKind.NOT_IMPLEMENTED: "OVN-Kubernetes ignores this part of the policy.",
    FindingKind.ENFORCED_OTHERWISE: "OVN-Kubernetes does not enforce this policy as written.",
    FindingKind.SELECTS_NOTHING: "The policy selects no pod: correct its selector, or delete it.",
    FindingKind.RULE_WITHOUT_EFFECT: "The rule decides nothing: correct it, or delete it.",
    FindingKind.POLICY_WITHOUT_EFFECT: "The policy decides nothing: correct it, or delete it.",
    FindingKind.NO_DEFAULT_DENY: "Select every pod of the namespace by a NetworkPolicy.",
    FindingKind.SAME_PRIORITY: "Give each policy a priority of its own.",
    FindingKind.INGRESS_BLOCKED: "A policy blocks what an Ingress, Route or Gateway leads to.",
}
_CHANGES_HELP = (
    "Is it meant? `audit diff` lists what changed, and what decides it before and after."
)
_OTHER_HELP = "OVN's databases and the objects differ: docs/inventory.md says what to do."
_EXPECTATION_HELP = "Correct the policy, or record a waiver with an owner and a last day."


def sarif(overview: Overview) -> str:
    """Return the run as a SARIF log."""
    recorded = overview.manifest.get("source_lines")
    lines = recorded if isinstance(recorded, dict) else {}
    each = [part for result in overview.results for part in _parts(result, lines)]
    properties = {
        "cells": overview.cells,
        "proven": overview.proven_cells,
        "drifting": overview.drifting,
        "counts": {str(verdict): count for verdict, count in overview.counts.items()},
    }
    controls = {f"expectation/{check.name}": check.controls for check in overview.checks}
    return _log(
        each,
        lines,
        version=str(overview.manifest.get("audit", "")),
        name=f"audit/{overview.run_id}",
        properties=properties,
        controls=controls,
    )


def changes_sarif(changes: Changes, lines: Mapping[str, Any], version: str) -> str:
    """Return what a change opens, closes and does otherwise as a SARIF log.

    A result is about two workloads. It is at the policy that decides after the change, else at the
    one that did before, else at a workload: the first that `lines` have, by subject the file and
    the line (0 for no known one).
    """
    ways = (
        ("path-opened", "error", changes.opened),
        ("path-closed", "warning", changes.closed),
        ("path-reply-changed", "warning", changes.replies),
        ("path-otherwise-changed", "warning", changes.otherwise),
    )
    results = [_of_path(rule, level, path, lines) for rule, level, paths in ways for path in paths]
    properties = {"compared": changes.compared, "limits": list(changes.limits)}
    return _log(results, lines, version=version, name="audit/diff", properties=properties)


def _of_path(rule: str, level: str, path: ChangedPath, lines: Mapping[str, Any]) -> Result:
    before, after = words_of(path)
    because = "; ".join(path.because) or f"before {path.was or 'nothing'}, after {path.why}"
    deciders = (_decider(why) for why in (path.why, path.was))
    return Result(
        rule=rule,
        level=level,
        text=f"{path.src} to {path.dst} on {ports_text(path.ports)}: {before} before, "
        f"{after} after ({because})",
        key=(path.src, path.dst, *path.ports, str(path.before), str(path.after)),
        subjects=(path.dst, path.src),
        cells=path.cells,
        by=next((decider for decider in deciders if _line(decider, lines)), ""),
    )


def _decider(why: str) -> str:
    """Return the policy and rule of `networkpolicy a/b ingress[0] (…)`; a reason has none."""
    return why.rpartition(" (")[0]


def _log(
    results: Sequence[Result],
    lines: Mapping[str, Any],
    *,
    version: str,
    name: str,
    properties: Mapping[str, Any],
    controls: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return a log of results, the worst first."""
    ranked = sorted(results, key=lambda r: (_ORDER[r.level], r.rule, -r.cells, r.key))
    shown = ranked[:MOST_RESULTS]
    rules = sorted({result.rule for result in shown})
    driver = {
        "name": "audit",
        "semanticVersion": version,
        "rules": [_rule(rule, results, (controls or {}).get(rule, ())) for rule in rules],
    }
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "automationDetails": {"id": name},
                "columnKind": "unicodeCodePoints",
                "results": [_result(result, rules, lines) for result in shown],
                "properties": {**properties, "resultsLeftOut": len(ranked) - len(shown)},
            }
        ],
    }
    return json.dumps(printing.strings(log), indent=2, ensure_ascii=True) + "\n"


def _rule(rule: str, results: Sequence[Result], controls: Sequence[str]) -> dict[str, Any]:
    kind, _, name = rule.partition("/")
    levels = {result.level for result in results if result.rule == rule}
    level = min(levels, key=_ORDER.__getitem__)
    described: dict[str, Any] = {
        "id": rule,
        "shortDescription": {"text": rule.replace("-", " ")},
        "help": {"text": _help(rule)},
        "defaultConfiguration": {"level": level},
        "properties": {"problem.severity": "recommendation" if level == "note" else level},
    }
    if kind == "expectation" and name:
        described["shortDescription"] = {"text": f"expectation {name}"}
        described["help"] = {"text": _EXPECTATION_HELP}
        described["properties"]["tags"] = list(controls)
    return described


def _help(rule: str) -> str:
    return _CHANGES_HELP if rule.startswith("path-") else _HELP.get(rule, _OTHER_HELP)


def _parts(result: Result, lines: Mapping[str, Any]) -> Iterator[Result]:
    """Yield a result for each of its subjects that is written somewhere, else the result."""
    written = [subject for subject in result.subjects if _line(subject, lines)]
    if result.by or result.rule.startswith("expectation/") or not written:
        yield result
        return
    for subject in written:
        text = result.text if len(result.subjects) == 1 else f"{subject}: {result.text}"
        yield replace(result, text=text, key=(*result.key, subject), subjects=(subject,))
    others = tuple(subject for subject in result.subjects if subject not in written)
    if others:
        yield replace(result, subjects=others)


def _line(subject: str, lines: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the file and the line of an object, a rule, or a namespace; 0 for no known line."""
    # `networkpolicy shop/web ingress` stands for all of a policy that isolates its pods.
    policy = subject.rpartition(" ")[0]
    for name in (subject, f"namespace {subject}", policy):
        match lines.get(name):
            case [str(file), int(line)]:
                return file, max(line, 0)
            case _:
                pass
    return None


def _result(result: Result, rules: Sequence[str], lines: Mapping[str, Any]) -> dict[str, Any]:
    sources = [_line(subject, lines) for subject in (result.by, *result.subjects[:MOST_SUBJECTS])]
    located = list(dict.fromkeys(source for source in sources if source is not None))
    locations: list[dict[str, Any]] = [
        {"physicalLocation": _physical(*source)} for source in located
    ]
    # GitHub wants a file; what is written in none is in the run.
    locations = locations or [{"physicalLocation": {"artifactLocation": {"uri": "run.json"}}}]
    locations[0]["logicalLocations"] = [
        {"fullyQualifiedName": subject, "kind": "resource"}
        for subject in (result.subjects or (result.rule,))[:MOST_SUBJECTS]
    ]
    waived = {"kind": "external", "status": "accepted", "justification": result.waiver}
    return {
        "ruleId": result.rule,
        "ruleIndex": rules.index(result.rule),
        "level": result.level,
        "message": {"text": result.sentence},
        "locations": locations,
        "partialFingerprints": {"audit/v1": fingerprint(result)},
        "suppressions": [waived] if result.waiver else [],
        "properties": {"cells": result.cells},
    }


def _physical(file: str, line: int) -> dict[str, Any]:
    """Return a place in a file: a URI from the top of the repository, or an absolute one."""
    if PurePosixPath(file).is_absolute():
        artifact = {"uri": f"file://{quote(file)}"}
    else:
        artifact = {"uri": quote(file), "uriBaseId": "%SRCROOT%"}
    return {"artifactLocation": artifact, **({"region": {"startLine": line}} if line else {})}


def fingerprint(result: Result) -> str:
    """Return what identifies a result from run to run: its rule and key, without counts."""
    text = json.dumps([result.rule, *result.key], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
