"""Hops make requests and requests make cells, as an evaluation one by one says."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.model.traces import TraceTask
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    PASSES,
    REASON_CODE,
    REASONS,
    STOPPED,
    UNPROVEN,
    VERDICTS,
    Blame,
    Reason,
    Verdict,
)
from audit.verdict import compose
from audit.verdict.compose import Decision, Decisions, Requests, combine, decide
from audit.verdict.judge import Combine, Judgement
from tests.verdict import made

REASON_OF = {
    Verdict.REACHABLE: Reason.DELIVERED,
    Verdict.EXITS: Reason.LEFT_BY_GATEWAY,
    Verdict.BLOCKED: Reason.ACL_DROP,
    Verdict.UNROUTABLE: Reason.NO_ROUTE,
    Verdict.INCONCLUSIVE: Reason.TRACE_ENDS,
    Verdict.UNTRACED: Reason.ENGINE_LOST,
}
OUT, IN = (Blame(action="allow", direction=d, acl=d) for d in ("egress", "ingress"))


def decision(verdict: Verdict, blame: Blame | None = None) -> Decision:
    return Decision(verdict=verdict, reason=REASON_OF[verdict], blame=blame, trace="t")


def ends(verdict: Verdict, blame: Blame | None = None, **fields: Any) -> Judgement:
    return Judgement(verdict=verdict, reason=REASON_OF[verdict], blame=blame, **fields)


@functools.cache
def task(name: str) -> TraceTask:
    """Return a task whose key is its name."""
    found = made.task()
    return TraceTask(**{**{f: getattr(found, f) for f in TraceTask.__slots__}, "key": name})


def onward(*names: str, how: Combine = Combine.FOLLOW, blame: Blame | None = None) -> Judgement:
    return Judgement(
        verdict=None,
        reason=Reason.DELIVERED,
        blame=blame,
        next_hops=tuple(map(task, names)),
        combine=how,
    )


# --- alternatives

alternatives = st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=5)
hows = st.sampled_from([Combine.BACKENDS, Combine.GATEWAYS])


@given(alternatives, hows, st.randoms())
def test_the_order_of_alternatives_does_not_matter(
    verdicts: list[Verdict],
    how: Combine,
    random: Any,
) -> None:
    shuffled = random.sample(verdicts, len(verdicts))
    first, second = (combine([decision(v) for v in some], how) for some in (verdicts, shuffled))
    assert (first.verdict, first.reason) == (second.verdict, second.reason)


@given(alternatives, hows)
def test_alternatives_make_what_they_agree_on(verdicts: list[Verdict], how: Combine) -> None:
    found = combine([decision(v) for v in verdicts], how)
    unproven = UNPROVEN.intersection(verdicts)
    if unproven:
        assert found.verdict in unproven
    assert (found.verdict in PASSES) == (set(verdicts) <= PASSES)
    assert (found.verdict is Verdict.REACHABLE) == (set(verdicts) == {Verdict.REACHABLE})
    assert (found.verdict in STOPPED) == (set(verdicts) <= STOPPED)
    if not unproven and not set(verdicts) <= PASSES and not set(verdicts) <= STOPPED:
        differ = {"backends": Reason.BACKENDS_DIFFER, "gateways": Reason.GATEWAYS_DIFFER}
        assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, differ[how])


def test_alternatives_that_differ_name_who_stops_some() -> None:
    parts = [decision(Verdict.REACHABLE), decision(Verdict.BLOCKED, IN)]
    assert combine(parts, Combine.BACKENDS).blame == IN


def test_of_stops_the_one_with_a_policy_to_name_is_kept() -> None:
    parts = [decision(Verdict.UNROUTABLE), decision(Verdict.BLOCKED, IN)]
    found = combine(parts, Combine.BACKENDS)
    assert (found.verdict, found.blame) == (Verdict.BLOCKED, IN)


def test_no_alternative_at_all_proves_nothing() -> None:
    assert combine([], Combine.BACKENDS).verdict is Verdict.INCONCLUSIVE


# --- requests


@pytest.mark.parametrize(
    ("first", "second", "blame", "reason"),
    [
        (None, None, None, "delivered"),
        (OUT, None, OUT, "allowed-by-acl"),
        (None, IN, IN, "delivered"),
        (OUT, IN, IN, "delivered"),  # a judge would have said allowed-by-acl: it stays as it was
    ],
)
def test_who_let_the_packet_in_goes_before_who_let_it_out(
    first: Blame | None, second: Blame | None, blame: Blame | None, reason: str
) -> None:
    judgements = {"a": onward("b", blame=first), "b": ends(Verdict.REACHABLE, second)}
    found = decide("a", judgements)
    assert (found.verdict, found.blame, found.reason) == (Verdict.REACHABLE, blame, reason)
    assert found.trace == "b"


def test_who_let_a_packet_out_is_not_blamed_for_its_end() -> None:
    for verdict in (*STOPPED, *UNPROVEN):
        judgements = {"a": onward("b", blame=OUT), "b": ends(verdict)}
        assert decide("a", judgements).blame is None


def test_a_service_behind_a_remote_port_stays_a_service() -> None:
    judgements = {
        "a": onward("b", blame=OUT),
        "b": onward("c", how=Combine.BACKENDS),
        "c": ends(Verdict.REACHABLE),
    }
    found = decide("a", judgements)
    assert (found.reason, found.blame) == (Reason.ALL_BACKENDS, OUT)


def test_a_hop_that_was_not_traced_leaves_the_request_untraced() -> None:
    found = decide("a", {"a": onward("b")})
    assert (found.verdict, found.reason) == (Verdict.UNTRACED, Reason.INTERRUPTED)
    assert decide("gone", {}).verdict is Verdict.UNTRACED


def test_a_packet_that_goes_in_circles_does_not_arrive() -> None:
    judgements = {
        "a": onward("b"),
        "b": onward("a", "c", how=Combine.BACKENDS),
        "c": ends(Verdict.REACHABLE),
    }
    for key in judgements:
        found = decide(key, judgements)
        circles = key != "c"
        assert (found.verdict is Verdict.INCONCLUSIVE) == circles
        assert (found.reason is Reason.TOO_MANY_HOPS) == circles
    assert decide("a", {"a": onward("a")}).verdict is Verdict.INCONCLUSIVE


def test_nowhere_to_go_on_to_proves_nothing() -> None:
    for how in Combine:
        assert decide("a", {"a": onward(how=how)}).verdict is Verdict.INCONCLUSIVE


def test_a_trace_that_many_requests_share_is_decided_once() -> None:
    backends = [f"leg-{i}" for i in range(1000)]
    judgements: dict[str, Judgement] = {}
    for leg in backends:
        judgements[leg] = onward(f"{leg}-2")
        judgements[f"{leg}-2"] = onward("end", "other end", how=Combine.GATEWAYS)
    # Layer upon layer, each to all of the one before: 2^40 ways through, 80 traces.
    judgements["end"] = judgements["other end"] = onward("0-x", "0-y", how=Combine.GATEWAYS)
    for layer in range(40):
        for side in "xy":
            below = (f"{layer + 1}-x", f"{layer + 1}-y")
            judgements[f"{layer}-{side}"] = onward(*below, how=Combine.GATEWAYS)
    judgements |= {"40-x": ends(Verdict.REACHABLE), "40-y": ends(Verdict.REACHABLE)}
    requests = {f"r{i}": onward(*backends, how=Combine.BACKENDS) for i in range(100)}
    judgements |= requests
    began = time.monotonic()
    known = Decisions(judgements)
    assert {known.of(key).verdict for key in requests} == {Verdict.REACHABLE}
    assert time.monotonic() - began < 5


# --- cells


KEYS = [f"k{i}" for i in range(6)]
judged = st.one_of(
    st.builds(ends, st.sampled_from(VERDICTS), st.sampled_from([None, OUT, IN])),
    st.builds(
        lambda names, how: onward(*names, how=how),
        st.lists(st.sampled_from(KEYS), min_size=1, max_size=3),
        st.sampled_from([Combine.BACKENDS, Combine.GATEWAYS]),
    ),
    st.builds(onward, st.sampled_from(KEYS), blame=st.sampled_from([None, OUT])),
)
cell = st.tuples(st.integers(-1, len(KEYS) - 1), st.sampled_from(REASONS))


@given(
    st.dictionaries(st.sampled_from(KEYS), judged),
    st.lists(cell, min_size=1, max_size=8),
    st.dictionaries(
        st.sampled_from(KEYS),
        st.lists(st.sampled_from([*KEYS, compose.NOT_TRACEABLE]), min_size=1, max_size=2),
    ),
)
def test_cells_are_their_requests_one_by_one(
    judgements: Mapping[str, Judgement],
    asked: Sequence[tuple[int, Reason]],
    replies: Mapping[str, list[str]],
) -> None:
    requests = Requests(
        keys=KEYS,
        cells=np.array([i for i, (one, _) in enumerate(asked) if one >= 0], dtype=np.int64),
        request=np.array([one for one, _ in asked if one >= 0], dtype=np.int32),
        settled=np.array([REASON_CODE[reason] for _, reason in asked], dtype=np.uint8),
        replies=replies,
    )
    found = compose.cells(requests, judgements)
    known = Decisions(judgements)
    decisions = [known.of(key) for key in KEYS]  # in the order of the requests, as cells() does
    for i, (request, reason) in enumerate(asked):
        assert found.trace[i] == request
        if request < 0:
            assert VERDICTS[found.verdict[i]] is compose.verdict_of(reason)
            assert REASONS[found.reason[i]] is reason
            assert (found.reply[i], found.blame[i]) == (NO_VERDICT, -1)
            continue
        expected = decisions[request]
        assert VERDICTS[found.verdict[i]] is expected.verdict
        assert REASONS[found.reason[i]] is expected.reason
        blame = int(found.blame[i])
        assert (found.blames[blame] if blame >= 0 else None) == expected.blame
        if expected.verdict not in PASSES:
            assert found.reply[i] == NO_VERDICT
        else:
            parts = [known.of(key) for key in replies.get(KEYS[request], [""])]
            assert found.reply[i] == CODE[combine(parts, Combine.BACKENDS).verdict]


def cells_of(judgements: Mapping[str, Judgement], replies: Mapping[str, Sequence[str]]) -> int:
    """Return the reply of one cell, whose request is `a`."""
    requests = Requests(
        keys=["a"],
        cells=np.zeros(1, dtype=np.int64),
        request=np.zeros(1, dtype=np.int32),
        settled=np.zeros(1, dtype=np.uint8),
        replies=replies,
    )
    return int(compose.cells(requests, judgements).reply[0])


def test_a_reply_is_traced_untraced_or_not_there() -> None:
    arrived, back = ends(Verdict.REACHABLE), ends(Verdict.BLOCKED, IN)
    assert cells_of({"a": arrived, "r": back}, {"a": ["r"]}) == CODE[Verdict.BLOCKED]
    assert cells_of({"a": arrived}, {"a": ["r"]}) == CODE[Verdict.UNTRACED]
    assert cells_of({"a": ends(Verdict.EXITS)}, {}) == CODE[Verdict.UNTRACED]
    for verdict in (*STOPPED, *UNPROVEN):
        assert cells_of({"a": ends(verdict)}, {}) == NO_VERDICT


def test_one_backend_whose_reply_cannot_be_traced_leaves_the_services_reply_untraced() -> None:
    judgements = {"a": ends(Verdict.REACHABLE), "r": ends(Verdict.REACHABLE)}
    assert cells_of(judgements, {"a": ["r"]}) == CODE[Verdict.REACHABLE]
    assert cells_of(judgements, {"a": ["r", compose.NOT_TRACEABLE]}) == CODE[Verdict.UNTRACED]
