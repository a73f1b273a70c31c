"""Compare runs with recorded traces to services, nodes and addresses outside (`parity.py`).

A service's recording is what `ovn-trace` drew: one backend at random each time. So what is asked
is that every recorded outcome is among the ends of our traces, that the backends are the whole
list, and that what the tool cannot decide is inconclusive.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.model.endpoints import EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.run import Run, TraceRecord
from audit.model.verdicts import VERDICTS, Verdict
from tests.parity import SNAPSHOTS, Score, audit, read_records

Record = Mapping[str, Any]

_OUTPUT = re.compile(r"output to ([^,]+)(?:, source address (\S+))?")


class Cells:
    """A run's cells by what the recordings call them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        matrix = run.matrix
        self._found = {}
        for cell in range(len(matrix)):
            src = matrix.endpoints[matrix.src[cell]]
            dst = matrix.endpoints[matrix.dst[cell]]
            port = matrix.ports[matrix.port[cell]]
            sender = {
                EndpointKind.POD: f"{src.namespace}_{src.name}",
                EndpointKind.NODE: f"k8s-{src.name}",
                EndpointKind.EXTERNAL: f"external {src.node}",
            }[src.kind]
            address = dst.address(FAMILIES[matrix.family[cell]])
            for receiver in (address, f"{dst.namespace}_{dst.name}"):
                where = (sender, receiver, str(port.protocol), port.number)
                self._found[where] = cell

    def at(self, sender: str, receiver: str, protocol: str, port: int) -> int:
        """Return the index of a cell."""
        return self._found[sender, receiver, protocol, port]

    def verdict(self, cell: int) -> Verdict:
        """Return a cell's verdict."""
        return VERDICTS[int(self.run.verdicts.verdict[cell])]

    def traces(self, cell: int) -> list[TraceRecord]:
        """Return the request's traces: its own, and every hop after it."""
        index = int(self.run.verdicts.trace[cell])
        return list(self._after(self.run.verdicts.trace_keys[index])) if index >= 0 else []

    def _after(self, key: str) -> Iterator[TraceRecord]:
        record = self.run.traces.get(key)
        assert record is not None
        yield record
        for onward in record.next_keys:
            yield from self._after(onward)

    def backends(self, cell: int) -> set[str]:
        """Return the backends that were traced, as `address:port`."""
        found = set()
        for record in self.traces(cell):
            if record.detail.startswith("backends "):
                found |= set(record.detail.removeprefix("backends ").split(", "))
        return found


def _ends(traces: list[TraceRecord]) -> Iterator[tuple[str, str, str]]:
    """Yield (outcome, port, translated source) of every trace that decided something."""
    for record in traces:
        output = _OUTPUT.match(record.detail)
        port, snat = (output[1], output[2] or "") if output else ("", "")
        yield record.outcome, port, snat


def _among(outcome: str, cells: Cells, cell: int, record: Record) -> bool:
    """Say whether a recorded outcome is one of the ends our traces came to."""
    traces = cells.traces(cell)
    ends = list(_ends(traces))
    if outcome.startswith("trace ends at ct_snat"):
        return cells.verdict(cell) is Verdict.INCONCLUSIVE and any(
            trace.reason == "nat-not-traced" for trace in traces
        )
    if outcome == "reject":
        return any(trace.reason == "service-without-endpoints" for trace in traces)
    if outcome == "dropped":
        # With session affinity the tool's trace ends in the step that learns the backend. It
        # translates no hairpin's source, so what it says of one is no evidence.
        hairpin = any(trace.reason == "hairpin-not-translated" for trace in traces)
        return (
            bool(record.get("affinity"))
            or hairpin
            or any(end in ("blocked", "unroutable") for end, *_ in ends)
        )
    port, _, snat = outcome.removeprefix("to ").partition(" snat ")
    if port.startswith("tstor-"):
        return any(trace.detail.endswith(f" by {port}") for trace in traces)
    return any(
        end in ("reachable", "exits") and there == port and snat in ("", there_snat)
        for end, there, there_snat in ends
    )


def compare_services(root: Path) -> Iterator[Score]:
    """Compare `services-egressip`: every kind of service, from pods and from outside."""
    snapshot = SNAPSHOTS["services-egressip"]
    records = read_records("services-egressip")
    for kind in sorted({r["kind"] for r in records}):  # each has ports and addresses of its own
        group = [r for r in records if r["kind"] == kind]
        flags: dict[str, Any]
        if kind.startswith("external"):
            flags = {"from_ips": sorted({r["src_ip"] for r in group})}
        else:
            flags = {"from_namespaces": sorted({r["src"].split("_")[0] for r in group})}
        run = audit(
            snapshot,
            root,
            to_ips=sorted({r["dst_ip"] for r in group}),
            ports=sorted({f"{r['protocol']}/{r['port']}" for r in group}),
            family="both",
            **flags,
        )
        yield from _score(Cells(run), group, kind)


def _score(cells: Cells, group: Sequence[Record], name: str) -> Iterator[Score]:
    outcomes = Score(f"services-egressip {name}: recorded outcomes among ours")
    backends = Score(f"services-egressip {name}: whole list of backends")
    for record in group:
        sender = f"external {record['src_node']}" if record["src"] == "external" else record["src"]
        cell = cells.at(sender, record["dst_ip"], record["protocol"], record["port"])
        where = (
            f"{record['kind']} {sender} {record['dst_ip']} {record['protocol']}/{record['port']}"
        )
        for outcome in record["outcomes"]:
            good = _among(outcome, cells, cell, record)
            outcomes.add(good=good, about=f"{where}: {outcome}; ours {cells.verdict(cell)}")
        if record.get("backends"):
            ours = cells.backends(cell)
            backends.add(good=ours == set(record["backends"]), about=f"{where}: {ours}")
    yield outcomes
    if backends.total:
        yield backends


def compare_extra(root: Path) -> Iterator[Score]:
    """Compare the old central cluster's services, outside, nodes, hosts and other ports."""
    records = read_records("ovn-23.03-central-extra")
    snapshot = SNAPSHOTS["ovn-23.03-central"]
    for kind in sorted({r["kind"] for r in records}):
        group = [r for r in records if r["kind"] == kind]
        flags: dict[str, Any] = {"ports": sorted({f"{r['proto']}/{r['port']}" for r in group})}
        if kind.startswith("host"):
            flags["from_nodes"] = sorted({r["src"].removeprefix("k8s-") for r in group})
        if kind.startswith("pod->"):
            flags["to_ips"] = sorted({r["dst_ip"] for r in group})
        cells = Cells(audit(snapshot, root, **flags))
        score = Score(f"ovn-23.03-central {kind}")
        for record in group:
            receiver = record["dst_ip"] if kind.startswith("pod->") else record["dst"]
            cell = cells.at(record["src"], receiver, record["proto"], record["port"])
            good = _extra_agrees(cells, cell, record)
            where = f"{record['src']} {receiver} {record['proto']}/{record['port']}"
            score.add(
                good=good,
                about=f"{where}: recorded {record['outputs']}, ours {cells.verdict(cell)}",
            )
        yield score


_ROUTER_PORTS = ("stor-", "rtos-", "rtoj-", "jtor-", "rtoe-", "etor-")


def _extra_agrees(cells: Cells, cell: int, record: Record) -> bool:
    """Compare with the ports a recorded trace was output to, the last of which is its end."""
    ends = list(_ends(cells.traces(cell)))
    last = record["outputs"][-1] if record["outputs"] else ""
    reset = any(t.reason == "service-without-endpoints" for t in cells.traces(cell))
    if last == record["src"] and any(
        t.reason == "hairpin-not-translated" for t in cells.traces(cell)
    ):  # the tool gives the pod its own packet with its own source, which is no evidence
        return cells.verdict(cell) is Verdict.INCONCLUSIVE
    if last == record["src"] and reset:  # what a service without endpoints answers with
        return True
    if not last or last.startswith(_ROUTER_PORTS):
        return any(end in ("blocked", "unroutable") for end, *_ in ends) or _affinity(cells, cell)
    return any(end in ("reachable", "exits") and there == last for end, there, _ in ends)


def _affinity(cells: Cells, cell: int) -> bool:
    """Say whether the traces went to a service with session affinity."""
    return any("lb_aff" in trace.output for trace in cells.traces(cell))


def compare(root: Path) -> list[Score]:
    """Return all comparisons of this module."""
    return [*compare_services(root), *compare_extra(root)]
