"""Chains of traces end, even when traces point at each other."""

from typing import TYPE_CHECKING

from audit.report import chains

if TYPE_CHECKING:
    from tests.report.conftest import Made


def test_hops_are_followed_once_and_in_order(made: "Made") -> None:
    records = {
        "a": made.trace("a", next_keys=("b", "c")),
        "b": made.trace("b", next_keys=("d",)),
        "c": made.trace("c", next_keys=("d", "gone")),
        "d": made.trace("d", next_keys=("a",)),
        "r": made.trace("r", reply_of=("a",)),
    }
    reader = made.traces(records)
    assert [record.key for record in chains.request(reader, "a")] == ["a", "b", "c", "d"]
    assert [record.key for record in chains.reply(reader, "a")] == ["r"]
    assert chains.request(reader, "gone") == ()
    assert [record.key for record in chains.reply(reader, "b")] == ["r"]  # of its hop a
    assert chains.reply(reader, "r") == ()


def test_a_policy_is_named_as_its_object_is(made: "Made") -> None:
    named = made.trace(
        "a", policy_kind="NetworkPolicy", policy_namespace="shop", policy_name="web",
        policy_direction="ingress", policy_rule=0,
    )  # fmt: skip
    assert chains.policy_of(named) == "networkpolicy shop/web ingress[0]"
    assert chains.policy_of(made.trace("b")) == ""
