"""The data the page's script draws from: tables, cells and traces, compressed and bounded.

Everything is deflated and base64-encoded: JSON for tables, little-endian arrays where there are N²
of something. What does not fit is left out whole, is listed in `left_out`, and the page says how to
ask for it instead. The tables and the tallies always fit: they are what the summary is made of.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audit.model.facts import Policy
from audit.model.matrix import FAMILIES
from audit.model.run import Run
from audit.model.verdicts import REASONS, VERDICTS, Blame, PolicyRef
from audit.report import grid, manifests, raw, sentences
from audit.report.axes import Axes
from audit.report.census import MOST_LISTED, Blocker, Census
from audit.report.grid import deflate

MOST_BYTES = 7_200_000
"""Compressed bytes of everything together: 9.6 MB as base64, and the page stays below 10 MB."""
MOST_TRACE_BYTES = 6_000_000
"""Compressed bytes of hops and raw traces."""
MOST_MANIFEST_BYTES = 2_000_000
WHOLE = ("cells", "manifests", "hops", "raw")
"""What may be left out, each as a whole: the first part of it that does not fit takes it along."""
MOST_ENTRIES = 400_000_000
"""Entries of a grid that are tried at all: about a minute of compression."""


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


def payload(
    run: Run,
    page: Axes,
    counted: Census,
    blocking: tuple[Blocker, ...],
    *,
    trace_budget: int = MOST_TRACE_BYTES,
    budget: int = MOST_BYTES,
) -> dict[str, Any]:
    """Return what goes into the page's data block: JSON values only."""
    blobs = Blobs(room=budget, pieces={})
    known = grid.states(run.verdicts)
    policies = _policies(run)
    tables = _tables(run, page, counted, known, policies, blocking)
    blobs.room -= len(blobs.pieces.setdefault("tables", [_packed_json(tables)])[0]) * 3 // 4
    counts = counted.counts.astype("<u4").tobytes()
    blobs.room -= len(blobs.pieces.setdefault("tallies", [_packed(counts)])[0]) * 3 // 4
    if grid.entries(page) <= MOST_ENTRIES:
        blobs.put("cells", grid.state_chunks(run.matrix, run.verdicts, page, known))
    texts = [policy.manifest if policy else "" for policy in policies.values()]
    blobs.put("manifests", [deflate(_json(texts))], most=MOST_MANIFEST_BYTES)
    if "cells" in blobs.pieces:
        _put_traces(blobs, run, page, trace_budget)
    return {
        "version": 1,
        "cellBytes": known.width,
        "rowsPerChunk": grid.rows_per_chunk(page),
        "tracesPerChunk": raw.PER_CHUNK,
        "composes": run.manifest.get("cover") == "legs",
        "leftOut": [name for name in WHOLE if name not in blobs.pieces],
        "blobs": blobs.pieces,
    }


def _put_traces(blobs: Blobs, run: Run, page: Axes, budget: int) -> None:
    """Put the hops of the traces, then their raw text, as far as there is room."""
    traces = raw.collect(run.traces, run.verdicts)
    if traces is None:
        return
    starts = grid.trace_chunks(run.matrix, run.verdicts, page, traces.number_of)
    left = _put_both(blobs, ("starts", starts), ("hops", raw.hop_chunks(traces)), most=budget)
    if left is not None and traces.texts is not None:
        lines = [deflate(_json(traces.lines))]
        _put_both(blobs, ("lines", lines), ("raw", raw.text_chunks(traces.texts)), most=left)


def _put_both(
    blobs: Blobs,
    first: tuple[str, Iterable[bytes]],
    second: tuple[str, Iterable[bytes]],
    *,
    most: int,
) -> int | None:
    """Put two pieces of which neither is of use alone; return what is left of `most`."""
    one = blobs.put(*first, most=most)
    if one is None:
        return None
    two = blobs.put(*second, most=most - one)
    if two is None:
        blobs.room += one
        del blobs.pieces[first[0]]
        return None
    return most - one - two


def _tables(
    run: Run,
    page: Axes,
    counted: Census,
    known: grid.States,
    policies: Mapping[PolicyRef, Policy | None],
    blocking: tuple[Blocker, ...],
) -> dict[str, Any]:
    """Return the tables every code on the page points into."""
    number = {ref: index for index, ref in enumerate(policies)}
    states, causes, blames = _states(run, known)
    return {
        "path": run.path,
        "bothFamilies": sentences.has_both_families(run),
        "verdicts": [
            {"name": v, "verb": sentences.VERBS[v], "reply": sentences.REPLIES[v]} for v in VERDICTS
        ],
        "noReply": sentences.NO_REPLY,
        "reasons": list(REASONS),
        "families": list(FAMILIES),
        "ports": [str(port) for port in run.matrix.ports],
        "endpoints": _endpoints(page),
        "groups": list(page.groups),
        "groupOf": page.group_of.tolist(),
        "sources": page.sources.tolist(),
        "slices": page.slices,
        "columnDst": page.column_dst.tolist(),
        "columnSlice": page.column_slice.tolist(),
        "tallyGroup": counted.column_group.tolist(),
        "tallySlice": counted.column_slice.tolist(),
        "states": states,
        "causes": causes,
        "blames": [_blame(run.verdicts.blames[index], number) for index in blames],
        "policies": [_policy(ref, policy) for ref, policy in policies.items()],
        "blockers": [
            [b.label, number[b.policy] if b.policy else -1, b.cells, b.shared, b.pairs]
            for b in blocking[:MOST_LISTED]
        ],
    }


def _states(run: Run, known: grid.States) -> tuple[list[list[int]], list[str], list[int]]:
    """Return (verdict, reply, reason, cause, blame) of each state, and the causes and blames.

    Causes and blames are those some state has, numbered as the states name them.
    """
    causes: dict[str, int] = {}
    blames: dict[int, int] = {}
    rows = []
    for verdict, reply, reason, blame in known.table:
        why = run.verdicts.blames[blame] if blame >= 0 else None
        text = sentences.cause(VERDICTS[verdict], REASONS[reason], why)
        at = blames.setdefault(blame, len(blames)) if blame >= 0 else -1
        rows.append([verdict, reply, reason, causes.setdefault(text, len(causes)), at])
    return rows, list(causes), list(blames)


def _endpoints(page: Axes) -> list[list[str]]:
    """Return what the page says about each endpoint: key, kind, name, workload, node."""
    return [[e.key, e.kind, e.name, e.workload, e.node] for e in page.endpoints]


def _policies(run: Run) -> dict[PolicyRef, Policy | None]:
    """Return every policy the run has or names, sorted; None where its object is not known."""
    known: dict[PolicyRef, Policy | None] = {policy.ref: policy for policy in run.policies}
    for blame in run.verdicts.blames:
        for ref in (blame.policy, *blame.policies):
            if ref is not None:
                known.setdefault(ref, None)
    return dict(sorted(known.items(), key=lambda item: item[0]))


def _policy(ref: PolicyRef, policy: Policy | None) -> dict[str, Any]:
    """Return a policy and where its rules stand in its manifest."""
    where = {"ingress": (), "egress": (), "selector": ()}
    return {
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "label": str(ref),
        "known": policy is not None,
        "marks": manifests.marks(policy) if policy else where,
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


def _json(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _packed_json(value: object) -> str:
    """Return JSON, deflated, as base64."""
    return _packed(_json(value))


def _packed(data: bytes) -> str:
    """Return bytes, deflated, as base64."""
    return base64.b64encode(deflate(data)).decode()
