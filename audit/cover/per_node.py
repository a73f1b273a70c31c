"""Legs → legs per node: the same classes, each node's own flows. Pure.

What a class of endpoints is to OVN, each node makes flows of its own from; so a leg that one
node's trace shows is shown for that node only, and a way for one pair of nodes.
"""

import functools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.model.legs import LegPlan, LegTable
from audit.model.matrix import Matrix


def refined(matrix: Matrix, plan: LegPlan) -> LegPlan:
    """Return `plan` with every class split by the nodes its endpoints are on."""
    names = sorted({endpoint.node for endpoint in matrix.endpoints})
    numbers = {name: number for number, name in enumerate(names)}
    node = np.array([numbers[endpoint.node] for endpoint in matrix.endpoints], dtype=np.int64)

    split = functools.partial(_split, node=node)
    return replace(
        plan,
        egress=split(plan.egress),
        ingress=split(plan.ingress),
        ways=plan.apart,
        common=np.zeros(int(plan.apart.max(initial=-1)) + 1, dtype=np.bool_),
    )


def _split(table: LegTable, node: NDArray[np.int64]) -> LegTable:
    """Return a table with a class for each pair of class and node that some endpoint has."""
    pairs = np.stack([table.classes.astype(np.int64), np.broadcast_to(node, table.classes.shape)])
    distinct, classes = np.unique(pairs.reshape(2, -1), axis=1, return_inverse=True)
    old = distinct[0]
    ends = np.append(table.first[1:], len(table.legs))
    sizes = (ends - table.first)[old]
    rows = [np.arange(table.first[number], ends[number]) for number in old.tolist()]
    copied = table.legs[np.concatenate(rows)] if rows else np.zeros(0, dtype=np.int64)
    by_class = np.stack([np.repeat(np.arange(len(old)), sizes), copied])
    (_, taken), legs = np.unique(by_class, axis=1, return_inverse=True)
    return LegTable(
        classes=classes.reshape(table.classes.shape).astype(np.int32),
        atoms=table.atoms[old],
        port_atoms=table.port_atoms[old],
        first=np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64),
        width=table.width[old],
        legs=legs.reshape(-1),
        predicted=table.predicted[taken],
        decider=table.decider[taken],
        # A node is in one zone, so what is tied is by node already.
        zonal=np.full(len(taken), -1, dtype=np.int64),
        zone=table.zone,
    )
