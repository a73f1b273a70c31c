"""What `audit diff` of two runs says of the outside that neither run's cells hold.

The runs are of snapshots without databases and of the policy objects alone, so that none takes an
OVN.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.commands import outside
from audit.compare.common import Common
from audit.errors import ExitCode
from audit.model.changes import Changes
from audit.report import changes
from audit.store.reader import open_recorded
from tests.cli.conftest import Inside

Object = dict[str, Any]
Runs = Callable[..., Path]
NARROW, WIDE = "203.0.113.0/25", "203.0.113.0/24"
NOTHING: dict[str, Any] = {
    **dict.fromkeys(("before", "after"), "run"),
    **dict.fromkeys(("paths", "appeared", "vanished", "policies"), ()),
    **dict.fromkeys(("compared", "proven"), 2),
}
BY_POLICIES = "The outside, by the policies alone: "


def pod(name: str, address: str) -> Object:
    container = {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [container]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def network_policy(cidr: str) -> tuple[str, Object]:
    """Let `web` out to a block, and the block in to `db`."""
    block = {"ipBlock": {"cidr": cidr}}
    spec = {
        "podSelector": {},
        "policyTypes": ["Egress", "Ingress"],
        "egress": [{"to": [block], "ports": [{"port": 443}]}],
        "ingress": [{"from": [block]}],
    }
    return "networkpolicies", {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "block", "namespace": "shop"},
        "spec": spec,
    }


def admin_policy(cidr: str) -> tuple[str, Object]:
    rule = {"name": "r", "action": "Deny", "to": [{"networks": [cidr]}]}
    return "adminnetworkpolicies", {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "AdminNetworkPolicy",
        "metadata": {"name": "block"},
        "spec": {"priority": 5, "subject": {"namespaces": {}}, "egress": [rule]},
    }


def firewall(cidr: str) -> tuple[str, Object]:
    rules = [
        {"type": "Allow", "to": {"cidrSelector": cidr}},
        {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}},
    ]
    return "egressfirewalls", {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": rules},
    }


@pytest.fixture
def runs(inside: Inside, tmp_path: Path) -> Runs:
    """Return what makes a run of two pods and a policy, and says where it is."""

    def made(policy: tuple[str, Object], *flags: str) -> Path:
        resource, item = policy
        address = {"type": "InternalIP", "address": "172.18.0.2"}
        lists: dict[str, list[Object]] = {
            "namespaces": [
                {"kind": "Namespace", "metadata": {"name": name, "uid": name}}
                for name in ("shop", "kube-system")
            ],
            "nodes": [
                {"kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": [address]}}
            ],
            "pods": [pod("web", "10.244.0.5"), pod("db", "10.244.0.6")],
            **{name: [] for name in ("networkpolicies", "services", "endpointslices")},
        }
        lists[resource] = [item]
        place = tmp_path / f"snapshot-{len(list(tmp_path.iterdir()))}" / "kube"
        place.mkdir(parents=True)
        for name, items in lists.items():
            whole = {"apiVersion": "v1", "kind": "List", "items": items}
            (place / f"{name}.json").write_text(json.dumps(whole))
        given = ("--snapshot", place.parent, "--planes", "intent", "-q", "--out", "runs")
        done = inside("run", *given, *flags)
        assert done.code == 0, done.err
        return Path(done.out.splitlines()[-1]).parent

    return made


def differing(inside: Inside, *ends: Path, code: int) -> dict[str, Any]:
    done = inside("diff", *ends, "-q", "-o", "json")
    assert done.code == code, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_a_block_that_widens_is_a_change_apart_from_the_cells(inside: Inside, runs: Runs) -> None:
    before, after = runs(network_policy(NARROW)), runs(network_policy(WIDE))
    found = differing(inside, before, after, code=1)
    assert (found["compared"], found["paths"], found["limits"]) == (2, [], [])
    outside = found["outside"]
    assert (outside["plane"], outside["traced"]) == ("intent", False)
    added = f"external {WIDE} except {NARROW}"
    # Both pods, to it on tcp/443, and from it on the port that each declares.
    assert [
        (p["src"], p["dst"], p["ports"], p["before"], p["after"], p["cells"])
        for p in sorted(outside["paths"], key=lambda p: (p["src"] == added, p["src"], p["dst"]))
    ] == [
        ("pod shop/db", added, ["tcp/443"], "blocked", "exits", 1),
        ("pod shop/web", added, ["tcp/443"], "blocked", "exits", 1),
        (added, "pod shop/db", ["tcp/80"], "blocked", "reachable", 1),
        (added, "pod shop/web", ["tcp/80"], "blocked", "reachable", 1),
    ]
    assert all(p["because"] == ["changed networkpolicy shop/block"] for p in outside["paths"])
    assert outside["counts"] == {"opened": 4, "closed": 0, "replies": 0, "otherwise": 0}
    closing = differing(inside, after, before, code=1)["outside"]
    assert (closing["counts"]["opened"], closing["counts"]["closed"]) == (0, 4)
    assert inside("diff", before, after, "-q", "--exit-zero").code == 0


@pytest.mark.parametrize("output", ["text", "markdown", "html"])
def test_every_output_says_that_nobody_traced_it(inside: Inside, runs: Runs, output: str) -> None:
    before, after = runs(network_policy(NARROW)), runs(network_policy(WIDE))
    done = inside("diff", before, after, "-q", "-o", output)
    assert done.code == 1
    told = (after / "report.html").read_text() if output == "html" else done.out
    assert "0 cells opened, 0 cells closed" in told
    assert f"{BY_POLICIES}4 combinations opened, 0 combinations closed" in told
    assert "Nothing of it was traced" in told
    assert (
        "pod shop/db, web to external 203.0.113.0/24 except 203.0.113.0/25 on tcp/443" in told
        or (output == "markdown" and "| pod shop/db, web | external 203.0.113.0/24 except" in told)
        or (output == "html" and "<td>pod shop/db, web</td><td>external 203.0.113.0/24" in told)
    )


@pytest.mark.parametrize("policy", [admin_policy, firewall])
def test_networks_of_other_policies_are_compared_too(
    inside: Inside, runs: Runs, policy: Callable[[str], tuple[str, Object]]
) -> None:
    found = differing(inside, runs(policy(NARROW)), runs(policy(WIDE)), code=1)
    opened = policy is firewall
    assert found["paths"] == []
    assert {(p["src"], p["dst"]) for p in found["outside"]["paths"]} == {
        (f"pod shop/{name}", f"external {WIDE} except {NARROW}") for name in ("db", "web")
    }
    assert {p["after"] for p in found["outside"]["paths"]} == {"exits" if opened else "blocked"}


def test_runs_alike_are_clean_and_say_what_was_compared(inside: Inside, runs: Runs) -> None:
    run = runs(network_policy(NARROW))
    found = differing(inside, run, run, code=0)
    # Two ranges; tcp cut at 443 and after, udp, sctp; and the port that a pod declares.
    assert found["outside"]["compared"] == found["outside"]["decided"] == 2 * 2 * (5 + 1)
    line = (
        "The outside, by the policies alone (the intent plane, not traced): no change in 24 "
        "combinations of pod, range of addresses and port."
    )
    assert inside("diff", run, run, "-q").out.splitlines()[1:] == [line]
    assert line in inside("diff", run, run, "-q", "-o", "markdown").out.replace("\\", "")
    assert inside("diff", run, run, "-q", "-o", "html").code == 0
    assert line in (run / "report.html").read_text()


def test_what_cells_hold_is_not_told_twice(inside: Inside, runs: Runs) -> None:
    flags = ("--to-ip", "all", "--port", "tcp/443")
    before, after = (runs(network_policy(cidr), *flags) for cidr in (NARROW, WIDE))
    found = differing(inside, before, after, code=1)
    assert {(p["src"], p["dst"]) for p in found["paths"]} == {
        (f"pod shop/{name}", f"external {WIDE}, within 0.0.0.0/0 except {NARROW}")
        for name in ("db", "web")
    }
    # The other direction has no destination: --to-ip leaves no pod on that side.
    assert found["outside"] is None
    one = runs(network_policy(NARROW), "--port", "tcp/443")
    part = differing(inside, one, after, code=1)["outside"]
    assert {p["dst"] for p in part["paths"]} == {f"external {WIDE} except {NARROW}"}


def test_a_side_that_a_scope_describes_has_no_outside(inside: Inside, runs: Runs) -> None:
    for flags, sources in (
        (("--to-namespace", "shop"), {"external"}),
        (("--from-namespace", "shop"), {"pod"}),
        (("--from-namespace", "shop", "--to-namespace", "shop"), None),
        (("--from-selector", "app=web"), {"pod"}),
    ):
        before, after = (runs(network_policy(cidr), *flags) for cidr in (NARROW, WIDE))
        found = differing(inside, before, after, code=0 if sources is None else 1)["outside"]
        if sources is None:
            assert found is None
            continue
        assert {p["src"].partition(" ")[0] for p in found["paths"]} == sources
        if "app=web" in flags:
            assert {p["src"] for p in found["paths"]} == {"pod shop/web"}


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        ({"planes": ["logical"]}, "did not ask the intent plane"),
        ({"labels": None}, "does not say the labels"),
        ({"notes": [{"code": "must-gather", "text": "", "subjects": []}]}, "lacks policies"),
        (
            {"notes": [{"code": "list-forbidden", "text": "", "subjects": ["networkpolicies"]}]},
            "lacks policies",
        ),
        ({"notes": [{"code": "list-forbidden", "text": "", "subjects": ["routes"]}]}, ""),
    ],
)
def test_a_run_that_cannot_tell_is_a_limit(runs: Runs, edit: dict[str, Any], part: str) -> None:
    before, after = (open_recorded(runs(network_policy(cidr))) for cidr in (NARROW, WIDE))
    after = replace(after, manifest={**after.manifest, **edit})
    for ends in ((before, after), (after, before)):
        masks = [np.ones(len(run.endpoints), np.bool_) for run in ends]
        found = outside.compare(*ends, Common(before=masks[0], after=masks[1]))
        assert found is not None
        assert bool(found.paths) != bool(part)
        alone = Changes(**NOTHING, outside=found)
        assert alone.exit_code == (ExitCode.INCOMPLETE if part else ExitCode.FINDINGS)
        assert bool(alone.limits) == bool(part)
        for limit in alone.limits:
            assert limit.startswith(f"The outside was not compared: {after.name} ")
            assert part in limit
            told = changes.plain(alone), changes.markdown(alone), " ".join(changes.sentences(alone))
            assert all(part in text and BY_POLICIES not in text for text in told)


def test_what_is_inside_the_cluster_is_no_range(runs: Runs) -> None:
    before, after = (open_recorded(runs(network_policy(cidr))) for cidr in (NARROW, WIDE))
    labels = {**after.manifest["labels"], "networks": [WIDE]}
    after = replace(after, manifest={**after.manifest, "labels": labels})
    masks = [np.ones(len(run.endpoints), np.bool_) for run in (before, after)]
    found = outside.compare(before, after, Common(before=masks[0], after=masks[1]))
    assert found is not None
    # What is around it is left, for two pods: five ranges of ports out, a declared port in.
    assert (found.paths, found.compared) == ((), 2 * (5 + 1))
