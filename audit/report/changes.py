"""What is different between two runs or sets of manifests, as Markdown or plain text. Pure."""

from collections.abc import Callable, Iterator, Sequence

from audit.model.changes import ChangedPath, ChangedPaths, Changes, OutsideChanges
from audit.report import printing
from audit.report.printing import wrap
from audit.report.sentences import Gathered, cells, gathered, listed, ports_text

MOST_ROWS = 200


Row = Gathered[ChangedPath]
"""Paths that changed alike, for the same reason."""


def folded(paths: Sequence[ChangedPath], *, blame: bool = False) -> list[Row]:
    """Gather paths that changed alike: first the sources of each destination, then destinations.

    With `blame` only those that were decided alike, before and after.
    """

    def alike(path: ChangedPath) -> tuple[object, ...]:
        deciders = (path.was, path.why) if blame else ()
        state = (path.before, path.after, path.drift, path.reply)
        return (*state, path.because, path.ports, *deciders)

    return gathered(paths, alike)


def markdown(changes: Changes) -> str:
    """Return the page: what opens, what closes, what becomes unknown, and which policies did it."""
    return "\n".join(_lines(changes)).rstrip() + "\n"


def _lines(changes: Changes) -> Iterator[str]:
    yield f"### Connectivity: {_counted(changes)}"
    yield ""
    by = f", by {changes.by}" if changes.by else ""
    yield f"{cells(changes.compared)} compared{by}."
    yield from map(_text, _uncompared(changes))
    if changes.drift_appeared or changes.drift_gone:
        yield f"Drift: {cells(changes.drift_appeared)} new, {changes.drift_gone:,} gone."
    differences = [*changes.policies, *changes.facts]
    for text in differences[:MOST_ROWS]:
        yield f"- {_text(text)}"
    if len(differences) > MOST_ROWS:
        yield f"- … and {len(differences) - MOST_ROWS:,} more"
    yield from _not_compared("new", changes.appeared)
    yield from _not_compared("gone", changes.vanished)
    yield ""
    yield from _tables(changes)
    outside = _compared_outside(changes)
    if outside is not None and not outside.paths:
        yield _text(_unchanged(outside))
    elif outside is not None:
        yield f"### {_OUTSIDE}: {_changed(outside)}"
        yield ""
        yield from map(_text, _of_outside(outside))
        yield ""
        yield from _tables(outside, " outside")


def _not_compared(word: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - MOST_ROWS:,} more" if len(names) > MOST_ROWS else ""
        yield f"- {word}, not compared: {_text(', '.join(names[:MOST_ROWS]))}{more}"


def _compared_outside(changes: Changes) -> OutsideChanges | None:
    """Return what was compared outside; None where nothing was."""
    outside = changes.outside
    return outside if outside is not None and outside.compared else None


_OUTSIDE = "The outside, by the policies alone"
"""What a part of the answer is called that no trace and no cell of a run is in."""


def _of_outside(outside: OutsideChanges) -> Iterator[str]:
    """Yield what the part about the outside is: not what OVN does."""
    yield (
        f"{_combinations(outside.compared)} of pod, range of addresses and port compared by what "
        f"the policy objects of both runs say (the {outside.plane} plane). Nothing of it was "
        "traced, and none of it is counted above."
    )
    undecided = outside.compared - outside.decided
    if undecided and outside.decided:
        yield f"{_combinations(undecided)} {_are(undecided)} undecided before, after, or both."


def _unchanged(outside: OutsideChanges) -> str:
    """Return all there is to say of an outside where nothing changed."""
    undecided = outside.compared - outside.decided
    besides = f", {undecided:,} of them undecided before, after, or both" if undecided else ""
    return (
        f"{_OUTSIDE} (the {outside.plane} plane, not traced): no change in "
        f"{_combinations(outside.compared)} of pod, range of addresses and port{besides}."
    )


def _combinations(count: int) -> str:
    return f"{count:,} {'combination' if count == 1 else 'combinations'}"


def _tables(changes: ChangedPaths, where: str = "") -> Iterator[str]:
    for title, paths in _by_way(changes):
        counts = "combinations" if where else "cells"
        yield from _table(f"{title}{where}", paths, counts)


def _by_way(changes: ChangedPaths) -> Iterator[tuple[str, Sequence[ChangedPath]]]:
    """Yield what changed by the way it did, under its title: what opened is what one looks for."""
    for title, paths in (
        ("Opened", changes.opened),
        ("Closed", changes.closed),
        ("Replies changed", changes.replies),
        ("Otherwise changed", changes.otherwise),
    ):
        if paths:
            yield title, paths


def _uncompared(changes: Changes) -> Iterator[str]:
    """Yield sentences about what was not compared, the most important ones first."""
    yield from changes.limits
    if changes.compared > changes.proven > 0:
        count = changes.compared - changes.proven
        yield f"{cells(count)} of these {_are(count)} unproven before, after, or both."
    for count, of, other in (
        (changes.unmatched_before, "earlier", "later"),
        (changes.unmatched, "later", "earlier"),
    ):
        if count:
            yield (
                f"The {of} run has {cells(count)} that the {other} run lacks; "
                f"{_they(count)} not compared."
            )
    for count, of, other in zip(
        changes.out_of_scope, ("earlier", "later"), ("later", "earlier"), strict=True
    ):
        if count:
            workloads = "workload" if count == 1 else "workloads"
            yield (
                f"{count:,} {workloads} of the {of} run {_are(count)} outside the {other} run's "
                f"scope; {_they(count)} not compared."
            )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _they(count: int) -> str:
    return "it is" if count == 1 else "they are"


MOST_SENTENCES = 12
"""Policies and facts that the page of a run names; the rest it counts."""


def sentences(changes: Changes) -> tuple[str, ...]:
    """Return what changed as the page of the later run says it."""
    texts = [f"{_compared(changes)}{_counted(changes)}."]
    texts += _uncompared(changes)
    if changes.drift_appeared or changes.drift_gone:
        texts.append(f"Drift: {cells(changes.drift_appeared)} new, {changes.drift_gone:,} gone.")
    differences = [*changes.policies, *changes.facts]
    texts += differences[:MOST_SENTENCES]
    if len(differences) > MOST_SENTENCES:
        texts.append(f"… and {len(differences) - MOST_SENTENCES:,} more: `audit diff` lists them.")
    outside = _compared_outside(changes)
    if outside is not None:
        texts += _outside_on_page(outside)
    return tuple(texts)


def _outside_on_page(outside: OutsideChanges) -> Iterator[str]:
    """Yield what changed outside as sentences: no cell of the page shows it."""
    if not outside.paths:
        yield _unchanged(outside)
        return
    yield f"{_OUTSIDE}: {_changed(outside)}."
    yield from _of_outside(outside)


def _compared(changes: Changes) -> str:
    return f"{cells(changes.compared)} compared: " if changes.compared else ""


def _counted(changes: Changes) -> str:
    """Return what opened and what closed in cells, and the other kinds where there are some."""
    if not changes.compared:
        return "nothing was compared"
    return _changed(changes)


def _changed(changes: ChangedPaths) -> str:
    count = _combinations if isinstance(changes, OutsideChanges) else cells
    return ", ".join(
        f"{count(cells)} {_KINDS.get(kind, kind)}"
        for kind, cells in changes.counts.items()
        if cells or kind not in _KINDS
    )


_KINDS = {"replies": "with another reply", "otherwise": "otherwise changed"}
"""Ways to change that are spoken of only where there are some."""


def states(path: ChangedPath) -> tuple[str, str]:
    """Return what a path was and is, in words, and that it drifted where it did."""
    before, after = (text + (" (drifting)" if drift else "") for text, drift in _states(path))
    return before, after


def _states(path: ChangedPath) -> Sequence[tuple[str, bool]]:
    """Return what a path was and is, in words, and whether it drifted then."""
    verdicts = [str(path.before), str(path.after)]
    if path.reply is not None:
        verdicts = [
            f"{verdict}, reply {reply}" for verdict, reply in zip(verdicts, path.reply, strict=True)
        ]
    return list(zip(verdicts, path.drift, strict=True))


def _table(title: str, paths: Sequence[ChangedPath], counts: str) -> Iterator[str]:
    yield f"#### {title}"
    yield ""
    yield f"| from | to | ports | before | after | because of | {counts} |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    rows = folded(paths)
    for row in rows[:MOST_ROWS]:
        path = row.path
        fields = (
            listed(row.srcs),
            row.receivers,
            ports_text(path.ports),
            *states(path),
            "; ".join(path.because) or path.why,
            f"{row.cells:,}",
        )
        yield f"| {' | '.join(map(_text, fields))} |"
    if len(rows) > MOST_ROWS:
        yield ""
        yield f"… and {len(rows) - MOST_ROWS:,} more."
    yield ""


def _text(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell of a table too."""
    shown = printing.line(text)
    return "".join(f"\\{char}" if char in r"\`*_[]<>|#" else char for char in shown)


def plain(changes: Changes) -> str:
    """Return what changed for a terminal: a path in a line, what explains it below."""
    lines = [f"{_compared(changes)}{_counted(changes)}"]
    lines += _uncompared(changes)
    if changes.drift_appeared or changes.drift_gone:
        lines.append(f"Drift: {cells(changes.drift_appeared)} new, {changes.drift_gone:,} gone")
    lines += [f"different: {text}" for text in (*changes.policies, *changes.facts)]
    lines += [f"new, not compared: {name}" for name in changes.appeared]
    lines += [f"gone, not compared: {name}" for name in changes.vanished]
    lines += _plain_rows(changes, cells)
    outside = _compared_outside(changes)
    if outside is not None and not outside.paths:
        lines.append(_unchanged(outside))
    elif outside is not None:
        lines += ("", f"{_OUTSIDE}: {_changed(outside)}")
        lines += _of_outside(outside)
        lines += _plain_rows(outside, _combinations)
    return printing.lines(lines)


def _plain_rows(changes: ChangedPaths, count: Callable[[int], str]) -> Iterator[str]:
    for title, paths in _by_way(changes):
        rows = folded(paths, blame=True)
        yield from ("", f"{title}: {count(sum(path.cells for path in paths))}")
        for row in rows[:MOST_ROWS]:
            yield from _plain_row(row, count)
        if len(rows) > MOST_ROWS:
            yield f"… and {len(rows) - MOST_ROWS:,} more; -o json has them all"


def _plain_row(row: Row, counted: Callable[[int], str]) -> Iterator[str]:
    path = row.path
    before, after = (
        f"{state}{f' ({blame})' if blame else ''}{', drifting' if drift else ''}"
        for (state, drift), blame in zip(_states(path), (path.was, path.why), strict=True)
    )
    count = counted(row.cells)
    ends = row.ends
    yield from ("", *wrap(f"{ends} on {ports_text(path.ports)}: {count}"))
    yield from wrap(f"before   {before}", indent=2, hang=11)
    yield from wrap(f"after    {after}", indent=2, hang=11)
    if path.because:  # of manifests, what decides before and after is all there is to say
        yield from wrap(f"because  {'; '.join(path.because)}", indent=2, hang=11)
