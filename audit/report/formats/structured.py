"""JSON with a version and a published schema (`schema.json` beside this module)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from typing import Any

from audit.model.expectations import Checked
from audit.model.verdicts import VERDICTS
from audit.report import printing
from audit.report.formats.overview import Overview, Result

VERSION = 1
"""Counted up when a field changes its meaning or goes; a field that is added does not."""
MOST_SUBJECTS = 20


def schema() -> dict[str, Any]:
    """Return the JSON schema of what `structured` returns."""
    file = resources.files("audit.report.formats") / "schema.json"
    published: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return published


def structured(overview: Overview) -> str:
    """Return the run as JSON."""
    manifest = overview.manifest
    kept = ("source", "started", "finished", "scope", "planes", "cover", "engine", "databases")
    document = {
        "version": VERSION,
        "run": overview.run_id,
        "audit": manifest.get("audit"),
        **{key: manifest.get(key) for key in kept},
        "counts": {
            "cells": overview.cells,
            "proven": overview.proven_cells,
            "drifting": overview.drifting,
            **{str(verdict): count for verdict, count in overview.counts.items()},
        },
        "families": list(overview.families),
        "namespaces": [
            {
                "name": namespace.name,
                **dict(zip(map(str, VERDICTS), namespace.tally.counts, strict=True)),
            }
            for namespace in overview.namespaces
        ],
        "blockers": [{"policy": name, "cells": count} for name, count in overview.blockers],
        "unproven": [
            {"reason": reason, "text": text, "cells": count}
            for reason, text, count in overview.unproven
        ],
        "findings": [_fields(result) for result in overview.results],
        "notes": [_fields(note) for note in overview.notes],
        "expectations": of_expectations(overview.checks),
    }
    return printing.json_text(document) + "\n"


def of_expectations(checks: Sequence[Checked]) -> list[dict[str, Any]]:
    """Return what became of expectations."""
    return [_check(check) for check in checks]


def _check(check: Checked) -> dict[str, Any]:
    waivers = [
        {
            "for": list(waiver.names),
            "owner": waiver.owner,
            "expires": waiver.expires.isoformat(),
            "reason": waiver.reason,
        }
        for waiver in check.waivers
    ]
    return {**asdict(replace(check, waivers=())), "waivers": waivers}


def _fields(result: Result) -> dict[str, Any]:
    return {
        "rule": result.rule,
        "level": result.level,
        "text": result.text,
        "subjects": list(result.subjects[:MOST_SUBJECTS]),
        "cells": result.cells,
    }
