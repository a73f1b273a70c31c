"""What flows make of legs: entries for what they tell of either end."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from audit.cover.acls import Predicates, ZoneAcls
from audit.cover.identities import At
from audit.cover.met import Met
from audit.model.endpoints import Port
from audit.model.facts import LogicalFlow
from audit.model.legs import Locality
from audit.model.packets import Family, Protocol
from tests.verdict import made

ENDS = tuple(made.pod(name, f"10.128.0.{5 + n}") for n, name in enumerate("abc"))
SWITCH = "worker"


def met(*flows: LogicalFlow) -> Met:
    """Return what these flows of a switch with three pods tell."""
    ports = [
        made.port(f"shop_{e.name}", addresses=e.addresses, tunnel_key=n + 1)
        for n, e in enumerate(ENDS)
    ]
    zone = replace(made.zone(ports=ports), flows={SWITCH: tuple(flows)})
    predicates = Predicates(ENDS, Family.IP4)
    return Met(
        endpoints=ENDS,
        zones={zone.name: zone},
        predicates=predicates,
        acls={zone.name: ZoneAcls(zone, predicates, {})},
        switch=np.zeros(len(ENDS), dtype=np.int32),
        switches={(zone.name, SWITCH): 0},
        host=np.zeros(len(ENDS), dtype=np.bool_),
        ports=(Port(protocol=Protocol.TCP, number=80),),
    )


def told_apart(known: Met, index: int, side: At) -> set[frozenset[int]]:
    """Return the other ends on the same switch that an endpoint's entries tell from the rest."""
    entries = known.entries(index, side)[list(Locality).index(Locality.TOGETHER)]
    vectors: Iterable[np.ndarray] = (known.predicates.vectors[e.others] for e in entries)
    return {frozenset(np.flatnonzero(v).tolist()) for v in vectors if not v.all()}


def flow(match: str) -> LogicalFlow:
    return LogicalFlow("ls_out_acl_hint", 30000, match, "drop;")


def test_a_flow_about_a_source_tells_it_from_others_at_every_destination() -> None:
    """Also where the same is said of all destinations, so that nothing tells these apart."""
    known = met(flow("ip4.src == 10.128.0.6"))
    assert told_apart(known, 0, At.DST) == {frozenset({1})}
    assert told_apart(known, 2, At.DST) == {frozenset({1})}


def test_where_nobody_is_told_apart_there_are_no_entries() -> None:
    known = met(*(flow(f"ip4.src == {e.addresses[0]}") for e in ENDS))
    known.usual_switches = frozenset({(made.zone().name, SWITCH)})  # others are alike
    assert all(
        known.entries(n, side) == ((),) * len(Locality)
        for n in range(3)
        for side in (At.SRC, At.DST)
    )


@pytest.mark.parametrize("usual", [True, False])
def test_a_switch_like_no_other_tells_what_stays_on_it_from_what_comes(*, usual: bool) -> None:
    known = met(*(flow(f"ip4.src == {e.addresses[0]}") for e in ENDS))
    known.usual_switches = frozenset({(made.zone().name, SWITCH)} if usual else ())
    apart, together, *_ = known.entries(0, At.DST)
    assert (apart == together) is usual
    assert told_apart(known, 0, At.DST) == set()
