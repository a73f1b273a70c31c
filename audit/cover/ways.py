"""Transit legs: which pairs of senders and receivers routers tell apart. Pure.

Between two pods' switches every pair is a way of its own, and so is a pod of which flows on the way
say something of its own. A node's own address is behind no switch, and most nodes' addresses are to
a zone's routers one like the other: nothing in the zone names them, and they leave by the gateway.
Such share a way, from each sender.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitClasses:
    """Numbers, by endpoint, of where it sends from, is sent to, and is answered at.

    The endpoints of one number are alike to every logical flow between the switches.
    """

    sending: NDArray[np.int64]
    receiving: NDArray[np.int64]
    answered: NDArray[np.int64]


def ways(
    endpoints: Sequence[Endpoint],
    classes: TransitClasses,
    host_marks: Mapping[str, Mapping[int, object]],
) -> NDArray[np.int64]:
    """Return the transit leg of each pair of classes, shape (senders, receivers).

    `host_marks` number, by zone and endpoint, what the zone's flows say of hosts' addresses.
    """
    senders = _count(classes.sending)
    receivers = max(_count(classes.receiving), _count(classes.answered))
    zone_of = {int(sender): _zone(e) for sender, e in zip(classes.sending, endpoints, strict=True)}
    hosts = {
        int(receiver): index
        for index, (receiver, endpoint) in enumerate(zip(classes.receiving, endpoints, strict=True))
        if endpoint.host_network
    }
    legs = np.empty((senders, receivers), dtype=np.int64)
    numbers: dict[tuple[int, object], int] = {}
    for sender in range(senders):
        marks = host_marks.get(zone_of[sender])
        for receiver in range(receivers):
            alike: object = receiver
            if marks is not None and receiver in hosts:
                alike = ("host", marks[hosts[receiver]])
            legs[sender, receiver] = numbers.setdefault((sender, alike), len(numbers))
    return legs


def _zone(endpoint: Endpoint) -> str:
    return endpoint.attachment.zone if endpoint.attachment is not None else ""


def _count(numbers: NDArray[np.int64]) -> int:
    return int(numbers.max(initial=-1)) + 1
