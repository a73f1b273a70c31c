"""What `run.json` holds, as far as something reads it: whoever does may rely on these kinds.

Only what is there is checked: an earlier version says less, and every version more than this.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec


class _Note(TypedDict):
    code: str
    text: str
    subjects: list[str]


class _FindingNow(TypedDict):
    kind: str
    text: str
    subjects: list[str]


class _Finding(_FindingNow, total=False):
    cells: int
    cause: str
    about: list[str]


class _Check(TypedDict, total=False):
    of: int
    agree: int
    cells: int
    disagreements: list[str]
    about: list[list[str]]


class _Counts(TypedDict):
    cells: int


class _Coverage(TypedDict):
    proven: int
    total: int


class _Database(TypedDict):
    zone: str
    northd_version: str
    sequence: str


class _Input(TypedDict):
    path: str
    sha256: str


class _Labels(TypedDict, total=False):
    namespaces: dict[str, dict[str, str]]


class _Run(TypedDict, total=False):
    run_id: str
    source: str
    started: str
    finished: str
    scope: dict[str, Any]
    planes: list[str]
    cover: str
    engine: dict[str, Any] | None
    databases: list[_Database]
    counts: _Counts
    coverage: _Coverage
    intent: _Check | None
    verify: _Check | None
    prediction: _Check | None
    drift: _Check | None
    packets: _Check | None
    notes: list[_Note]
    findings: list[_Finding]
    inputs: list[_Input]
    labels: _Labels | None
    incomplete: bool


def wrong(manifest: Mapping[str, Any]) -> str:
    """Say what is not as an audit writes it, and where in the file; nothing where all is."""
    try:
        msgspec.convert(manifest, _Run)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
