"""One cell as data for programs, and its traces in the engine's own words. Pure."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import FAMILIES
from audit.model.run import Run, TraceRecord
from audit.model.verdicts import NO_VERDICT, REASONS, VERDICTS, Blame
from audit.report import chains, sentences


def traces_of(run: Run, cell: int) -> tuple[TraceRecord, ...]:
    """Return the traces behind a cell: the request's hops, then the reply's."""
    trace = int(run.verdicts.trace[cell])
    if trace < 0:
        return ()
    key = run.verdicts.trace_keys[trace]
    request, reply = chains.request_of(run, cell), chains.reply(run.traces, key)
    return (*request, *chains.other(run, cell), *reply)


def raw_text(run: Run, cell: int) -> str:
    """Return every trace behind a cell as the engine printed it."""
    return "".join(
        f"\n=== zone {record.zone}{f', node {record.node}' if record.node else ''}, "
        f"ct={record.state}, trace {record.key}\n"
        f"=== {record.microflow}\n{record.output}"
        for record in traces_of(run, cell)
        if record.microflow
    )


def fields(run: Run, cell: int, *, raw: bool) -> dict[str, Any]:
    """Return everything known about a cell under the names of the `cells` columns."""
    matrix, verdicts = run.matrix, run.verdicts
    blame = sentences.blame_of(run, cell)
    reply = int(verdicts.reply[cell])
    traces = traces_of(run, cell)
    composed = bool(traces) and chains.is_composed(run, cell, traces[0])
    return {
        "src": matrix.endpoints[matrix.src[cell]].key,
        "dst": matrix.endpoints[matrix.dst[cell]].key,
        "family": str(FAMILIES[matrix.family[cell]]),
        "port": str(matrix.ports[matrix.port[cell]]),
        "verdict": str(VERDICTS[verdicts.verdict[cell]]),
        "reason": str(REASONS[verdicts.reason[cell]]),
        "intent": _word(verdicts.intent, cell),
        "logical": _word(verdicts.logical, cell),
        "datapath": _word(verdicts.datapath, cell),
        "probe": _word(verdicts.probe, cell),
        "connection": asdict(run.probes[cell]) if cell in run.probes else None,
        "drift": bool(verdicts.drift[cell] == 1) if verdicts.drift is not None else None,
        "reply": None if reply == NO_VERDICT else str(VERDICTS[reply]),
        "sentence": sentences.cell_sentence(run, cell),
        **blame_fields(blame),
        "composed": composed,
        "equivalent": chains.equivalent(run, traces[0]) if composed else None,
        "backends": [asdict(backend) for backend in chains.balanced(run, cell)],
        "traces": [_trace(record, raw=raw) for record in traces],
    }


def blame_fields(blame: Blame | None) -> dict[str, Any]:
    """Return who decided under the names of the `cells` columns, and who shares a default deny."""
    names = ("kind", "namespace", "name", "direction", "rule")
    if blame is None:
        return dict.fromkeys(("blame", *(f"blame_{name}" for name in names))) | {"policies": []}
    policy = blame.policy
    return {
        "blame": str(blame),
        "blame_kind": policy.kind if policy else None,
        "blame_namespace": policy.namespace if policy else None,
        "blame_name": policy.name if policy else None,
        "blame_direction": blame.direction,
        "blame_rule": blame.rule if blame.rule >= 0 else None,
        "policies": [str(ref) for ref in blame.policies],
    }


def _word(codes: NDArray[np.uint8] | None, cell: int) -> str | None:
    """Return a plane's verdict; None where the run has none beside another plane's."""
    if codes is None or codes[cell] == NO_VERDICT:
        return None
    return str(VERDICTS[codes[cell]])


def _trace(record: TraceRecord, *, raw: bool) -> dict[str, Any]:
    described = {
        "trace_id": record.key,
        "plane": record.plane,
        "zone": record.zone,
        "node": record.node,
        "conntrack": record.state,
        "microflow": record.microflow,
        "outcome": record.outcome,
        "reason": record.reason,
        "stage": record.stage,
        "logical_flow": record.logical_flow,
        "acl": record.acl,
        "acl_match": record.acl_match,
        "detail": record.detail,
    }
    return {**described, "raw": record.output} if raw else described
