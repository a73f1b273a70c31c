"""The data the page's script draws from: tables, classes and traces, compressed and bounded.

Everything is deflated and base64-encoded: JSON for tables, little-endian arrays where there are
many. What does not fit is left out whole, is listed in `left_out`, and the page says how to ask
for it instead. The tables always fit, and the counts by namespace, which stand for the cells where
these do not: they are what the summary is made of.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.changes import UNMATCHED, ChangedCells
from audit.model.facts import Policy
from audit.model.matrix import FAMILIES, PLANES
from audit.model.meaning import Meanings
from audit.model.run import StreamedRun
from audit.model.verdicts import CODE, PASSES, REASONS, VERDICTS, Blame, PolicyRef
from audit.report import manifests, raw, sentences
from audit.report.axes import Axes
from audit.report.census import Census, Decider, label_of
from audit.report.classes import Classes, classes
from audit.report.grid import Grid, State, deflate

MOST_BYTES = 7_200_000
"""Compressed bytes of everything together: 9.6 MB as base64, and the page stays below 10 MB."""
MOST_TRACE_BYTES = 6_000_000
"""Compressed bytes of hops and raw traces."""
MOST_MANIFEST_BYTES = 2_000_000
WHOLE = ("cells", "manifests", "hops", "raw")
"""What may be left out, each as a whole: the first part of it that does not fit takes it along."""
CHUNK = 1_000_000
"""Entries of a grid of traces in one chunk: some milliseconds to inflate."""
PIECE = 300_000
"""Characters of JSON in one chunk, or not much more: some milliseconds to parse."""
MANIFESTS_PER_CHUNK = 250
MOST_CHANGES = 2_000
"""Kinds of changes that the panel of a cell explains; of the rest it names `audit diff`."""


Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True, kw_only=True)
class Blobs:
    """Named compressed pieces, taken as long as there is room."""

    room: int
    pieces: dict[str, list[str]]

    def put(self, name: str, chunks: Iterable[bytes], *, most: int | None = None) -> int | None:
        """Take all chunks, or none if they are more than `most` bytes or than there is room.

        Returns how many bytes were taken, None when the piece was left out.
        """
        limit = self.room if most is None else min(most, self.room)
        taken, size = [], 0
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                return None
            taken.append(base64.b64encode(chunk).decode())
        self.room -= size
        self.pieces[name] = taken
        return size

    def always(self, name: str, data: Iterable[bytes]) -> None:
        """Take all of it, whatever room there is."""
        chunks = [*map(deflate, data)]
        self.room -= sum(map(len, chunks))
        self.pieces[name] = [base64.b64encode(chunk).decode() for chunk in chunks]


def payload(  # noqa: PLR0913 - all that a page is made of
    run: StreamedRun,
    grid: Grid,
    counted: Census,
    deciding: Sequence[Decider],
    *,
    meanings: Meanings | None = None,
    changed: ChangedCells | None = None,
    trace_budget: int = MOST_TRACE_BYTES,
    budget: int = MOST_BYTES,
) -> dict[str, Any]:
    """Return what goes into the page's data block: JSON values only."""
    blobs = Blobs(room=budget, pieces={})
    grouping = classes(grid)
    policies = _policies(run, grid)
    tables = _tables(run, grid, counted, policies, deciding)
    tables["meanings"] = _meanings(meanings, grid)
    tables["since"] = changed.since if changed else ""
    tables["changes"] = _changes(changed) if changed else []
    blobs.always("tables", map(_json, _pieces(tables)))
    if blobs.put("cells", map(deflate, _class_arrays(grouping, grid))) is None:
        blobs.always("pairs", [counted.pairs.astype("<u4").tobytes()])
    texts = [
        [policy.manifest, manifests.marks(policy.manifest, policy.ref.kind)] if policy else None
        for policy in policies.values()
    ]
    some = range(0, len(texts), MANIFESTS_PER_CHUNK)
    chunks = (deflate(_json(texts[start : start + MANIFESTS_PER_CHUNK])) for start in some)
    blobs.put("manifests", chunks, most=MOST_MANIFEST_BYTES)
    rows = max(1, CHUNK // max(len(grid.page.column_dst), 1))
    if "cells" in blobs.pieces:
        _put_traces(blobs, run, grid, rows, trace_budget)
    return {
        "version": 4,
        "codeBytes": grid.codes.dtype.itemsize,
        "rowsPerChunk": rows,
        "tracesPerChunk": raw.PER_CHUNK,
        "manifestsPerChunk": MANIFESTS_PER_CHUNK,
        "composes": run.manifest.get("cover") == "legs",
        "leftOut": [name for name in WHOLE if name not in blobs.pieces],
        "traced": bool(grid.trace_keys),
        "blobs": blobs.pieces,
    }


def _class_arrays(grouping: Classes, grid: Grid) -> tuple[bytes, ...]:
    """Return the grid as the page reads it; columns of exceptions are differences by row."""
    begins = np.cumsum(grouping.exceptions_of) - grouping.exceptions_of
    columns = np.diff(grouping.columns, prepend=0)
    begins = begins[grouping.exceptions_of > 0]
    columns[begins] = grouping.columns[begins]
    row_rank, column_rank = _similarity(grouping, grid)
    return (
        grouping.row_class.astype("<u4").tobytes(),
        grouping.column_class.astype("<u4").tobytes(),
        grouping.base.tobytes(),
        grouping.exceptions_of.astype("<u4").tobytes(),
        columns.astype("<u4").tobytes(),
        grouping.codes.tobytes(),
        row_rank.astype("<f4").tobytes(),
        column_rank.astype("<f4").tobytes(),
    )


def _similarity(grouping: Classes, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a number per row and per column; what passes alike has numbers close together.

    They are the entries of the grid's second pair of singular vectors (the first is how much
    passes at all), found by iteration: the rows weighed as often as their class occurs.
    """
    passing = np.array([0.0, *(s.verdict in _PASSING for s in grid.states)], np.float32)
    passes = passing[grouping.base]
    many = np.sqrt(np.bincount(grouping.row_class, minlength=len(passes)))[:, None]
    wide = np.sqrt(np.bincount(grouping.column_class, minlength=passes.shape[1]))[None, :]
    weighed = passes * many * wide
    if not weighed.size:
        return np.zeros(len(grouping.row_class)), np.zeros(len(grouping.column_class))
    left, right = np.empty(0), np.linspace(1.0, 2.0, weighed.shape[1])
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for _ in range(2):
        for _ in range(30):
            left = weighed @ right
            for vector, _ in pairs:
                left -= vector * (vector @ left)
            left /= np.linalg.norm(left) or 1.0
            right = left @ weighed
            right /= np.linalg.norm(right) or 1.0
        pairs.append((left, right))
        right = np.linspace(-1.0, 1.0, weighed.shape[1]) ** 3
    left, right = pairs[1]
    return (left / many[:, 0])[grouping.row_class], (right / wide[0])[grouping.column_class]


_PASSING = frozenset(CODE[verdict] for verdict in PASSES)


def _meanings(meanings: Meanings | None, grid: Grid) -> dict[str, Any] | None:
    """Return what the policy objects say, by kinds of endpoints; None where that is not known."""
    if meanings is None:
        return None
    texts: dict[str, int] = {}
    rows = []
    for (src, dst, family, port), meant in meanings.of.items():
        changes = [
            [list(c.edits), list(c.also), c.also_count, int(c.also_more)] for c in meant.changes
        ]
        chains = [texts.setdefault(text, len(texts)) for text in (meant.egress, meant.ingress)]
        rows.append([src, dst, family, port, VERDICTS.index(meant.verdict), *chains, changes])
    kinds = [meanings.kind_of.get(endpoint.key, -1) for endpoint in grid.page.endpoints]
    return {"kindOf": kinds, "texts": list(texts), "rows": rows}


def _changes(changed: ChangedCells) -> list[list[Any]]:
    """Return what explains changes: from, to, ports, verdicts before and after, who, and why."""
    return [
        [
            *(path.src, path.dst, list(path.ports)),
            *(CODE[path.before], CODE[path.after], path.was, path.why, list(path.because)),
        ]
        for path in changed.paths.paths[:MOST_CHANGES]
    ]


def _put_traces(blobs: Blobs, run: StreamedRun, grid: Grid, rows: int, budget: int) -> None:
    """Put the hops of the traces, then their raw text, as far as there is room."""
    traces = raw.collect(run.traces, grid)
    if traces is None or grid.starts is None:
        return
    starts = [*raw.start_chunks(traces, grid.starts, rows)]
    left = _put_both(blobs, ("starts", starts), ("hops", raw.hop_chunks(traces)), most=budget)
    if left is None:
        return
    if grid.others is not None:
        taken = blobs.put("others", raw.start_chunks(traces, grid.others, rows), most=left)
        left -= taken or 0
    if traces.texts is not None:
        lines = (deflate(_json(part)) for part in _parts(traces.lines))
        _put_both(blobs, ("lines", lines), ("raw", raw.text_chunks(traces.texts)), most=left)


def _put_both(
    blobs: Blobs,
    first: tuple[str, Iterable[bytes]],
    second: tuple[str, Iterable[bytes]],
    *,
    most: int,
) -> int | None:
    """Put two pieces of which neither is of use alone; return what is left of `most`."""
    first_size = blobs.put(*first, most=most)
    if first_size is None:
        return None
    second_size = blobs.put(*second, most=most - first_size)
    if second_size is None:
        blobs.room += first_size
        del blobs.pieces[first[0]]
        return None
    return most - first_size - second_size


def _tables(
    run: StreamedRun,
    grid: Grid,
    counted: Census,
    policies: Mapping[PolicyRef, Policy | None],
    deciding: Sequence[Decider],
) -> dict[str, Any]:
    """Return the tables every code on the page points into."""
    number = {ref: index for index, ref in enumerate(policies)}
    page = grid.page
    decider = {d.label: index for index, d in enumerate(deciding)}
    states, causes = _states(grid, decider)
    sets = dict.fromkeys(endpoint.labels for endpoint in page.endpoints)
    label_sets = {labels: index for index, labels in enumerate(sets)}
    return {
        "path": run.path,
        "planes": _planes(run.manifest),
        "bothFamilies": len({family for family, _ in page.slices}) > 1,
        "verdicts": [
            {"name": v, "verb": sentences.VERBS[v], "reply": sentences.REPLIES[v]} for v in VERDICTS
        ],
        "noReply": sentences.NO_REPLY,
        "replyNotAsked": sentences.NOT_ASKED,
        "reasons": list(REASONS),
        "families": list(FAMILIES),
        "ports": [str(port) for port in run.ports],
        "endpoints": _endpoints(page, label_sets),
        "labelSets": [[f"{key}={value}" for key, value in labels] for labels in label_sets],
        "networks": sorted({e.network_name for e in page.endpoints} - {""}),
        "groups": list(page.groups),
        "groupOf": page.group_of.tolist(),
        "sources": page.sources.tolist(),
        "slices": page.slices,
        "columnDst": page.column_dst.tolist(),
        "columnSlice": page.column_slice.tolist(),
        "sends": counted.sends.tolist(),
        "receives": counted.receives.tolist(),
        "states": states,
        "causes": causes,
        "blames": [_blame(blame, number) for blame in grid.blames],
        "policies": [_policy(ref, policy) for ref, policy in policies.items()],
        "deciders": _deciders(deciding, number),
        "drifting": counted.drifting,
        "changed": counted.changed,
        "unmatched": any(state.changed == UNMATCHED for state in grid.states),
    }


def _planes(manifest: Mapping[str, Any]) -> list[str]:
    """Return the planes that the run asked, and `probe` where connections were tried."""
    return [*(manifest.get("planes") or ()), *(["probe"] if manifest.get("probe") else [])]


def _deciders(deciding: Sequence[Decider], number: Mapping[PolicyRef, int]) -> list[list[Any]]:
    """Return what decides: label, policy (-1 for none), and the cells it blocks, allows, shares."""
    return [
        [d.label, number[d.policy] if d.policy else -1, d.blocks, d.allows, d.shared]
        for d in deciding
    ]


def _states(grid: Grid, decider: Mapping[str, int]) -> tuple[list[list[Any]], list[str]]:
    """Return each state as the page reads it, and the causes it points into.

    A state's last two entries are who decided, -1 for nobody, and who shares a default deny.
    """
    causes: dict[str, int] = {}
    rows: list[list[Any]] = []
    for state in grid.states:
        why = grid.blames[state.blame] if state.blame >= 0 else None
        verdict = VERDICTS[state.verdict]
        text = sentences.cause(verdict, REASONS[state.reason], why)
        named = decider.get(label_of(why), -1)
        shared = [decider[str(ref)] for ref in why.policies if str(ref) in decider] if why else []
        planes = [getattr(state, name) for name in PLANES]
        numbers = [state.verdict, state.reply, state.reason, causes.setdefault(text, len(causes))]
        rows.append([*numbers, state.blame, *planes, *_marks(state), named, shared])
    return rows, list(causes)


def _marks(state: State) -> list[int]:
    """Return whether the planes disagree, and how the cell changed."""
    return [int(state.drift == 1), state.changed]


def _endpoints(page: Axes, label_sets: Mapping[Labels, int]) -> list[list[str | int]]:
    """Return what the page says about each endpoint.

    That is key, kind, name, workload, node, the number of its set of labels, its addresses, and of
    a pod its network. A workload is one for each network that its pods are attached to.
    """
    return [
        [
            *(e.key, e.kind, e.name, e.workload and e.workload + e.aside, e.node),
            *(label_sets[e.labels], " ".join(e.addresses), e.network_name),
        ]
        for e in page.endpoints
    ]


def _policies(run: StreamedRun, grid: Grid) -> dict[PolicyRef, Policy | None]:
    """Return every policy the run has or names, sorted; None where its object is not known."""
    policies: dict[PolicyRef, Policy | None] = {policy.ref: policy for policy in run.policies}
    for blame in grid.blames:
        for ref in (blame.policy, *blame.policies):
            if ref is not None:
                policies.setdefault(ref, None)
    return {ref: policies[ref] for ref in sorted(policies)}


def _policy(ref: PolicyRef, policy: Policy | None) -> dict[str, Any]:
    """Return a policy, and whether the run has its object."""
    return {
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "label": str(ref),
        "known": policy is not None,
    }


def _blame(blame: Blame, number: Mapping[PolicyRef, int]) -> dict[str, Any]:
    """Return a blame with its policies as indices into the page's table."""
    return {
        "label": str(blame),
        "action": blame.action,
        "direction": blame.direction,
        "policy": number[blame.policy] if blame.policy else -1,
        "policies": [number[ref] for ref in blame.policies],
        "rule": blame.rule,
        "acl": blame.acl,
        "match": blame.acl_match,
        "flow": blame.logical_flow,
        "stage": blame.stage,
        "zone": blame.zone,
        "owner": blame.owner,
    }


def _pieces(tables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tables in pieces; a list may be in several, which the page puts together again."""
    piece: dict[str, Any] = {}
    size = 0
    for name, table in tables.items():
        for part in _parts(table) if isinstance(table, list) else (table,):
            more = len(_json(part))
            if piece and (size + more > PIECE or name in piece):
                yield piece
                piece, size = {}, 0
            piece[name] = part
            size += more
    yield piece


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield a list in parts of about PIECE characters of JSON each; an empty one as it is."""
    many = -(-len(_json(values)) // PIECE)
    length = max(1, -(-len(values) // many))
    for start in range(0, max(1, len(values)), length):
        yield values[start : start + length]


def _json(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )
