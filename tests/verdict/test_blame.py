"""The flow, the ACL and the policy behind a verdict, or nobody: never the wrong one."""

from collections.abc import Iterable

import pytest

from audit.facts import identity
from audit.model.facts import Acl, FlowHint, Policy, PortGroup
from audit.model.traces import AclMatch, HopEnd
from audit.model.verdicts import Blame, PolicyRef
from audit.verdict.blame import Blamer
from tests.verdict import made

WEB = made.ref("web")


def policy(ref: PolicyRef, *directions: str, ingress: int = 0, egress: int = 0) -> Policy:
    return Policy(ref=ref, directions=directions, rules=(ingress, egress), text="")


def blamed(
    acls: Iterable[Acl],
    hints: Iterable[FlowHint],
    match: AclMatch,
    *,
    groups: Iterable[PortGroup] = (),
    policies: Iterable[Policy] = (),
) -> Blame | None:
    zone = made.zone(acls=acls, hints=hints, groups=groups)
    blamer = Blamer.of({"worker": zone}, policies)
    return blamer.blame("worker", made.hop(HopEnd.DROPPED), match, "shop_a")


def test_from_the_flow_to_the_rule() -> None:
    acl = made.acl(policy=WEB, rule=1, action="allow-related")
    found = blamed([acl], [made.hint("f1000000-1", acl)], made.match("allow"))
    assert found == Blame(
        action="allow",
        direction="ingress",
        policy=WEB,
        rule=1,
        owner=acl.owner,
        acl=acl.uuid,
        acl_match=acl.match,
        logical_flow="f1000000",
        stage="ls_out_acl_eval",
        zone="worker",
    )


def test_a_flow_of_the_pipeline_itself_is_nobodys() -> None:
    assert blamed([made.acl()], [], made.match("allow")) is None


def test_two_flows_with_one_prefix_are_told_apart_by_their_stage() -> None:
    ours = made.acl("ac100000", policy=WEB)
    other = made.acl("ac200000", direction="from-lport", policy=made.ref("other"))
    hints = [
        made.hint("f1000000-1", other, stage="ls_in_acl_after_lb_eval"),
        made.hint("f1000000-2", ours),
    ]
    found = blamed([ours, other], hints, made.match("drop"))
    assert found is not None
    assert found.policy == WEB


@pytest.mark.parametrize(
    "difference",
    [{"match": "outport == @other"}, {"priority": 1001}, {"action": "allow-related"}],
    ids=["match", "priority", "action"],
)
def test_two_acls_with_one_prefix_are_told_apart_by_what_the_flow_says(
    difference: dict[str, object],
) -> None:
    ours = made.acl("ac100000-1", policy=WEB)
    other = made.acl("ac100000-2", policy=made.ref("other"), **difference)
    found = blamed([other, ours], [made.hint("f1000000", ours)], made.match("drop"))
    assert found is not None
    assert found.policy == WEB


def test_two_flows_of_one_stage_with_one_prefix_are_told_apart_by_priority() -> None:
    ours = made.acl("ac100000", policy=WEB)
    other = made.acl("ac200000", policy=made.ref("other"), priority=1001)
    hints = [made.hint("f1000000-1", other), made.hint("f1000000-2", ours)]
    found = blamed([ours, other], hints, made.match("drop"))
    assert found is not None
    assert found.policy == WEB


def test_what_cannot_be_told_apart_is_blamed_on_nobody() -> None:
    first = made.acl("ac100000-1", policy=WEB)
    second = made.acl("ac100000-2", policy=made.ref("other"))
    assert blamed([first, second], [made.hint("f1000000", first)], made.match("drop")) is None


def test_acls_without_an_owner_are_not_each_others_twins() -> None:
    first, second = (made.acl(f"ac100000-{i}", owner="") for i in (1, 2))
    assert blamed([first, second], [made.hint("f1000000", first)], made.match("drop")) is None


def test_twins_of_one_rule_name_the_same_rule() -> None:
    twins = [made.acl(f"ac100000-{i}", owner="web:Ingress:0", policy=WEB, rule=0) for i in (1, 2)]
    found = blamed(twins, [made.hint("f1000000", twins[0])], made.match("drop"))
    assert found is not None
    assert (found.policy, found.rule) == (WEB, 0)


def default_deny(direction: str = "ingress") -> Acl:
    side = "to-lport" if direction == "ingress" else "from-lport"
    return made.acl(
        direction=side, policy_direction=direction, namespace_default="shop", owner="shop"
    )


def test_a_default_deny_is_of_all_policies_that_select_the_pod_in_that_direction() -> None:
    acl = default_deny()
    names = ["z-plain", "b-rules", "a-rules", "m-unknown", "egress-only", "elsewhere"]
    refs = {name: made.ref(name) for name in names}
    groups = [made.group(ref, "shop_b") for name, ref in refs.items() if name != "elsewhere"]
    groups.append(made.group(refs["elsewhere"], "shop_c"))
    groups.append(made.group(made.ref("z-plain", namespace="prod"), "shop_b"))
    groups.append(made.group(made.ref("multi", kind="MultiNetworkPolicy"), "shop_b"))
    policies = [
        policy(refs["z-plain"], "ingress"),
        policy(refs["a-rules"], "ingress", ingress=3),
        policy(refs["b-rules"], "egress", "ingress", ingress=1),
        policy(refs["egress-only"], "egress"),
        policy(refs["elsewhere"], "ingress"),
    ]
    found = blamed(
        [acl],
        [made.hint("f1000000", acl)],
        made.match("drop"),
        groups=groups,
        policies=policies,
    )
    assert found is not None
    # Without a rule before with one, however many, then by name; what has no object comes last.
    assert [one.name for one in found.policies] == ["z-plain", "a-rules", "b-rules", "m-unknown"]
    assert found.policy == refs["z-plain"]
    assert found.rule == -1


def test_an_egress_default_deny_is_of_the_policies_that_select_the_sender() -> None:
    acl = default_deny("egress")
    hint = made.hint("f1000000", acl, stage="ls_in_acl_after_lb_eval")
    found = blamed(
        [acl],
        [hint],
        made.match("drop", "ls_in_acl_after_lb_eval"),
        groups=[made.group(WEB, "shop_a"), made.group(made.ref("receiver"), "shop_b")],
        policies=[policy(WEB, "egress"), policy(made.ref("receiver"), "egress")],
    )
    assert found is not None
    assert found.policies == (WEB,)


def test_a_default_deny_that_no_known_policy_explains_names_its_owner_only() -> None:
    acl = default_deny()
    found = blamed([acl], [made.hint("f1000000", acl)], made.match("drop"))
    assert found is not None
    assert (found.policy, found.policies, str(found)) == (None, (), "shop")


@pytest.mark.parametrize("stage", ["ls_out_acl", "ls_out_acl_eval"])
def test_acls_from_before_owner_types(stage: str) -> None:
    ids = {"namespace": "shop", "policy": "web", "policy_type": "Ingress", "Ingress_num": "0"}
    who = identity.identify(ids, name="shop_web_0")
    acl = made.acl(owner=who.owner, policy=who.policy, policy_direction=who.direction, rule=0)
    found = blamed([acl], [made.hint("f1000000", acl, stage)], made.match("drop", stage))
    assert str(found) == "networkpolicy shop/web ingress[0]"

    ids = {"default-deny-policy-type": "Ingress"}
    who = identity.identify(ids, name="shop_deny", priority=1000)
    acl = made.acl(owner=who.owner, namespace_default=who.namespace_default)
    found = blamed(
        [acl],
        [made.hint("f1000000", acl, stage)],
        made.match("drop", stage),
        groups=[made.group(WEB, "shop_b")],
        policies=[policy(WEB, "ingress", ingress=1)],
    )
    assert found is not None
    assert found.policies == (WEB,)


def test_of_several_acls_that_allow_the_last_with_an_owner_is_named() -> None:
    egress = made.acl(
        "ac100000", direction="from-lport", policy=made.ref("out"), action="allow-related"
    )
    ingress = made.acl("ac200000", policy=made.ref("in"), action="allow-related")
    hints = [
        made.hint("f1000000", egress, stage="ls_in_acl_after_lb_eval"),
        made.hint("f2000000", ingress),
    ]
    blamer = Blamer.of({"worker": made.zone(acls=[egress, ingress], hints=hints)}, ())
    out = made.match("allow", "ls_in_acl_after_lb_eval")
    within = made.match("allow", logical_flow="f2000000")
    default = made.match("allow", logical_flow="f3000000")
    for acls, name in (((out, within), "in"), ((out, default), "out"), ((within, default), "in")):
        hop = made.hop(HopEnd.OUTPUT, acls=acls)
        found = blamer.last("worker", hop, "shop_a", frozenset({"allow"}))
        assert found is not None
        assert found.policy == made.ref(name)
    nothing = blamer.last("worker", made.hop(HopEnd.OUTPUT), "shop_a", frozenset({"allow"}))
    assert nothing is None
