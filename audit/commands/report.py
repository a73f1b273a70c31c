"""What follows when a run is written: its report, and its signature over everything.

A run that was ended in between is whole but for these, so who resumes it gets them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.commands import meaning, plan_file
from audit.errors import ExitCode, OutputError
from audit.model import findings
from audit.model.changes import ChangedCells
from audit.model.expectations import Checks
from audit.report import render, sentences
from audit.report.grid import gather
from audit.store import evidence, plain, reader, signing, timestamps
from audit.store.files import replacing, writing
from audit.store.layout import SIGNATURE, TIMESTAMP
from audit.store.lock import exclusively
from audit.store.writer import tidy
from audit.tracing.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run: where it is, and what it says."""

    path: Path
    report: Path
    manifest: Mapping[str, Any]
    unproven: tuple[str, ...]
    """A sentence per reason for cells that are not proven."""
    url: str = ""
    """Where it is on an object store, if it was put on one."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code it deserves by what it says: 1 for a finding that is an error."""
        return findings.exit_code(self.manifest)


def signing_key(options: Options) -> signing.PrivateKey | None:
    """Read the key before the work is done that it is for."""
    return None if options.sign_key is None else signing.load_private(options.sign_key)


Page = Callable[[Path], object]
"""Renders the report of the run at a path."""


def completed(
    written: Outcome,
    options: Options,
    key: signing.PrivateKey | None,
    page: Page | None = None,
) -> Outcome:
    """Render the report of a run that is written, unless it has one, and sign the run.

    `page` renders it where it is another than a run's own.
    """
    try:
        if not _has_report(written.path):
            (page or write_report)(written.path)
        if key is not None:
            signing.sign(written.path, key)
        if options.timestamp_url and not os.path.lexists(written.path / TIMESTAMP):
            timestamps.stamp(written.path, options.timestamp_url)
    except BaseException as error:
        what = "report" if key is None else "report and signature"
        if options.timestamp_url and os.path.lexists(written.path / SIGNATURE):
            what = "timestamp"
        error.add_note(
            f"the run is whole but for its {what}; go on with "
            f"`{plan_file.going_on(written.path, options)}`"
        )
        raise
    return replace(written, report=written.path / evidence.REPORT)


def lacks(path: Path, options: Options) -> bool:
    """Say whether a finished run was ended before it had what these options ask for."""
    unsigned = options.sign_key is not None and not os.path.lexists(path / SIGNATURE)
    unstamped = bool(options.timestamp_url) and not os.path.lexists(path / TIMESTAMP)
    return unsigned or unstamped or bool(options.destination) or not _has_report(path)


def complete(path: Path, options: Options, page: Page | None = None) -> Outcome:
    """Give a finished run what it lacks; it stays as it is otherwise. `page` as in `completed`."""
    key = signing_key(options)
    with exclusively(path.absolute().parent):
        plain.require_all(path)
        tidy(path)
        run = reader.open_recorded(path)
        written = Outcome(
            path=path,
            report=path / evidence.REPORT,
            manifest=run.manifest,
            unproven=tuple(sentences.unproven(run.counted())),
        )
        return completed(written, options, None if is_signed(path) else key, page)


def _has_report(path: Path) -> bool:
    """Say whether a run lists its report, which it does once that is there."""
    return evidence.REPORT in evidence.listed(path) and (path / evidence.REPORT).exists()


def is_signed(path: Path) -> bool:
    """Say whether a run has a signature: then its report stays as it was signed."""
    return os.path.lexists(path / SIGNATURE)


def write_report(
    path: Path,
    changed: ChangedCells | None = None,
    out: Path | None = None,
    checks: Checks | None = None,
) -> Path:
    """Render the report of the run at `path`, with what `changed`, and what became of expectations.

    Return where it is.

    It goes into the run, where `run.json` lists it, or into `out`. OutputError when it is to go
    into a run that is signed: what was signed includes its report.
    """
    target = (out or path) / evidence.REPORT
    if out is None and is_signed(path):
        raise OutputError(
            f"{path} is signed, its report included; render another elsewhere with --out DIR"
        )
    run = reader.stream_run(path)
    grid = gather(run, changed.cells if changed else None)
    meant = meaning.of_run(run, grid)
    content = render.render_html(
        run, grid=grid, meanings=meant, changed=changed, checks=checks
    ).encode()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(content)
    if out is None:
        evidence.list_report(path)
    return target
