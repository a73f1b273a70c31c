"""What `run.json` and `plan.json` hold, as far as it is read: who reads may rely on these kinds.

Only what is there is checked: an earlier version says less, and every version more than this.
"""

import datetime as dt
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


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
    of: _Count
    agree: _Count
    cells: _Count
    disagreements: list[str]
    about: list[list[str]]


class _Counts(TypedDict):
    cells: _Count
    reachable: NotRequired[_Count]
    exits: NotRequired[_Count]
    blocked: NotRequired[_Count]
    unroutable: NotRequired[_Count]
    inconclusive: NotRequired[_Count]
    untraced: NotRequired[_Count]
    traces: NotRequired[_Count]


class _Coverage(TypedDict):
    proven: _Count
    total: _Count
    unprovable: NotRequired[_Count]


class _Database(TypedDict):
    zone: str
    northd_version: str
    sequence: str
    rejecting_acls: NotRequired[_Count]


class _Input(TypedDict):
    path: str
    sha256: str


class _Address(str):
    """An address of either family, as text."""

    __slots__ = ()


class _Network(str):
    """A network of either family, as text."""

    __slots__ = ()


class _Ranges(TypedDict, total=False):
    pods: list[_Network]
    nodes: list[_Network]
    services: list[_Network]


class _Labels(TypedDict, total=False):
    complete: bool
    ranges: _Ranges
    networks: list[_Network]
    namespaces: dict[str, dict[str, str]]
    nodes: dict[str, dict[str, str]]


class _Pairs(TypedDict):
    total: _Count
    passing: _Count


class _Exposed(TypedDict):
    passes: _Count
    proven: _Count
    cells: _Count


class _Run(TypedDict, total=False):
    run_id: str
    source: str
    cluster: str | None
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
    probe: _Check | None
    notes: list[_Note]
    findings: list[_Finding]
    inputs: list[_Input]
    labels: _Labels | None
    outside: dict[str, list[tuple[_Address, _Address]]]
    pairs: _Pairs | None
    exposure: dict[str, _Exposed]
    drifting: int
    incomplete: bool


class _Engine(TypedDict, total=False):
    version: str


class _Plan(TypedDict):
    started: Annotated[dt.datetime, msgspec.Meta(tz=True)]
    scope: dict[str, Any]
    options: dict[str, Any]
    engine: _Engine | None
    inputs: list[_Input]


def wrong(manifest: Mapping[str, Any]) -> str:
    """Say what is not as an audit writes it, and where in the file; nothing where all is."""
    return _wrong(manifest, _Run)


def wrong_plan(plan: Mapping[str, Any]) -> str:
    """Say so of a `plan.json`."""
    return _wrong(plan, _Plan)


def _read(kind: type[str], value: object) -> str:
    """Return a value of one of the kinds above; an error, which becomes msgspec's, if it is none.

    `ipaddress` reads numbers, too, which is not how they are written.
    """
    if not isinstance(value, str):
        raise TypeError("Expected an address")
    (ip_address if kind is _Address else ip_network)(value)
    return kind(value)


def _wrong(content: Mapping[str, Any], kind: type) -> str:
    try:
        msgspec.convert(content, kind, dec_hook=_read)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
