"""What a connection proves: that packets pass, and nothing else."""

import pytest

from audit.model.endpoints import EndpointKind
from audit.model.probes import Response
from audit.model.verdicts import PASSES, STOPPED, UNPROVEN, Verdict
from audit.verdict.probes import Situation, drift_of, judged


def situation(**fields: object) -> Situation:
    usual: dict[str, object] = {
        "verdict": Verdict.BLOCKED,
        "reply": None,
        "destination": EndpointKind.POD,
        "rejecting": 0,
        "between": "",
    }
    return Situation(**{**usual, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("response", Response)
def test_no_response_ever_proves_that_packets_are_stopped(
    response: Response, verdict: Verdict
) -> None:
    seen, _ = judged(response, situation(verdict=verdict))
    assert seen not in STOPPED
    if response is Response.NOT_SENT:
        assert seen is Verdict.UNTRACED


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, Verdict.REACHABLE),
        ({"rejecting": 1}, Verdict.INCONCLUSIVE),
        ({"rejecting": None}, Verdict.INCONCLUSIVE),
        ({"destination": EndpointKind.SERVICE}, Verdict.INCONCLUSIVE),
        ({"destination": EndpointKind.NODE}, Verdict.INCONCLUSIVE),
        ({"destination": EndpointKind.EXTERNAL}, Verdict.INCONCLUSIVE),
        ({"between": "a proxy"}, Verdict.INCONCLUSIVE),
    ],
)
def test_a_reset_is_the_destinations_only_where_nothing_else_can_send_it(
    fields: dict[str, object], verdict: Verdict
) -> None:
    assert judged(Response.REFUSED, situation(**fields))[0] is verdict


def test_what_answers_for_whoever_is_asked_proves_nothing() -> None:
    between = situation(between="Istio's sidecar accepts connections in the pod")
    assert judged(Response.CONNECTED, between)[0] is Verdict.INCONCLUSIVE
    assert judged(Response.CONNECTED, situation())[0] is Verdict.REACHABLE


@pytest.mark.parametrize("verdict", Verdict)
def test_drift_is_where_a_connection_passes_that_the_run_says_is_stopped(verdict: Verdict) -> None:
    passes = drift_of(Verdict.REACHABLE, situation(verdict=verdict))
    assert passes is {True: True, False: None if verdict in UNPROVEN else False}[verdict in STOPPED]
    for doubtful in UNPROVEN:
        assert drift_of(doubtful, situation(verdict=verdict)) is None


@pytest.mark.parametrize("verdict", sorted(PASSES))
def test_a_reply_that_is_stopped_contradicts_a_handshake(verdict: Verdict) -> None:
    assert drift_of(Verdict.REACHABLE, situation(verdict=verdict, reply=Verdict.BLOCKED)) is True
    assert drift_of(Verdict.REACHABLE, situation(verdict=verdict, reply=Verdict.UNTRACED)) is False
