"""How open a cluster is, against a count cell by cell."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.history import Exposed
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.packets import Protocol
from audit.model.verdicts import CODE, NO_VERDICT, PASSES, UNPROVEN, VERDICTS
from audit.verdict.exposure import openness


@pytest.mark.parametrize("seed", range(5))
def test_openness_is_what_counting_each_cell_gives(seed: int) -> None:
    """Random cells between pods of three namespaces, a node and an address outside."""
    random = np.random.default_rng(seed)
    places = [*((EndpointKind.POD, f"ns-{i % 3}", f"pod-{i}") for i in range(7))]
    places += [(EndpointKind.NODE, "", "worker"), (EndpointKind.EXTERNAL, "", "192.0.2.1")]
    endpoints = tuple(Endpoint(kind=k, namespace=n, name=name) for k, n, name in places)
    every = list(product(range(len(endpoints)), range(len(endpoints)), range(2), range(2)))
    cells = [cell for cell in every if cell[0] != cell[1] and random.random() < 0.4]
    src, dst, family, port = np.array(cells).T
    size = len(cells)
    verdict = random.integers(0, len(VERDICTS), size).astype(np.uint8)
    drift = random.choice([0, 1, NO_VERDICT], size).astype(np.uint8)
    none = np.full(size, -1, np.int32)
    found = openness(
        Matrix(
            endpoints=endpoints,
            ports=tuple(Port(protocol=Protocol.TCP, number=n) for n in (80, 443)),
            src=src.astype(np.int16),
            dst=dst.astype(np.int16),
            family=family.astype(np.int8),
            port=port.astype(np.int16),
        ),
        CellVerdicts(
            verdict=verdict,
            reply=verdict,
            reason=np.zeros(size, np.uint8),
            blame=none,
            trace=none,
            blames=(),
            trace_keys=(),
            drift=drift,
        ),
    )
    counts: Counter[tuple[str, str]] = Counter()
    for (source, target, *_), code in zip(cells, verdict.tolist(), strict=True):
        into = endpoints[target].namespace
        if into and into != endpoints[source].namespace:
            counts[into, "cells"] += 1
            counts[into, "passes"] += VERDICTS[code] in PASSES
            counts[into, "proven"] += VERDICTS[code] not in UNPROVEN
    assert found.namespaces == {
        name: Exposed(**{what: counts[name, what] for what in ("passes", "proven", "cells")})
        for name in ("ns-0", "ns-1", "ns-2")
    }
    through = [CODE[verdict] for verdict in PASSES]
    pairs = {(s, d): False for s, d, *_ in cells}
    for (s, d, *_), code in zip(cells, verdict.tolist(), strict=True):
        pairs[s, d] |= code in through
    assert (found.pairs, found.passing) == (len(pairs), sum(pairs.values()))
    assert found.drifting == drift.tolist().count(1)
