"""A finished run → what it says of expectations, and the run in every format."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.commands.report import write_report
from audit.compare import baseline as baselining
from audit.compare import check as checking
from audit.errors import ScopeError, UsageError
from audit.model.changes import ChangedCells
from audit.model.expectations import Checked, Checks, Expectation
from audit.model.options import PACKS, Format
from audit.report.formats import (
    junit,
    markdown,
    plain,
    prometheus,
    sarif,
    structured,
    terminal,
)
from audit.report.formats.overview import Overview, overview_of
from audit.scope import expectations
from audit.store.files import replacing, writing
from audit.store.reader import open_recorded
from audit.tracing.options import Progress

FILES: Mapping[Format, str] = {
    Format.HTML: "report.html",
    Format.JSON: "report.json",
    Format.MARKDOWN: "report.md",
    Format.JUNIT: "junit.xml",
    Format.SARIF: "report.sarif",
    Format.PROMETHEUS: "audit.prom",
}
_RENDER = {
    Format.JSON: structured.structured,
    Format.MARKDOWN: markdown.markdown,
    Format.JUNIT: junit.junit,
    Format.SARIF: sarif.sarif,
    Format.PROMETHEUS: prometheus.prometheus,
}


def read_expectations(file: Path | None, packs: Sequence[str]) -> tuple[Expectation, ...]:
    """Return the expectations of a file and of packs; ScopeError says what is wrong with one."""
    expected = [expectation for name in packs for expectation in expectations.pack(name)]
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ScopeError(f"{file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ScopeError(f"{file} cannot be read: it is no UTF-8 text") from error
        listed, waivers = expectations.parse(text, str(file))
        expected = [*expectations.waived([*expected, *listed], waivers)]
    if not expected:
        raise UsageError(
            "no expectations: name a file that has some with -f, or a pack with --pack "
            f"({', '.join(PACKS)})"
        )
    if len({expectation.name for expectation in expected}) < len(expected):
        raise ScopeError("two expectations have the same name; packs' names are taken too")
    return tuple(expected)


def check(
    path: Path, expected: Sequence[Expectation], today: dt.date, progress: Progress
) -> Overview:
    """Return a run with what it says of `expected`."""
    run = open_recorded(path)
    progress.phase("checking", int(run.manifest["counts"]["cells"]))
    return overview_of(run, checking.check(run, expected, today, progress.advance))


def checked(
    path: Path, expected: Sequence[Expectation], today: dt.date, progress: Progress
) -> Checks:
    """Return what became of `expected`, for a page."""
    overview = check(path, expected, today, progress)
    return Checks(day=today, expectations=overview.checks)


def baseline(path: Path, progress: Progress) -> str:
    """Return a file of expectations that describe a run as it is."""
    run = open_recorded(path)
    progress.phase("describing", int(run.manifest["counts"]["cells"]))
    expected = baselining.baseline(run, progress.advance)
    if not expected:
        raise UsageError(f"{path} proves nothing that could be expected: it has no decided cell")
    return expectations.dump(expected)


def rendered(overview: Overview, form: Format) -> str:
    """Return a run in a machine format."""
    return _RENDER[form](overview)


def summary(checks: Sequence[Checked]) -> str:
    """Return a sentence for each expectation, for a terminal."""
    return plain.summary(checks)


def checked_text(checks: Sequence[Checked]) -> str:
    """Return what became of expectations, for a terminal."""
    return plain.plain(checks)


MOST_CELLS_AT_THE_END = 5_000_000
"""Beyond this a run does not end with its namespaces: they would be counted for some seconds."""


def namespaces_text(path: Path) -> str:
    """Return a run's namespaces against each other for a terminal; empty for a large run."""
    run = open_recorded(path)
    if int(run.manifest["counts"]["cells"]) > MOST_CELLS_AT_THE_END:
        return ""
    return terminal.matrix(overview_of(run))


def write_formats(
    path: Path,
    forms: Sequence[Format],
    out: Path | None,
    changed: ChangedCells | None = None,
    checks: Checks | None = None,
) -> list[Path]:
    """Write a run in several formats, into the run or into `out`; return where they are.

    `changed` is for the page, which marks it. All of them have what became of expectations.
    """
    machine = [form for form in forms if form is not Format.HTML]
    of_checks = checks.expectations if checks else ()
    overview = overview_of(open_recorded(path), of_checks) if machine else None
    written = []
    for form in forms:
        if overview is None or form is Format.HTML:
            written.append(write_report(path, changed, out, checks))
        else:
            written.append(_write((out or path) / FILES[form], rendered(overview, form)))
    return written


def formatted(path: Path, form: Format, checks: Sequence[Checked] = ()) -> str:
    """Return a run, and what became of expectations, in one machine format."""
    return rendered(overview_of(open_recorded(path), checks), form)


def fields(checks: Sequence[Checked]) -> list[dict[str, Any]]:
    """Return what became of expectations, for programs."""
    return structured.of_expectations(checks)


def _write(target: Path, text: str) -> Path:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(text.encode())
    return target
