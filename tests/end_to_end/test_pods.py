"""Traces by exec: asked of the pods that have the databases, and gone from there afterwards."""

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from audit.replay.toolchain import Toolchain
from tests.end_to_end.apiserver import Cluster
from tests.end_to_end.conftest import SCOPE, Audit, cells, processes

pytestmark = [pytest.mark.ovn, pytest.mark.usefixtures("nothing_is_left")]

EXEC = ("--traces", "exec", "--exec-timeout", "5")
ASKED = tuple(word for word in SCOPE if word not in ("--workers", "inline"))
WORKER = "ovnkube-node-ovn-worker"


def traced(cluster: Cluster) -> dict[str, int]:
    """Return how many daemons were started in each pod."""
    pods = [pod for pod, argv in cluster.commands if "trace" in argv]
    return {pod: pods.count(pod) for pod in pods}


def test_a_run_by_exec_says_what_a_run_of_copies_says_and_needs_no_ovn_here(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    bare = ("/usr/bin/env", "PATH=/nonexistent", "XDG_DATA_HOME=/nonexistent", *audit.command)
    without = Audit(command=bare, directory=audit.directory)
    assert "OVN is not installed here" in without("doctor").out
    done = without("run", *live, *ASKED, *EXEC)
    assert done.code == 0, done.err
    assert cells(audit, done.json["path"]) == expected
    assert done.json["engine"]["place"] == "the cluster's pods"
    assert sum(count > 0 for count in traced(cluster).values()) == 3
    assert all(count <= 4 for count in traced(cluster).values()), "many traces per exec"
    start, end = (done.json["markers"][when] for when in ("start", "end"))
    assert end["resource_versions"]["pods"] == start["resource_versions"]["pods"] == "1000"
    assert end["zones"] == start["zones"]
    assert sorted(end["zones"]) == ["ovn-control-plane", "ovn-worker", "ovn-worker2"]
    assert {"nb_cfg", "sb_cfg", "hv_cfg", "southbound nb_cfg"} <= set(end["zones"]["ovn-worker"])
    programs = {argv[4] for _, argv in cluster.commands if argv[0] == "python3"}
    assert len(programs) == 1, "what runs in a pod is a constant"


def test_a_pair_by_exec_is_traced_as_on_copies_where_pods_answer(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], recorded: Path
) -> None:
    """In this cluster the databases do; no node has a switch."""
    pair = ("-src", "front-0", "-src-namespace", "shop", "-dst", "back-0", "-dst-namespace", "shop")
    asked = (*pair, "-tcp", "-dst-port", "8080", "-loglevel", "0")
    done = audit("trace", *live, *EXEC, *asked)
    assert done.code == 3, done.err
    whole = audit("trace", "--snapshot", recorded, *asked).out.splitlines()
    found = done.out.splitlines()
    assert found[:4] == whole[:4]
    assert all(line.startswith("ovn-trace ") for line in whole[:4])
    assert sum("ofproto/trace" in line and " is untraced " in line for line in found) == 2
    assert " is not asked: container ovn-controller of pod " in " ".join(done.out.split())
    assert len(traced(cluster)) == 2


@pytest.mark.parametrize(
    "fault",
    [["hang"], ["403"], ["die3", "404"], ["die3", "hang"]],
    ids=["hangs", "forbidden", "disappears mid-run", "hangs mid-run"],
)
def test_a_node_that_is_lost_costs_its_own_cells_and_what_it_began_is_resumed(
    audit: Audit,
    cluster: Cluster,
    live: tuple[str, ...],
    expected: list[dict[str, str]],
    fault: list[str],
) -> None:
    cluster.streams[WORKER] = fault
    done = audit("run", *live, *ASKED, *EXEC, "--cover", "exhaustive")
    assert done.code == 3, done.err
    found = cells(audit, done.json["path"])
    lost = [(now, then) for now, then in zip(found, expected, strict=True) if now != then]
    assert lost
    for now, _ in lost:
        assert "ovn-worker" in (now["src_node"], now["dst_node"])
        unproven = now["verdict"] == "untraced" or now["reply"] == "untraced"
        assert unproven, now
    reasons = {now["reason"] for now, _ in lost if now["verdict"] == "untraced"}
    assert reasons == {"engine-lost"}
    traces = audit(
        "query",
        done.json["path"],
        "SELECT zone, count(*) n FROM traces WHERE reason = 'engine-lost' GROUP BY zone",
        *("-o", "csv"),
    ).out.split()
    assert [line.split(",")[0] for line in traces[1:]] == ["ovn-worker"]
    tried = traced(cluster).get(WORKER, 0)
    assert tried <= 4, "what does not answer is given up"
    kept = json.loads((audit.directory / done.json["path"] / "plan.json").read_text())
    said = kept["options"]["cluster"]
    assert set(said) == {"kubeconfig", "context", "namespace", "exec_timeout_s"}, "no credentials"
    if len(fault) == 1:
        return  # nothing of the node was traced: --resume would do no more than with the others
    (copied,) = (audit.directory / "runs").glob(".cluster-*")
    cluster.streams.clear()
    told_again = audit("run", "--resume", done.json["path"], "-o", "json")
    assert told_again.code == 2
    assert "--traces exec --kubeconfig" in told_again.err
    whole = audit("run", "--resume", done.json["path"], *live, *EXEC, "-o", "json")
    assert whole.code == 0, whole.err
    assert cells(audit, whole.json["path"]) == expected
    assert whole.json["resumed"]["traces_kept"] > 0
    assert not copied.exists(), "no run needs it any more"


def test_what_changes_while_it_is_traced_is_not_known(
    audit: Audit,
    cluster: Cluster,
    live: tuple[str, ...],
    expected: list[dict[str, str]],
    toolchain: Toolchain,
) -> None:
    pod = next(p for p in cluster.lists["pods"] if p["metadata"]["name"] == "front-0")
    socket = cluster.nodes / "ovn-worker2" / "run" / "ovnnb_db.sock"
    mutate = {"op": "mutate", "table": "NB_Global", "where": []}
    asked = json.dumps(["OVN_Northbound", {**mutate, "mutations": [["nb_cfg", "+=", 1]]}])

    def change(now: Cluster) -> None:
        now.when_traced = None
        pod["metadata"]["labels"]["turn"] = "1"
        argv = toolchain.argv("ovsdb-client", "transact", f"unix:{socket}", asked)
        subprocess.run(argv, check=True, capture_output=True)

    cluster.when_traced = change
    done = audit("run", *live, *ASKED, *EXEC)
    assert done.code == 3, done.err
    found = cells(audit, done.json["path"])
    changed = [(now, then) for now, then in zip(found, expected, strict=True) if now != then]
    concerned = [c for c in found if "front-0" in (c["src_name"], c["dst_name"])]
    assert [now for now, _ in changed] == [c for c in concerned if c["reason"] != "to-itself"]
    assert {(now["verdict"], now["reason"]) for now, _ in changed} == {
        ("untraced", "changed-meanwhile")
    }
    notes = {note["code"]: note["subjects"] for note in done.json["notes"]}
    assert notes["changed-meanwhile"] == ["shop/front-0"]
    assert notes["zone-went-on"] == ["ovn-worker2"]


def test_copies_that_no_run_needs_are_removed_and_others_are_not(
    audit: Audit, live: tuple[str, ...]
) -> None:
    runs = audit.directory / "runs"
    for name, age in (("lost", 7200), ("needed", 7200), ("young", 0), ("used", 7200)):
        (runs / f".cluster-{name}").mkdir(parents=True)
        os.utime(runs / f".cluster-{name}", (time.time() - age,) * 2)
    (runs / "cut-short").mkdir()
    plan = {"options": {"snapshot": str(runs / ".cluster-needed")}}
    (runs / "cut-short" / "plan.json").write_text(json.dumps(plan))
    in_use = os.open(runs / ".cluster-used", os.O_RDONLY)
    fcntl.flock(in_use, fcntl.LOCK_EX)
    done = audit("run", *live, *SCOPE, "--planes", "intent")
    os.close(in_use)
    assert done.code == 0, done.err
    left = sorted(path.name for path in runs.glob(".cluster-*"))
    assert left == [".cluster-needed", ".cluster-used", ".cluster-young"]


def test_a_stream_that_dies_is_made_anew(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    cluster.streams[WORKER] = ["die2", "500", "die4", "ok"]
    done = audit("run", *live, *ASKED, *EXEC)
    assert done.code == 0, done.err
    assert cells(audit, done.json["path"]) == expected


def test_nothing_runs_on_in_a_pod_when_the_audit_is_killed(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    command = [*audit.command, "run", *live, "--traces", "exec", "--cover", "exhaustive"]
    process = subprocess.Popen(command, cwd=audit.directory, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(traced(cluster)) < 3 or not list(cluster.nodes.glob("*/tmp/*/ctl")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    assert processes(cluster), "they are looked for in the right place"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_exec_is_refused_where_there_is_no_pod(audit: Audit, recorded: Path) -> None:
    done = audit("run", "--snapshot", recorded, "--traces", "exec")
    assert (done.code, done.out) == (2, "")
    assert "live cluster" in done.err
