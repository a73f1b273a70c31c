"""`audit verify`: a run's files, its signature and its inputs against what `run.json` says."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit import scratch
from audit.facts import snapshot as snapshots
from audit.facts.archive import LARGEST
from audit.store import evidence, signing, timestamps
from audit.store.layout import SIGNATURE, TIMESTAMP, read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was looked at, and a sentence for everything that is not as it should be."""

    files: int
    inputs: int | None
    """How many inputs were compared; None where no snapshot was named."""
    signature: str
    """`good`, `bad`, `missing`, `none`, or `not checked` where no key was named."""
    timestamp: str
    """The time in UTC, or one of the same words; `not checked` where no authority was named."""
    problems: tuple[str, ...]


def verify(
    run: Path,
    *,
    key: Path | None = None,
    authorities: Path | None = None,
    snapshot: Path | None = None,
    most_unpacked: int = LARGEST,
) -> Evidence:
    """Compare a finished run with its `run.json`, this with its signature, and its inputs.

    The timestamp is compared with the signature, and the certificates in `authorities` vouch for
    who made it.
    Of a packed snapshot `most_unpacked` bytes may be unpacked. RunReadError when it is no run,
    UsageError when the key is none.
    """
    roots = None if authorities is None else timestamps.load_roots(authorities)
    public = None if key is None else signing.load_public(key)
    problems = list(evidence.differences(run))
    there = (run / SIGNATURE).is_file()
    if public is None:
        signature = "not checked" if there else "none"
    elif not there:
        signature = "missing"
        problems.append(f"the run is not signed: it has no {SIGNATURE}")
    else:
        signature = "good" if signing.signed_by(run, public) else "bad"
        if signature == "bad":
            problems.append(f"run.json is not what the owner of {key} signed")
    timestamp = _timestamp(run, roots, problems)
    compared = None
    if snapshot is not None:
        problems += _inputs(run, snapshot, most_unpacked)
        compared = len(read_manifest(run, intact=False).get("inputs", ()))
    return Evidence(
        files=len(evidence.listed(run)),
        inputs=compared,
        signature=signature,
        timestamp=timestamp,
        problems=tuple(problems),
    )


def _timestamp(run: Path, roots: timestamps.Roots | None, problems: list[str]) -> str:
    """Return what is known of a run's timestamp; what is wrong with it joins the problems."""
    there = (run / TIMESTAMP).is_file()
    if roots is None:
        return "not checked" if there else "none"
    if not there:
        problems.append(f"the run has no timestamp: it has no {TIMESTAMP}")
        return "missing"
    moment = timestamps.stamped(run, roots)
    if isinstance(moment, str):
        problems.append(moment)
        return "bad"
    return moment.astimezone(dt.UTC).isoformat()


def _inputs(run: Path, snapshot: Path, most_unpacked: int) -> Iterator[str]:
    """Yield a sentence per input of the run that is not in the snapshot as it was."""
    inputs = read_manifest(run, intact=False).get("inputs", ())
    recorded = {entry["path"]: entry["sha256"] for entry in inputs}
    with scratch.directory("verify") as workdir:
        opened = snapshots.open_snapshot(snapshot, workdir, databases=True, most=most_unpacked)
        actual = {file.path: file.sha256 for file in snapshots.hash_inputs(opened)}
    for name, digest in recorded.items():
        if name not in actual:
            yield f"input {name} is not in {snapshot}"
        elif actual[name] != digest:
            yield f"input {name} of {snapshot} has other content than what was audited"
