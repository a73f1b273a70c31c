"""JSON with a version and a published schema (`schema.json` beside this module)."""

import json
from dataclasses import asdict
from importlib import resources
from typing import Any

from audit.model.verdicts import VERDICTS
from audit.report import printing
from audit.report.formats.told import Result, Told

VERSION = 1
"""Counted up when a field changes its meaning or goes; a field that is added does not."""
MOST_SUBJECTS = 20


def schema() -> dict[str, Any]:
    """Return the JSON schema of what `structured` returns."""
    file = resources.files("audit.report.formats") / "schema.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def structured(told: Told) -> str:
    """Return the run as JSON."""
    manifest = told.manifest
    kept = ("source", "started", "finished", "scope", "planes", "cover", "engine", "databases")
    document = {
        "version": VERSION,
        "run": told.run_id,
        "audit": manifest.get("audit"),
        **{key: manifest.get(key) for key in kept},
        "counts": {
            "cells": told.cells,
            "proven": told.proven_cells,
            "drifting": told.drifting,
            **{str(verdict): count for verdict, count in told.counts.items()},
        },
        "families": list(told.families),
        "namespaces": [
            {"name": one.name, **dict(zip(map(str, VERDICTS), one.counts, strict=True))}
            for one in told.namespaces
        ],
        "blockers": [{"policy": name, "cells": count} for name, count in told.blockers],
        "unproven": [
            {"reason": reason, "text": text, "cells": count}
            for reason, text, count in told.unproven
        ],
        "findings": [_fields(result) for result in told.results],
        "notes": [_fields(note) for note in told.notes],
        "expectations": [asdict(check) for check in told.checks],
    }
    return printing.json_text(document) + "\n"


def _fields(result: Result) -> dict[str, Any]:
    return {
        "rule": result.rule,
        "level": result.level,
        "text": result.text,
        "subjects": list(result.subjects[:MOST_SUBJECTS]),
        "cells": result.cells,
    }
