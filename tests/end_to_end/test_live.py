"""A live cluster: whole commands against an API server that speaks the real protocol.

What a run of the recorded files says is held against the recorded answers elsewhere; here a run of
the same cluster, read over the API and by exec, has to say the same.
"""

import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from audit.facts.live.resources import LISTED
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.end_to_end.apiserver import Answer, Cluster, refusal
from tests.end_to_end.conftest import SCOPE, Audit, cells
from tests.jobs.test_manifests import build, granted

pytestmark = pytest.mark.ovn

WORKER = "ovnkube-node-ovn-worker"
FRONT_TO_BACK = (
    *("-src", "front-0", "-src-namespace", "shop", "-dst", "back-0", "-dst-namespace", "shop"),
    *("-tcp", "-dst-port", "8080"),
)


def between(found: list[dict[str, str]], *, without: str) -> list[dict[str, str]]:
    """Return the cells that have nothing to do with a node."""
    return [c for c in found if without not in (c["src_node"], c["dst_node"])]


def without_blame(cell: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in cell.items() if not name.startswith("blame")}


def test_a_live_run_says_what_the_recorded_files_say(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    done = audit("run", *live, *SCOPE)
    assert done.code == 0, done.err
    assert cells(audit, done.json["path"]) == expected
    assert done.json["source"] == f"cluster {cluster.url}"
    assert cluster.calls["list pods"] >= 2 * (52 // cluster.page)  # in pages, before and after
    assert {argv[0] for _, argv in cluster.commands} == {"ovsdb-client"}
    assert {argv[2] for _, argv in cluster.commands} == {"backup"}
    assert len(cluster.commands) == 6  # two databases of each of three nodes, once
    assert cluster.running == 0
    assert not list((audit.directory / "runs").glob(".cluster-*"))
    assert set(cluster.calls) <= {f"list {one.resource}" for one in LISTED}
    manifests = build("nightly")
    rights = granted(manifests, "ClusterRole") | granted(manifests, "Role")
    assert cluster.needed == rights, "the nightly job has what it takes, and no more"
    assert cluster.elsewhere == []


def test_a_live_pair_is_traced_with_every_tool(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], recorded: Path
) -> None:
    asked = (*FRONT_TO_BACK, "-loglevel", "0")
    done = audit(
        "trace", *live, "--context", "test", "-ovn-config-namespace", "ovn-kubernetes", *asked
    )
    assert done.out == audit("trace", "--snapshot", recorded, *asked).out
    assert "indicates success from front-0 to back-0" in done.out
    assert "ofproto/trace" in done.out
    assert done.code == 0, done.err
    assert cluster.running == 0


def test_a_live_cluster_answers_who_can_reach_what(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], recorded: Path
) -> None:
    asked = ("can", "shop/front-0", "svc/shop/back")
    done = audit(*asked, *live)
    of_files = audit(*asked, "--snapshot", recorded)
    assert (done.code, done.out) == (of_files.code, of_files.out)
    assert "shop/default-deny" in done.out, "as `audit trace` of this pair says"
    assert list(audit.directory.iterdir()) == [audit.directory / "kubeconfig"]
    assert cluster.running == 0


def test_a_change_of_policies_is_tried_on_the_cluster_and_changes_nothing_there(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], recorded: Path
) -> None:
    deny = {"podSelector": {}, "policyTypes": ["Ingress"]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": deny}
    policy["metadata"] = {"name": "deny", "namespace": "prod"}
    (audit.directory / "deny.json").write_text(json.dumps(policy))
    asked = ("-n", "default", "-n", "prod", "--apply", "deny.json", "-q", "-o", "json")
    tried = audit("run", *live, *asked)
    assert tried.code == 1, tried.err
    recorded_says = audit("run", "--snapshot", recorded, *asked).json["changes"]
    assert tried.json["changes"]["paths"] == recorded_says["paths"] != []
    assert cluster.commands == [], "policies take no database"
    assert {call.split()[0] for call in cluster.calls} == {"list"}
    assert not list((audit.directory / "runs").glob(".cluster-*"))


def test_a_saved_cluster_is_traced_elsewhere(
    audit: Audit, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    saved = audit("snapshot", *live, "--out", "cluster.tar.gz", "-o", "json")
    assert (saved.code, saved.json["zones"], saved.json["notes"]) == (0, 3, [])
    done = audit("run", "--snapshot", "cluster.tar.gz", *SCOPE)
    assert cells(audit, done.json["path"]) == expected
    assert [path.name for path in audit.directory.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not accept these credentials"), (403, "grant list on pods")],
)
def test_without_rights_nothing_is_guessed(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], status: int, words: str
) -> None:
    cluster.answers["pods"] = lambda _: refusal(status, "no")
    for asked in (("run", *live, *SCOPE), ("trace", *live, *FRONT_TO_BACK)):
        done = audit(*asked, "--live")
        assert (done.code, done.out) == (4, "")
        assert words in done.err
    assert not list(audit.directory.glob("runs/*"))


def test_a_wrong_token_is_said_to_be_one(audit: Audit, cluster: Cluster) -> None:
    wrong = cluster.kubeconfig(audit.directory / "wrong", token="another")  # noqa: S106
    done = audit("plan", "--kubeconfig", wrong)
    assert done.code == 4
    assert "401" in done.err


def test_policies_that_may_not_be_listed_leave_the_intent_open(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    cluster.answers["networkpolicies"] = lambda _: refusal(403, "not you")
    done = audit("run", *live, *SCOPE, "--planes", "intent,logical")
    run = done.json["path"]
    said = audit("query", run, "SELECT DISTINCT intent, drift FROM cells", "-o", "csv").out.split()
    assert said[1:] == ["inconclusive,"]
    assert [without_blame(c) for c in cells(audit, run)] == [without_blame(c) for c in expected]
    assert any("networkpolicies" in note["text"] for note in done.json["notes"])


def test_a_kind_that_does_not_exist_is_no_finding(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    del cluster.lists["egressfirewalls"]
    done = audit("run", *live, *SCOPE, "--planes", "intent")
    assert done.code == 0, done.err
    assert not [n for n in done.json["notes"] if n["code"] == "list-forbidden"]
    verdicts = done.json["counts"]
    assert verdicts["inconclusive"] == 0
    assert cluster.commands == []  # the objects alone need no exec


def test_a_kind_that_is_forbidden_and_does_not_exist_is_none(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    del cluster.lists["egressfirewalls"]
    cluster.answers["egressfirewalls"] = lambda _: refusal(403, "not you")
    done = audit("snapshot", *live, "--without-databases", "--out", "c")
    assert done.code == 0, done.out


def test_the_doctor_says_what_is_missing_and_how_to_grant_it(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    well = audit("doctor", "--live", *live)
    assert well.code == 0, well.out
    assert "v1.34.1" in well.out
    assert "3 pairs of databases in ovn-kubernetes: interconnect, a zone per node" in well.out
    assert "6 databases answer in their pods" in well.out
    assert "traces can run in all 3 pods (--traces exec): ovn-trace 25." in well.out
    assert "3 of 3 nodes' switches cannot be asked" in well.out
    assert "/ovs-vswitchd.pid'; copies can be replayed all the same" in well.out
    cluster.execs[WORKER] = ["ok", "ok", "404"]
    part = audit("doctor", "--live", *live)
    assert part.code == 0, part.out
    assert "traces cannot run in 1 of 3 pods (--traces exec), of ovn-worker: " in part.out
    cluster.denied = {("create", "pods/exec"), ("list", "networkpolicies")}
    ill = audit("doctor", "--live", *live)
    assert ill.code == 4
    assert (
        "kubectl create clusterrole ovn-audit --verb=list "
        "--resource=networkpolicies.networking.k8s.io"
    ) in ill.out
    assert (
        "kubectl -n ovn-kubernetes create role ovn-audit-exec --verb=get,create "
        "--resource=pods/exec"
    ) in ill.out


def test_a_busy_server_and_an_expired_page_are_waited_for(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    failures = [refusal(429, "slow down", {"Retry-After": "1"}), refusal(410, "expired")]

    def pods(query: Mapping[str, str]) -> Answer | None:
        return failures.pop(0) if failures and (len(failures) > 1 or "continue" in query) else None

    cluster.answers["pods"] = pods
    started = time.monotonic()
    done = audit("snapshot", *live, "--without-databases", "--out", "objects")
    assert done.code == 0, done.err
    assert not failures
    assert time.monotonic() - started >= 1
    saved = json.loads((audit.directory / "objects/kube/pods.json").read_text())
    assert len(saved["items"]) == len(cluster.lists["pods"])


@pytest.mark.parametrize("fault", ["hang", "die", "404", "403"])
def test_a_node_that_cannot_be_read_costs_its_own_cells(
    audit: Audit,
    cluster: Cluster,
    live: tuple[str, ...],
    expected: list[dict[str, str]],
    fault: str,
) -> None:
    cluster.execs[WORKER] = [fault]
    done = audit("run", *live, "--exec-timeout", "4", *SCOPE)
    assert done.code == 3, done.err
    found = cells(audit, done.json["path"])
    assert between(found, without="ovn-worker") == between(expected, without="ovn-worker")
    lost = [c for c in found if "ovn-worker" in (c["src_node"], c["dst_node"])]
    assert {(c["verdict"], c["reason"]) for c in lost} == {("untraced", "zone-missing")}
    assert len(lost) == len(found) - len(between(found, without="ovn-worker"))
    assert any("ovn-worker" in n["text"] for n in done.json["notes"] if "zone" in n["code"])
    tried = [pod for pod, _ in cluster.commands if pod == WORKER]
    assert len(tried) == {"hang": 1, "die": 3, "404": 0, "403": 0}[fault]
    assert cluster.idle()


@pytest.mark.parametrize("fault", ["hang", "403"])
def test_a_pair_of_a_node_that_cannot_be_read_is_not_said_to_pass(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], fault: str
) -> None:
    del cluster.lists["egressfirewalls"]  # a kind that is not there is no matter here
    cluster.execs[WORKER] = [fault]
    done = audit("trace", *live, "--exec-timeout", "4", *FRONT_TO_BACK)
    said = " ".join(f"{done.out} {done.err}".split())
    assert (done.code, "indicates success" in said) == (3, False)
    assert "front-0 was not traced to pod shop/back-0" in said
    assert "zone ovn-worker could not be read" in said
    assert cluster.idle()


def test_a_stream_that_dies_is_opened_again(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    cluster.execs[WORKER] = ["die", "500", "ok"]
    done = audit("run", *live, *SCOPE)
    assert done.code == 0, done.err
    assert cells(audit, done.json["path"]) == expected


def leave(gone: Cluster) -> None:
    """Take the node away."""
    for kind in ("pods", "nodes"):
        gone.lists[kind] = [
            one
            for one in gone.lists[kind]
            if "ovn-worker" not in (one["metadata"]["name"], one["spec"].get("nodeName"))
        ]
    gone.execs[WORKER] = ["404"]


def test_a_node_that_disappears_is_one_that_is_not_there(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    cluster.after_exec = leave
    done = audit("run", *live, *SCOPE)
    found = cells(audit, done.json["path"])
    kept = between(expected, without="ovn-worker")
    assert between(found, without="ovn-worker") == kept
    others = [c for c in found if c not in kept]
    assert {c["verdict"] for c in others} <= {"untraced"}


def test_a_pair_of_a_node_that_disappears_is_not_said_to_pass(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    cluster.after_exec = leave
    done = audit("trace", *live, *FRONT_TO_BACK)
    assert (done.code, done.out) == (2, "")
    assert "'back-0' does not exist in namespace shop" in done.err


def test_what_changes_meanwhile_is_read_again_or_untraced(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    pod = next(p for p in cluster.lists["pods"] if p["metadata"]["name"] == "front-0")
    labels: dict[str, Any] = pod["metadata"]["labels"]
    cluster.after_exec = lambda _: labels.update(turn=str(len(cluster.commands)))
    done = audit("run", *live, *SCOPE)
    assert len(cluster.commands) == 12  # each database twice
    assert done.code == 3
    reasons = {(c["src_name"], c["dst_name"]): c["reason"] for c in cells(audit, done.json["path"])}
    changed = {pair for pair, reason in reasons.items() if reason == "changed-meanwhile"}
    assert changed
    assert changed == {pair for pair in reasons if "front-0" in pair and pair[0] != pair[1]}


def test_nothing_runs_on_when_the_audit_is_killed(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    cluster.execs[WORKER] = ["hang"]
    process = subprocess.Popen([*audit.command, "plan", *live], cwd=audit.directory)
    deadline = time.monotonic() + 60
    while len(cluster.commands) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert cluster.running >= 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert cluster.idle()


def named(cluster: Cluster, names: Mapping[str, str], namespace: str) -> None:
    """Call the containers and the namespace of OVN-Kubernetes as another distribution does."""
    for pod in cluster.lists["pods"]:
        if pod["metadata"]["namespace"] == "ovn-kubernetes":
            pod["metadata"]["namespace"] = namespace
            for container in pod["spec"]["containers"]:
                container["name"] = names.get(container["name"], container["name"])


@pytest.mark.parametrize(
    ("names", "namespace", "flags"),
    [
        ({"nbdb": "nb-ovsdb", "sbdb": "sb-ovsdb", "northd": "ovn-northd"}, "ovn-kubernetes", ()),
        ({}, "openshift-ovn-kubernetes", ()),
        ({}, "elsewhere", ("--ovn-config-namespace", "elsewhere")),
    ],
)
def test_the_databases_are_found_by_the_names_of_each_distribution(
    audit: Audit,
    cluster: Cluster,
    live: tuple[str, ...],
    names: Mapping[str, str],
    namespace: str,
    flags: tuple[str, ...],
) -> None:
    named(cluster, names, namespace)
    done = audit("plan", *live, *flags, "-n", "shop", "--port", "tcp/80", "-o", "json")
    assert done.code == 0, done.err
    assert sorted(done.json["zones"]) == ["ovn-control-plane", "ovn-worker", "ovn-worker2"]
    assert done.json["notes"] == [n for n in done.json["notes"] if "zone" not in n]


def pod_of_ovn(app: str, name: str, node: str, *containers: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "openshift-ovn-kubernetes",
            "uid": name,
            "labels": {"app": app},
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "containers": [{"name": one} for one in containers],
        },
        "status": {"phase": "Running"},
    }


def run_central(cluster: Cluster) -> None:
    """Give a recorded central cluster the pods it would have; the first member does not answer."""
    nodes = [node["metadata"]["name"] for node in cluster.lists["nodes"]]
    databases = ("northd", "nbdb", "sbdb", "ovnkube-master")
    for member in ("ovnkube-master-a", "ovnkube-master-b"):
        pod = pod_of_ovn("ovnkube-master", member, nodes[0], *databases)
        cluster.lists["pods"].append(pod)
    for node in nodes:
        pod = pod_of_ovn(
            "ovnkube-node", f"ovnkube-node-{node}", node, "ovn-controller", "ovnkube-node"
        )
        cluster.lists["pods"].append(pod)
    cluster.execs["ovnkube-master-a"] = cluster.streams["ovnkube-master-a"] = ["404"]


def test_a_central_cluster_is_read_from_the_first_member_that_answers(
    audit: Audit, toolchain: Toolchain, tmp_path: Path
) -> None:
    with tarfile.open(REPOSITORY / "tests" / "data" / "ovn-23.03-central.tar.xz") as tar:
        extract(tar, tmp_path / "central")
    recorded = tmp_path / "central"
    with Cluster(directory=recorded).serving(toolchain) as cluster:
        run_central(cluster)
        flags = ("--kubeconfig", cluster.kubeconfig(tmp_path / "kubeconfig"))
        done = audit("run", *flags, *SCOPE, "--planes", "logical")
        assert done.code == 0, done.err
        assert {pod for pod, _ in cluster.commands} == {"ovnkube-master-b"}
    files = audit("run", "--snapshot", recorded, *SCOPE)
    assert cells(audit, done.json["path"]) == cells(audit, files.json["path"])


def test_a_central_cluster_is_traced_by_exec_in_both_planes(
    audit: Audit, toolchain: Toolchain, tmp_path: Path
) -> None:
    """Requests go to a member that answers, and to each node's switch in the node's own pod."""
    with tarfile.open(REPOSITORY / "tests" / "data" / "ovn-23.03-central.tar.xz") as tar:
        extract(tar, tmp_path / "central")
    planes = ("--planes", "logical,datapath")
    with Cluster(directory=tmp_path / "central").serving(toolchain, switches=True) as cluster:
        run_central(cluster)
        flags = ("--kubeconfig", cluster.kubeconfig(tmp_path / "kubeconfig"), "--traces", "exec")
        done = audit("run", *flags, *SCOPE, *planes)
        assert done.code == 0, done.err
        switches = {pod for pod, _ in cluster.commands} - {"ovnkube-master-b"}
        assert switches == {f"ovnkube-node-{node}" for node in cluster.switches}
        assert cluster.idle()
        assert not list(cluster.nodes.glob("*/tmp/*"))
    files = audit("run", "--snapshot", tmp_path / "central", *SCOPE, *planes)
    found = cells(audit, done.json["path"], ", logical, datapath, drift")
    assert found == cells(audit, files.json["path"], ", logical, datapath, drift")
    assert "reachable" in {cell["datapath"] for cell in found}
