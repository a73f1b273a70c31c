"""Where a packet goes on that left its node by a tunnel. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from audit.model.datapath import Chassis
from audit.model.tasks import keyed
from audit.model.traces import DatapathTask, DatapathTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnels:
    """Finds the chassis a tunnel leads to: by the address that each gave itself."""

    by_address: Mapping[str, Chassis]

    @classmethod
    def of(cls, chassis: Iterable[Chassis]) -> "Tunnels":
        """Index chassis by their tunnel addresses."""
        return cls(by_address={node.address: node for node in chassis if node.address})

    def beyond(self, task: DatapathTask, trace: DatapathTrace) -> DatapathTask | None:
        """Return the trace on the node at the tunnel's other end; None when there is none."""
        if trace.tunnel is None or trace.packet is None:
            return None
        chassis = self.by_address.get(trace.tunnel.remote)
        if chassis is None:
            return None
        return keyed(
            replace(
                task,
                zone=chassis.zone,
                node=chassis.node,
                tunnel=trace.tunnel,
                microflow=trace.packet,
                select=0,
                depth=task.depth + 1,
            )
        )
