"""What a run has to say beyond its cells, as people read it: errors, warnings and notes.

Programs get all of it (`audit.report.formats.overview`). Here what is alike, of one kind and one
cause, is written out a few times and counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.model import findings
from audit.model.findings import Severity

MOST_ALIKE = 3
"""Sentences of one kind and cause that are written out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One sentence: how much it matters, what kind it is of, what it is about.

    `alike` more are of the same kind and cause and are left out; `text` says so.
    """

    severity: Severity
    kind: str
    text: str
    subjects: tuple[str, ...] = ()
    alike: int = 0
    cause: str = ""


def messages(manifest: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return all that a run.json says, errors first, then warnings, then notes.

    Each sentence stands alone: it names what it is about, where `findings_of` leaves that to the
    list of subjects beside it.
    """
    standing = (
        replace(finding, text=findings.with_names(finding.kind, finding.text, finding.subjects))
        for finding in findings_of(manifest)
    )
    return _ranked((*standing, *notes_of(manifest)))


def findings_of(manifest: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return what was found, errors first, then warnings."""
    recorded = (
        Message(
            severity=finding.severity,
            kind=finding.kind,
            text=finding.text,
            subjects=finding.subjects,
            cause=finding.cause,
        )
        for finding in findings.recorded(manifest)
    )
    return tuple(_few(_ranked(recorded)))


def notes_of(manifest: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return what is to be known about the facts, warnings first, then notes."""
    recorded = (
        Message(
            severity=findings.severity_of_note(str(note["code"])),
            kind=str(note["code"]),
            text=str(note["text"]),
            subjects=tuple(map(str, note.get("subjects") or ())),
        )
        for note in findings.notes_of(manifest)
    )
    return tuple(_few(_ranked(recorded)))


def _ranked(entries: Iterable[Message]) -> tuple[Message, ...]:
    """Return each once, by severity; those of one severity keep their order."""
    ranks = {severity: rank for rank, severity in enumerate(Severity)}
    return tuple(sorted(dict.fromkeys(entries), key=lambda message: ranks[message.severity]))


def _few(ranked: Sequence[Message]) -> Iterator[Message]:
    """Yield the first of those alike; the last of them says how many more there are."""
    alike: dict[tuple[Severity, str, str], list[Message]] = {}
    for message in ranked:
        alike.setdefault((message.severity, message.kind, message.cause), []).append(message)
    for same in alike.values():
        more = len(same) - MOST_ALIKE
        yield from same[: MOST_ALIKE - 1]
        for last in same[MOST_ALIKE - 1 : MOST_ALIKE]:
            text = f"{last.text}; and {more:,} more like it" if more > 0 else last.text
            yield replace(last, text=text, alike=max(0, more))


def counted(entries: Sequence[Message]) -> str:
    """Return how many there are of each severity: `1 error, 3 warnings, 5 notes`."""
    counts = dict.fromkeys(Severity, 0)
    for message in entries:
        counts[message.severity] += 1 + message.alike
    return ", ".join(
        f"{count:,} {severity}{'' if count == 1 else 's'}"
        for severity, count in counts.items()
        if count
    )
