"""Which hop of a cell's chain its blame is read from."""

from typing import Any, cast

from audit.store.blames import Combination, Rebuilt
from audit.store.traces import TraceFiles

ISOLATION = "OVN-Kubernetes' own ACL that keeps the default network from pods"


class Traces:
    """The rows of two hops, of which the first hands the packet on."""

    def __init__(self, first: str, second: str) -> None:
        self._rows = {
            "here": hop(first, "ls_out_apply_port_sec", "sender", ["there"]),
            "there": hop(second, "ls_out_acl_eval", "receiver", []),
        }

    def decisions(self, _: object) -> dict[str, dict[str, Any]]:
        return self._rows


def hop(acl: str, stage: str, zone: str, next_ids: list[str]) -> dict[str, Any]:
    return {
        "policy_kind": "",
        "acl": acl,
        "stage": stage,
        "zone": zone,
        "next_ids": next_ids,
        "policies": [],
    }


def decider(verdict: str, first: str, second: str) -> tuple[str, str]:
    combination = Combination(
        blame_kind=None,
        blame_namespace=None,
        blame_name=ISOLATION,
        blame_direction="ingress",
        blame_rule=None,
        verdict=verdict,
        reason="acl-drop" if verdict == "blocked" else "allowed-by-acl",
        trace_id="here",
    )
    traces = cast("TraceFiles", Traces(first, second))
    (blame,) = Rebuilt(traces, ()).of([combination])
    return blame.acl, blame.zone


def test_a_denial_is_of_the_hop_that_ends_the_packet() -> None:
    assert decider("blocked", "", "106b39ea") == ("106b39ea", "receiver")
    assert decider("blocked", "0a0a0a0a", "106b39ea") == ("106b39ea", "receiver")


def test_a_passing_packet_is_allowed_by_the_first_acl() -> None:
    assert decider("reachable", "0a0a0a0a", "") == ("0a0a0a0a", "sender")
    assert decider("reachable", "", "106b39ea") == ("106b39ea", "receiver")
