"""Chains of traces: the hops a cell's packet took, in order, and those of its reply."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.packets import with_port
from audit.model.run import ENDPOINTS, TO_ITSELF, Run, TraceReader, TraceRecord, endpoints_key
from audit.model.verdicts import KEPT_FIRST, PASSES, STOPPED, Reason, Verdict


def request(traces: TraceReader, key: str) -> tuple[TraceRecord, ...]:
    """Return the trace with this key and those that took over from it, each once, first hop first.

    Breadth first, so that the parallel hops of a load balancer's backends stand together.
    """
    hops: dict[str, TraceRecord] = {}
    queue = [key]
    for current in queue:
        record = None if current in hops else traces.get(current)
        if record is not None:
            hops[current] = record
            queue.extend(record.next_keys)
    return tuple(hops.values())


def request_of(run: Run, cell: int) -> tuple[TraceRecord, ...]:
    """Return the hops of the request that decides a cell, first hop first.

    Where one trace tells what becomes of a Service's packets at each of its endpoints, the row that
    names these comes first, as where there is a trace for each.
    """
    matrix, trace = run.matrix, int(run.verdicts.trace[cell])
    hops = request(run.traces, run.verdicts.trace_keys[trace]) if trace >= 0 else ()
    dst = matrix.endpoints[matrix.dst[cell]]
    if dst.kind is not EndpointKind.SERVICE or not hops or not hops[0].microflow:
        return hops
    family = FAMILIES[matrix.family[cell]]
    if Packet.of(hops[0].microflow).dst == dst.address(family):
        return hops
    listed = run.traces.get(endpoints_key(dst.key, matrix.ports[matrix.port[cell]], family))
    if listed is None:
        return hops
    return (replace(listed, next_keys=(hops[0].key,) * len(_listed(listed))), *hops)


def reply(traces: TraceReader, key: str) -> tuple[TraceRecord, ...]:
    """Return the hops of the replies to the request with this key; none when none was traced.

    Each backend that the request reached replies for itself.
    """
    hops: dict[str, TraceRecord] = {}
    for hop in request(traces, key):
        first = traces.reply_to(hop.key)
        if first is not None:
            hops.update((record.key, record) for record in request(traces, first.key))
    return tuple(hops.values())


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """What a microflow says of its packet, in either engine's words; empty what it does not say."""

    inport: str
    src: str
    dst: str
    port: str

    @classmethod
    def of(cls, microflow: str) -> "Packet":
        """Read one."""
        matches = {name: pattern.search(microflow) for name, pattern in _WORDS.items()}
        return cls(**{name: match[1] if match else "" for name, match in matches.items()})


_WORDS = {
    "inport": re.compile(r'\binport=="([^"]*)"'),
    "src": re.compile(r"\b(?:ip[46]\.src==|nw_src=|ipv6_src=)([^\s,]+)"),
    "dst": re.compile(r"\b(?:ip[46]\.dst==|nw_dst=|ipv6_dst=)([^\s,]+)"),
    "port": re.compile(r"\b((?:tcp|udp|sctp)(?:\.dst==|_dst=)\d+)"),
}


def _port(packet: Packet) -> str:
    """Return the port as people write it, `tcp/80`."""
    return re.sub(r"(\.dst==|_dst=)", "/", packet.port)


def is_composed(run: Run, cell: int, first: TraceRecord) -> bool:
    """Say whether the trace that decides a cell is another cell's: an equivalent packet.

    `first` is the first trace behind the cell. A packet is the cell's own when it enters as the
    source's and goes to the destination's address and port.
    """
    matrix = run.matrix
    src, dst = matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]]
    address = dst.address(FAMILIES[matrix.family[cell]])
    if not first.microflow:
        # What a sender sends to itself stays a packet to the Service's address.
        return any(
            not _sends(src, packet) or (_target(packet) != target and packet.dst != address)
            for target, packet in _forked(run, first)
        )
    packet = Packet.of(first.microflow)
    port = matrix.ports[matrix.port[cell]]
    numbered = f"{port.protocol}/{port.sample}"
    return not _sends(src, packet) or packet.dst != address or _port(packet) not in ("", numbered)


def equivalent(run: Run, first: TraceRecord) -> str:
    """Return whose packet a trace is of: `pod a/b to pod a/c on tcp/80`.

    Of a Service that has no packet of its own: those that stand for its endpoints'.
    """
    if not first.microflow:
        pairs = dict.fromkeys(_pair(run, packet) for _, packet in _forked(run, first))
        more = f"; and {len(pairs) - MOST_PAIRS} more" if len(pairs) > MOST_PAIRS else ""
        return "; ".join([*pairs][:MOST_PAIRS]) + more
    return _pair(run, Packet.of(first.microflow))


MOST_PAIRS = 3
"""Packets that stand for a Service's, and are named."""


def _forked(run: Run, fork: TraceRecord) -> list[tuple[str, Packet]]:
    """Return the endpoints of a Service without a packet of its own, and what was sent for each."""
    firsts = (run.traces.get(key) for key in fork.next_keys)
    return [
        (target, Packet.of(first.microflow if first is not None else ""))
        for target, first in zip(_listed(fork), firsts, strict=False)
        if first is None or first.key != TO_ITSELF
    ]


def _listed(fork: TraceRecord) -> list[str]:
    """Return the endpoints that a request without a packet of its own names, in order."""
    return fork.detail.removeprefix(ENDPOINTS).split(", ")


def _pair(run: Run, packet: Packet) -> str:
    endpoints = run.matrix.endpoints
    senders = (endpoint.key for endpoint in endpoints if _sends(endpoint, packet))
    receivers = (endpoint.key for endpoint in endpoints if packet.dst in endpoint.addresses)
    src, dst = next(senders, packet.src or packet.inport), next(receivers, packet.dst)
    return f"{src} to {dst} on {_port(packet)}".removesuffix(" on ")


def _sends(endpoint: Endpoint, packet: Packet) -> bool:
    attached = endpoint.attachment
    if packet.inport:
        return attached is not None and attached.port == packet.inport
    return packet.src in (attached.addresses if attached else endpoint.addresses)


def backends(records: Sequence[TraceRecord], address: str) -> tuple[str, ...]:
    """Return what a Service's traces were balanced to, `172.18.0.2:6443`; `address` is its own."""
    if records and not records[0].microflow:
        return tuple(_listed(records[0]))
    packets = (Packet.of(record.microflow) for record in records)
    return tuple(dict.fromkeys(_target(p) for p in packets if p.dst and p.dst != address))


def _target(packet: Packet) -> str:
    """Return where a packet goes, as `172.18.0.2:6443`."""
    return with_port(packet.dst, _port(packet).partition("/")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Balanced:
    """One endpoint that a Service's packets are balanced to: how they fare, and what stops them.

    `target` is empty for the sender itself, of which no packet went out. `by` is a policy, or the
    reason where none decided.
    """

    target: str
    verdict: Verdict
    by: str


def balanced(run: Run, cell: int) -> tuple[Balanced, ...]:
    """Return each endpoint that the packets of a Service's cell go to; none of other cells."""
    matrix, trace = run.matrix, int(run.verdicts.trace[cell])
    dst = matrix.endpoints[matrix.dst[cell]]
    if dst.kind is not EndpointKind.SERVICE or trace < 0:
        return ()
    address = dst.address(FAMILIES[matrix.family[cell]])
    fates: dict[str, Balanced] = {}
    for parent in request_of(run, cell):
        if parent.reason != Reason.ALL_BACKENDS:
            continue
        for place, first in enumerate(map(run.traces.get, parent.next_keys)):
            if first is None:
                continue
            packet = Packet.of(first.microflow)
            target = _target(packet) if parent.microflow else _listed(parent)[place]
            itself = first.key == TO_ITSELF or packet.dst == address
            if itself or first.microflow == parent.microflow:
                target = ""  # to the sender itself no packet goes
            fates.setdefault(target, _fate(target, request(run.traces, first.key)))
    return tuple(fates[target] for target in sorted(fates))


def _fate(target: str, hops: Sequence[TraceRecord]) -> Balanced:
    """Return how the packets of one endpoint fare, where the ends of their ways agree."""
    ends = [hop for hop in hops if not hop.next_keys]
    words = {hop.outcome for hop in ends}
    verdict = next((verdict for verdict in KEPT_FIRST if verdict in words), None)
    if verdict is None or not (words <= PASSES or words <= STOPPED):
        reasons = (hop.reason for hop in ends if hop.outcome not in PASSES | STOPPED)
        by = next(reasons, str(Reason.BACKENDS_DIFFER))
        return Balanced(target=target, verdict=Verdict.INCONCLUSIVE, by=by)
    deciding = next(hop for hop in ends if hop.outcome == verdict)
    return Balanced(target=target, verdict=verdict, by=policy_of(deciding) or deciding.reason)
