"""One sentence per cell, for every reason there is; and the same cell on a terminal."""

from typing import TYPE_CHECKING

import pytest

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.packets import Family, Protocol
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    UNPROVEN,
    VERDICTS,
    Blame,
    PolicyRef,
    Reason,
    Verdict,
)
from audit.report import sentences
from audit.report.explain import explain
from audit.report.printing import COLUMNS

if TYPE_CHECKING:
    from tests.report.conftest import Made

FRONT = Endpoint(kind=EndpointKind.POD, namespace="shop", name="front-0")
WEB = Endpoint(kind=EndpointKind.POD, namespace="default", name="web-0")
HTTP = Port(protocol=Protocol.TCP, number=80)
DENY = PolicyRef(kind="NetworkPolicy", namespace="default", name="deny-by-default")
ALLOW = PolicyRef(kind="AdminNetworkPolicy", namespace="", name="tenants")


def say(verdict: Verdict, reason: Reason, blame: Blame | None = None, **more: Family) -> str:
    return sentences.sentence(
        FRONT, WEB, HTTP, verdict=verdict, reason=reason, blame=blame, family=more.get("family")
    )


def test_every_reason_has_its_own_words() -> None:
    assert set(sentences.CAUSES) == set(Reason)
    assert len(set(sentences.CAUSES.values())) == len(Reason)
    assert set(sentences.VERBS) == set(sentences.MEANINGS) == set(sentences.REPLIES) == set(Verdict)


def test_a_default_deny() -> None:
    blame = Blame(action="drop", direction="ingress", policy=DENY, policies=(DENY,))
    assert say(Verdict.BLOCKED, Reason.DEFAULT_DENY, blame) == (
        "pod shop/front-0 cannot reach pod default/web-0 on tcp/80: blocked by "
        "networkpolicy default/deny-by-default ingress (default deny: no rule of the policies "
        "that select the pod allows it)."
    )


def test_a_rule_that_allows() -> None:
    blame = Blame(action="allow-related", direction="egress", policy=ALLOW, rule=2)
    assert say(Verdict.REACHABLE, Reason.ALLOWED_BY_ACL, blame, family=Family.IP6) == (
        "pod shop/front-0 can reach pod default/web-0 on tcp/80 over ip6: "
        "allowed by adminnetworkpolicy tenants egress[2]."
    )


def test_what_no_acl_did_names_its_stage() -> None:
    text = say(Verdict.UNROUTABLE, Reason.NO_ROUTE, Blame(action="drop", stage="lr_in_ip_routing"))
    assert text == (
        "pod shop/front-0 has no way to pod default/web-0 on tcp/80: "
        "no route leads there (stage lr_in_ip_routing)."
    )


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("verdict", sorted(UNPROVEN))
def test_the_unproven_never_claim_either_side(verdict: Verdict, reason: Reason) -> None:
    text = say(verdict, reason)
    assert " can reach " not in text
    assert " cannot reach " not in text


def test_replies() -> None:
    assert sentences.reply_sentence(Verdict.BLOCKED, NO_VERDICT) == sentences.NO_REPLY
    assert sentences.reply_sentence(Verdict.REACHABLE, NO_VERDICT) == sentences.NOT_ASKED
    assert "blocked" in sentences.reply_sentence(Verdict.REACHABLE, CODE[Verdict.BLOCKED])


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_cell_on_the_terminal_fits_it(made: "Made", verdict: Verdict) -> None:
    run = made.shop()
    cell = int((run.verdicts.verdict == CODE[verdict]).argmax())
    text = explain(run, cell)
    words = sentences.cell_sentence(run, cell).split()
    assert " ".join(words) in " ".join(text.split())
    assert f"Verdict  {verdict}" in text
    for line in text.splitlines():
        assert len(line) <= COLUMNS or " " not in line.strip()
    if verdict is not Verdict.UNTRACED:
        assert "1. zone worker-a" in text
        assert "2. zone worker-b" in text


def test_a_shared_default_deny_lists_all_policies(made: "Made") -> None:
    run = made.shop()
    text = explain(run, int((run.verdicts.blame == 1).argmax()))
    assert "  networkpolicy payments/api-from-shop\n" in text
    assert "  networkpolicy payments/same-namespace\n" in text


def test_the_reply_has_its_own_hops(made: "Made") -> None:
    run = made.shop()
    text = explain(run, int((run.verdicts.reply == CODE[Verdict.BLOCKED]).argmax()))
    assert "The reply is blocked" in text
    assert "Reply, hop by hop" in text


def test_a_terminal_obeys_no_name(made: "Made") -> None:
    names = ("a\x1b[31m", "b\u202e")
    endpoints = [Endpoint(kind=EndpointKind.POD, namespace="ns", name=name) for name in names]
    run = made.assemble(
        endpoints, [HTTP], lambda *_: (Verdict.UNTRACED, Reason.NO_ADDRESS, NO_VERDICT, -1)
    )
    text = explain(run, 0)
    assert "\x1b" not in text
    assert "\u202e" not in text
