"""The second half of a request, made from its reply's way, is the one the request itself takes."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from audit.cli.progress import Silent
from audit.cover import requests
from audit.cover.headless import headless
from audit.fanout.inline import InlineFanout
from audit.model.endpoints import Port
from audit.model.packets import Family, Protocol
from audit.model.verdicts import Verdict
from audit.scope import pair
from audit.tracing import planes, switches
from audit.tracing.every_plane import logical_worker
from audit.tracing.pair import TracedPair
from audit.tracing.plan import Planned, read
from audit.verdict.by_zone import mirrored

pytestmark = pytest.mark.ovn

PAIRS = [
    ("prod/prod-client-0", "default/web-1"),
    ("default/web-2", "prod/prod-client-1"),
    ("tenant-b/b-1", "prod/prod-client-3"),
    ("infra/node-exporter-0", "staging/stage-1"),
]
"""In two zones each, and allowed."""


@pytest.fixture(scope="module")
def cluster(example_snapshot: Path) -> Iterator[tuple[Planned, InlineFanout, InlineFanout]]:
    with ExitStack() as stack:
        state, engine, _ = read(example_snapshot, None, Silent(), stack)
        names = pair.Names(
            src_namespace="prod",
            src="prod-client-0",
            dst_namespace="default",
            dst="web-1",
            port=Port(protocol=Protocol.TCP, number=80),
        )
        (asked,) = pair.resolve(state, names)
        matrix = asked.matrix()
        owners = state.owners()
        planned = Planned(
            state=state,
            engine=engine,
            matrix=matrix,
            cover=requests.exhaustive(matrix, headless(state, owners)),
            legs=(),
            owners=owners,
            notes=(),
        )
        running = switches.replayed(planned, Silent(), stack)
        yield (
            planned,
            stack.enter_context(InlineFanout(logical_worker(planned, 30.0), workers=2)),
            stack.enter_context(InlineFanout(running.tracers(planned, 30.0))),
        )


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(("src", "dst"), PAIRS)
def test_the_mirrored_half_is_the_real_one(
    cluster: tuple[Planned, InlineFanout, InlineFanout], src: str, dst: str, family: Family
) -> None:
    planned, logical, datapath = cluster
    (src_namespace, src_name), (dst_namespace, dst_name) = src.split("/"), dst.split("/")
    (asked,) = pair.resolve(
        planned.state,
        pair.Names(
            src_namespace=src_namespace,
            src=src_name,
            dst_namespace=dst_namespace,
            dst=dst_name,
            port=Port(protocol=Protocol.TCP, number=80),
            family=family,
        ),
    )
    matrix = asked.matrix()
    planned = replace(planned, matrix=matrix, cover=requests.exhaustive(matrix))
    chassis = switches.chassis_of(planned)
    both = [
        (planes.logical(planned), logical),
        (planes.datapath(planned, chassis), datapath),
    ]
    for plane, workers in both:
        traced = TracedPair(
            pair=asked,
            owners=planned.owners,
            plane=plane,
            workers=workers,
            progress=Silent(),
        )
        assert traced.run().verdict is Verdict.REACHABLE
        [to] = traced.destinations
        assert to.supposed is None
        assert to.reply is not None
        [there] = traced.judgements[to.request.key].next_hops
        [back] = traced.judgements[to.reply.key].next_hops
        found = mirrored(to.request, to.reply, traced.outcomes[to.reply.key], back)
        assert found is not None
        assert replace(found, depth=0) == replace(there, depth=0)
