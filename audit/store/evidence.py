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
        found = {str(one["path"]): dict(one) for one in outputs or ()}
        whole = all(isinstance(one["sha256"], str) for one in found.values())
    except (KeyError, TypeError, ValueError):
        whole, found = False, {}
    if not whole or not found:
        raise RunReadError(f"{run / MANIFEST} does not list its files: run again")
    return found


def list_report(run: Path) -> None:
    """Have the report in the list of a finished run's files, as it is now."""
    manifest = dict(read_manifest(run))
    others = [one for one in manifest["outputs"] if one["path"] != REPORT]
    with writing(run / REPORT):
        report = {"path": REPORT, **digest(run, REPORT)}
    manifest["outputs"] = sorted([*others, report], key=lambda one: str(one["path"]))
    with replacing(run / MANIFEST) as file:
        file.write(manifest_text(manifest))


def differences(run: Path) -> Iterator[str]:
    """Yield a sentence per file that is not as the audit wrote it, or that it did not write."""
    known = listed(run)
    if not is_intact(read_manifest(run, intact=False)):
        yield f"{MANIFEST} has other content than its own SHA-256 says"
    for name, said in sorted(known.items()):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            yield f"{MANIFEST} lists {name}, which is not in the run"
            continue
        try:
            found = digest(run, name)
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror or error}"
            continue
        except ValueError as error:  # no file can be called so
            yield f"{name!r} cannot be read: {error}"
            continue
        if found["sha256"] != said["sha256"]:
            yield f"{name} has other content: SHA-256 {found['sha256']}, listed {said['sha256']}"
    for name, mistake in plain.entries(run):
        if mistake and name not in known:
            yield f"{name} {mistake}"
        elif name not in known and name not in (MANIFEST, SIGNATURE):
            yield f"{name} is not listed: the audit did not write it"
