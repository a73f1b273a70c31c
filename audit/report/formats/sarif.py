"""SARIF 2.1.0 (OASIS): a result per finding, with fingerprints that pod churn does not touch."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from audit.report import printing
from audit.report.formats.overview import Overview, Result

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RESULTS = 5_000
"""GitHub shows no more of one run; what is left out is counted in the run's properties."""
_ORDER = {"error": 0, "warning": 1, "note": 2}


def sarif(overview: Overview) -> str:
    """Return the run as a SARIF log."""
    ranked = sorted(overview.results, key=lambda r: (_ORDER[r.level], r.rule, -r.cells, r.key))
    shown = ranked[:MOST_RESULTS]
    rules = sorted({result.rule for result in shown})
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "audit",
                        "semanticVersion": str(overview.manifest.get("audit", "")),
                        "rules": [
                            {"id": rule, "shortDescription": {"text": _title(rule)}}
                            for rule in rules
                        ],
                    }
                },
                "automationDetails": {"id": f"audit/{overview.run_id}"},
                "columnKind": "unicodeCodePoints",
                "results": [_result(result, rules) for result in shown],
                "properties": {
                    "cells": overview.cells,
                    "proven": overview.proven_cells,
                    "drifting": overview.drifting,
                    "counts": {str(verdict): count for verdict, count in overview.counts.items()},
                    "resultsLeftOut": len(ranked) - len(shown),
                },
            }
        ],
    }
    return json.dumps(printing.strings(log), indent=2, ensure_ascii=True) + "\n"


def _result(result: Result, rules: Sequence[str]) -> dict[str, Any]:
    subjects = result.subjects or (result.rule,)
    return {
        "ruleId": result.rule,
        "ruleIndex": rules.index(result.rule),
        "level": result.level,
        "message": {"text": result.text},
        "locations": [
            {
                # GitHub wants a file; what is found is in none, so the run's own is named.
                "physicalLocation": {"artifactLocation": {"uri": "run.json"}},
                "logicalLocations": [
                    {"fullyQualifiedName": subject, "kind": "resource"} for subject in subjects[:20]
                ],
            }
        ],
        "partialFingerprints": {"audit/v1": fingerprint(result)},
        "properties": {"cells": result.cells},
    }


def fingerprint(result: Result) -> str:
    """Return what identifies a result from run to run: its rule and key, without counts."""
    text = json.dumps([result.rule, *result.key], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _title(rule: str) -> str:
    kind, _, name = rule.partition("/")
    return f"expectation {name}" if name and kind == "expectation" else rule.replace("-", " ")
