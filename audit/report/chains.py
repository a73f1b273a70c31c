"""Chains of traces: the hops a cell's packet took, in order, and those of its reply."""

from audit.model.matrix import FAMILIES
from audit.model.run import Run, TraceReader, TraceRecord


def request(traces: TraceReader, key: str) -> tuple[TraceRecord, ...]:
    """Return the trace with this key and those that took over from it, each once, first hop first.

    Breadth first, so that the parallel hops of a load balancer's backends stand together.
    """
    found: dict[str, TraceRecord] = {}
    queue = [key]
    for current in queue:
        record = None if current in found else traces.get(current)
        if record is not None:
            found[current] = record
            queue.extend(record.next_keys)
    return tuple(found.values())


def reply(traces: TraceReader, key: str) -> tuple[TraceRecord, ...]:
    """Return the hops of the replies to the request with this key; none when none was traced.

    Each backend that the request reached replies for itself.
    """
    found: dict[str, TraceRecord] = {}
    for hop in request(traces, key):
        first = traces.reply_to(hop.key)
        if first is not None:
            found.update((record.key, record) for record in request(traces, first.key))
    return tuple(found.values())


def other(run: Run, cell: int) -> tuple[TraceRecord, ...]:
    """Return the hops of the cell's packet in the other plane; none where one plane was asked."""
    trace = -1 if run.verdicts.other_trace is None else int(run.verdicts.other_trace[cell])
    return request(run.traces, run.verdicts.trace_keys[trace]) if trace >= 0 else ()


def policy_of(record: TraceRecord) -> str:
    """Return the policy a trace names: `networkpolicy shop/web ingress[0]`, or nothing."""
    if not record.policy_kind:
        return ""
    where = f"{record.policy_namespace}/" if record.policy_namespace else ""
    rule = f"[{record.policy_rule}]" if record.policy_rule >= 0 else ""
    name = f"{record.policy_kind.lower()} {where}{record.policy_name}"
    return f"{name} {record.policy_direction}{rule}".rstrip()


def is_composed(run: Run, cell: int, first: TraceRecord) -> bool:
    """Say whether the trace that decides a cell is another cell's: an equivalent packet.

    `first` is the first trace behind the cell. A packet is the cell's own when it enters by the
    source's port and goes to the destination's address and port.
    """
    matrix = run.matrix
    src = matrix.endpoints[matrix.src[cell]]
    address = matrix.endpoints[matrix.dst[cell]].address(FAMILIES[matrix.family[cell]])
    port = matrix.ports[matrix.port[cell]]
    words = set(first.microflow.split(" && "))
    if first.plane != "logical":
        return False  # where the datapath's trace is the cell's evidence, it is the cell's own
    own = {
        f'inport=="{src.attachment.port if src.attachment else ""}"',
        f"{FAMILIES[matrix.family[cell]]}.dst=={address}",
        f"{port.protocol}.dst=={port.sample}",
    }
    return bool(first.microflow) and not own <= words
