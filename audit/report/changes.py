"""What a change of manifests changes, as Markdown for a pull request. Pure."""

from collections.abc import Iterator, Sequence

from audit.model.changes import ChangedPath, Changes
from audit.model.verdicts import PASSES, STOPPED

MOST_ROWS = 200


def markdown(changes: Changes) -> str:
    """Return the page: what opens, what closes, what becomes unknown, and which policies did it."""
    return "\n".join(_lines(changes)).rstrip() + "\n"


def _lines(changes: Changes) -> Iterator[str]:
    opened = [p for p in changes.paths if p.after in PASSES and p.before not in PASSES]
    closed = [p for p in changes.paths if p.after in STOPPED and p.before not in STOPPED]
    rest = [p for p in changes.paths if p not in opened and p not in closed]
    yield f"### Connectivity: {_said(opened, 'opened')}, {_said(closed, 'closed')}"
    yield ""
    yield f"{changes.compared:,} cells compared, by the policy objects alone."
    for policy in changes.policies:
        yield f"- {_text(policy)}"
    for word, names in (("new", changes.appeared), ("gone", changes.vanished)):
        if names:
            yield f"- {word}, not compared: {_text(', '.join(names))}"
    yield ""
    for title, paths in (("Opened", opened), ("Closed", closed), ("Otherwise changed", rest)):
        if paths:
            yield from _table(title, paths)


def _said(paths: Sequence[ChangedPath], word: str) -> str:
    cells = sum(path.cells for path in paths)
    return f"{cells:,} {'cell' if cells == 1 else 'cells'} {word}"


def _table(title: str, paths: Sequence[ChangedPath]) -> Iterator[str]:
    yield f"#### {title}"
    yield ""
    yield "| from | to | ports | before | after | because of | cells |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for path in paths[:MOST_ROWS]:
        fields = (
            path.src,
            path.dst,
            ", ".join(path.ports),
            path.before,
            path.after,
            path.why,
            f"{path.cells:,}",
        )
        yield f"| {' | '.join(map(_text, fields))} |"
    if len(paths) > MOST_ROWS:
        yield ""
        yield f"… and {len(paths) - MOST_ROWS:,} more."
    yield ""


def _text(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell of a table too."""
    printable = "".join(char if char.isprintable() else "�" for char in text)
    return "".join(f"\\{char}" if char in r"\`*_[]<>|#" else char for char in printable)
