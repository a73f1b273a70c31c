"""A run as evidence: whether every file is what the audit wrote, and nothing else is there."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from audit.errors import RunReadError
from audit.store import plain
from audit.store.files import replacing, writing
from audit.store.layout import (
    MANIFEST,
    SIGNATURE,
    TIMESTAMP,
    digest,
    is_intact,
    manifest_text,
    read_manifest,
)

REPORT = "report.html"


def listed(run: Path) -> dict[str, dict[str, Any]]:
    """Return what `run.json` says of each file of a run; RunReadError when it does not."""
    outputs = read_manifest(run, intact=False).get("outputs")
    try:
        files = {str(output["path"]): dict(output) for output in outputs or ()}
        whole = all(isinstance(output["sha256"], str) for output in files.values())
    except (KeyError, TypeError, ValueError):
        whole, files = False, {}
    if not whole or not files:
        raise RunReadError(f"{run / MANIFEST} does not list its files: run again")
    return files


def list_report(run: Path) -> None:
    """Have the report in the list of a finished run's files, as it is now."""
    manifest = dict(read_manifest(run))
    others = [output for output in manifest["outputs"] if output["path"] != REPORT]
    with writing(run / REPORT):
        report = {"path": REPORT, **digest(run, REPORT)}
    manifest["outputs"] = sorted([*others, report], key=lambda output: str(output["path"]))
    with replacing(run / MANIFEST) as file:
        file.write(manifest_text(manifest))


def differences(run: Path) -> Iterator[str]:
    """Yield a sentence per file that is not as the audit wrote it, or that it did not write."""
    files = listed(run)
    if not is_intact(read_manifest(run, intact=False)):
        yield f"{MANIFEST} has other content than its own SHA-256 says"
    for name, output in sorted(files.items()):
        if difference := _difference(run, name, output["sha256"]):
            yield difference
    for name, mistake in plain.entries(run):
        if mistake and name not in files:
            yield f"{name} {mistake}"
        elif name not in files and name not in (MANIFEST, SIGNATURE, TIMESTAMP):
            yield f"{name} is not listed: the audit did not write it"


def _difference(run: Path, name: str, sha256: str) -> str:
    """Say how a file is not as it is listed; empty when it is."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return f"{MANIFEST} lists {name}, which is not in the run"
    try:
        actual = digest(run, name)["sha256"]
    except OSError as error:
        return f"{name} cannot be read: {error.strerror or error}"
    except ValueError as error:  # no file can be called so
        return f"{name!r} cannot be read: {error}"
    if actual == sha256:
        return ""
    return f"{name} has other content: SHA-256 {actual}, listed {sha256}"
