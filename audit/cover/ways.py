"""Transit legs: which pairs of senders and receivers routers tell apart. Pure.

Between two pods' switches every pair is a way of its own, and so is a pod of which flows on the way
say something of its own. A node's own address is behind no switch, and most nodes' addresses are to
a zone's routers one like the other: nothing in the zone names them, and they leave by the gateway.
Such share a way, from each sender. So do endpoints of a network that no port leads to from the
sender's: of these only what the flows of the sender's own network say of their address matters.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What is between networks. `network` is each endpoint's.

    `joined` are, by zone and switch, the networks that its packets can come to; `addresses` are, by
    network, numbers for what its flows say of each endpoint's address.
    """

    network: Sequence[str]
    joined: Mapping[tuple[str, str], frozenset[str]]
    addresses: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Of each pair of classes, shape (senders, receivers): the transit leg, and if one leads there.

    A pair is `unjoined` where no port leads from the sender's network to the receiver's.
    """

    legs: NDArray[np.int64]
    unjoined: NDArray[np.bool_]


def ways(
    endpoints: Sequence[Endpoint],
    classes: TransitClasses,
    host_marks: Mapping[str, Mapping[int, object]],
    crossing: Crossing,
) -> Ways:
    """Return the ways between classes.

    `host_marks` number, by zone and endpoint, what the zone's flows say of hosts' addresses.
    """
    senders = _one_of_each(classes.sending)
    receivers = max(_count(classes.receiving), _count(classes.answered))
    at_class = _one_of_each(classes.receiving)
    legs = np.empty((len(senders), receivers), dtype=np.int64)
    unjoined = np.zeros(legs.shape, dtype=np.bool_)
    rows: dict[tuple[str, str, str], tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}
    first = 0
    for sender, index in senders.items():
        at = endpoints[index].attachment
        key = (at.zone, at.switch, crossing.network[index]) if at is not None else ("", "", "")
        if key not in rows:
            rows[key] = _row(endpoints, at_class, receivers, host_marks, crossing, key)
        row, unjoined[sender] = rows[key]
        legs[sender] = first + row
        first += int(row.max(initial=-1)) + 1
    return Ways(legs=legs, unjoined=unjoined)


def _row(
    endpoints: Sequence[Endpoint],
    at_class: Mapping[int, int],
    receivers: int,
    host_marks: Mapping[str, Mapping[int, object]],
    crossing: Crossing,
    sender: tuple[str, str, str],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return, by receiver, numbers of the ways from a switch, and which lead to no such network."""
    zone, switch, network = sender
    marks = host_marks.get(zone)
    joined = crossing.joined.get((zone, switch), frozenset({network}))
    addresses = crossing.addresses.get(network)
    numbers: dict[object, int] = {}
    row = np.empty(receivers, dtype=np.int64)
    unjoined = np.zeros(receivers, dtype=np.bool_)
    for receiver in range(receivers):
        index = at_class.get(receiver)
        alike: object = receiver
        if index is None:
            pass  # where a node is answered, and nobody is sent to
        elif endpoints[index].host_network:
            alike = ("host", marks[index]) if marks is not None else receiver
        elif crossing.network[index] not in joined and addresses is not None:
            alike = ("unjoined", int(addresses[index]))
            unjoined[receiver] = True
        row[receiver] = numbers.setdefault(alike, len(numbers))
    return row, unjoined


def _one_of_each(classes: NDArray[np.int64]) -> dict[int, int]:
    """Return an endpoint of each class."""
    numbers, first = np.unique(classes, return_index=True)
    return dict(zip(numbers.tolist(), first.tolist(), strict=True))


def _count(classes: NDArray[np.int64]) -> int:
    return int(classes.max(initial=-1)) + 1
