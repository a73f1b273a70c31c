"""The datapath plane of a live cluster: the nodes' own switches, asked in their pods.

The switches are replayed ones, behind exec as a node's are; what they say is held against the same
switches asked by their sockets, and a fault is made in one that the databases know nothing of.
"""

import contextlib
import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.replay.toolchain import Toolchain
from tests.end_to_end.apiserver import Cluster, refusal
from tests.end_to_end.conftest import Audit, cells, cells_of_files
from tests.jobs.test_manifests import build, granted, of_kind

pytestmark = [pytest.mark.ovn, pytest.mark.usefixtures("nothing_is_left")]

SCOPE = ("-n", "shop", "-n", "default", "--port", "tcp/80", "-o", "json")
ASKED = (*SCOPE, "--planes", "logical,datapath")
EXEC = ("--traces", "exec", "--exec-timeout", "5")
PLANES = ", logical, datapath, drift"
WORKER = "ovnkube-node-ovn-worker"


@pytest.fixture(scope="module")
def serving(recorded: Path, toolchain: Toolchain) -> Iterator[Cluster]:
    with Cluster(directory=recorded).serving(toolchain, switches=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def expected(
    audit_command: tuple[str, ...], recorded: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, str]]:
    """Return what a run of both planes says of the recorded files and replayed switches."""
    audit = Audit(command=audit_command, directory=tmp_path_factory.mktemp("expected"))
    found = cells_of_files(audit, recorded, ASKED, PLANES)
    assert len({cell["datapath"] for cell in found}) > 1
    return found


@pytest.fixture
def bare(audit: Audit) -> Audit:
    """Return the command where no OVN and no Open vSwitch can be found."""
    nowhere = ("/usr/bin/env", "PATH=/nonexistent", "XDG_DATA_HOME=/nonexistent")
    return Audit(command=(*nowhere, *audit.command), directory=audit.directory)


def asked_of_switches(cluster: Cluster) -> dict[str, int]:
    """Return how many streams were opened to the switch of each pod."""
    pods = [pod for pod, argv in cluster.commands if argv[0] == "python3" and "br-int" in argv[4]]
    return {pod: pods.count(pod) for pod in pods}


def test_the_nodes_own_switches_say_what_a_replay_says_and_need_none_here(
    audit: Audit,
    bare: Audit,
    cluster: Cluster,
    live: tuple[str, ...],
    expected: list[dict[str, str]],
) -> None:
    done = bare("run", *live, *ASKED, *EXEC)
    assert done.code == 0, done.err
    assert cells(audit, done.json["path"], PLANES) == expected
    assert done.json["datapath"]["traces"] > 200
    assert done.json["datapath"]["place"] == "the nodes' own"
    streams = asked_of_switches(cluster)
    assert len(streams) == 3
    assert all(count <= 4 for count in streams.values()), "many traces per exec"
    asked = {argv for _, argv in cluster.commands if "openvswitch" in " ".join(argv)}
    assert sorted(argv[0] for argv in asked) == ["ovs-ofctl", "ovsdb-client", "python3"]
    assert cluster.elsewhere == []
    manifests = build("overlays/upstream-exec")
    rights = granted(manifests, "ClusterRole") | granted(manifests, "Role")
    assert cluster.needed == rights, "the nightly job by exec has what it takes, and no more"
    roles = [one["metadata"]["namespace"] for one in of_kind(manifests, "Role")]
    assert cluster.execs_in == set(roles)


def test_a_pair_is_traced_through_the_switches_of_its_nodes_alone(
    audit: Audit, bare: Audit, cluster: Cluster, live: tuple[str, ...], recorded: Path
) -> None:
    pair = ("-src", "front-0", "-src-namespace", "shop", "-dst", "back-0", "-dst-namespace", "shop")
    asked = (*pair, "-tcp", "-dst-port", "8080", "-loglevel", "0")
    done = bare("trace", *live, *EXEC, *asked)
    assert done.code == 0, done.err
    assert done.out == audit("trace", "--snapshot", recorded, *asked).out
    assert "ofproto/trace" in done.out
    assert len(asked_of_switches(cluster)) == 2

    slow = [refusal(429, "slow down", {"Retry-After": "1"})]
    cluster.answers["pods"] = lambda _: slow.pop() if slow else None
    cluster.execs[WORKER] = ["die", "500", "ok"]
    cluster.streams[WORKER], cluster.switch_streams[WORKER] = ["die2", "ok"], ["die1", "ok"]
    broken = bare("trace", *live, *EXEC, *asked)
    assert (broken.code, broken.out) == (0, done.out), broken.err
    assert not slow
    assert cluster.execs[WORKER] == cluster.streams[WORKER] == ["ok"], "all of it happened"
    assert cluster.switch_streams[WORKER] == ["ok"]

    cluster.streams[WORKER] = ["403"]
    lost = bare("trace", *live, *EXEC, *asked)
    assert lost.code == 3, "what the datapath says alone is not all that was asked"
    assert "ofproto/trace source pod to destination pod indicates success" in lost.out


@contextlib.contextmanager
def without_flow(cluster: Cluster, toolchain: Toolchain, node: str, match: str) -> Iterator[None]:
    """Take the one flow that matches out of a node's switch, and put it back."""
    bridge = f"unix:{cluster.nodes / node / 'ovs' / 'br-int.mgmt'}"

    def ofctl(command: str, *arguments: str) -> str:
        argv = toolchain.argv("ovs-ofctl", "-O", "OpenFlow15", command, bridge, *arguments)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    [flow] = [line for line in ofctl("dump-flows", "--no-stats", match).splitlines() if "," in line]
    ofctl("del-flows", match)
    yield
    ofctl("add-flow", flow.strip())


def test_a_fault_that_is_only_on_a_node_is_found_there(
    audit: Audit,
    cluster: Cluster,
    live: tuple[str, ...],
    toolchain: Toolchain,
    expected: list[dict[str, str]],
) -> None:
    """How the node's switch finds one of its pods: by its MAC, in ls_in_l2_lkup."""
    name = next(
        c["dst_name"]
        for c in expected
        if c["datapath"] == "reachable" and c["dst_node"] == "ovn-worker"
    )
    pod = next(p for p in cluster.lists["pods"] if p["metadata"]["name"] == name)
    said = json.loads(pod["metadata"]["annotations"]["k8s.ovn.org/pod-networks"])
    gone = f"table=36,dl_dst={said['default']['mac_address']}"
    with without_flow(cluster, toolchain, "ovn-worker", gone):
        done = audit("run", *live, *ASKED, *EXEC)
    assert done.code == 1, done.err
    assert list(done.json["drift"]["nodes"]) == ["ovn-worker"]
    found = zip(cells(audit, done.json["path"], PLANES), expected, strict=True)
    drifting = [now for now, then in found if now != then]
    ends = [(c["src_name"], c["dst_name"]) for c in drifting]
    assert all(name in pair for pair in ends), "requests to it, and replies"
    lost = [c for c in drifting if c["logical"] != c["datapath"]]
    assert {(c["dst_name"], c["datapath"]) for c in lost} == {(name, "unroutable")}
    assert "reachable" in {c["logical"] for c in lost}


def test_a_switch_that_is_lost_costs_its_own_cells_of_that_plane_and_the_run_is_resumed(
    audit: Audit, cluster: Cluster, live: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    """One disappears mid-run, of another the pod never was; then streams break, and no more."""
    cluster.switch_streams[WORKER] = ["die3", "404"]
    pods = copy.deepcopy(cluster.lists["pods"])
    silent = next(p for p in cluster.lists["pods"] if p["metadata"]["name"] == f"{WORKER}2")
    silent["spec"]["containers"] = [
        c for c in silent["spec"]["containers"] if c["name"] != "ovn-controller"
    ]
    done = audit("run", *live, *ASKED, *EXEC)
    assert done.code == 3, done.err
    found = cells(audit, done.json["path"], PLANES)
    assert [c["logical"] for c in found] == [c["logical"] for c in expected]
    lost = [c for c, then in zip(found, expected, strict=True) if c["datapath"] != then["datapath"]]
    assert {c["datapath"] for c in lost} == {"untraced"}
    for cell in lost:
        assert {cell["src_node"], cell["dst_node"]} & {"ovn-worker", "ovn-worker2"}
    assert asked_of_switches(cluster)[WORKER] == 1, "what does not answer is given up"
    notes = {note["code"]: note for note in done.json["notes"]}
    assert notes["node-untraceable"]["subjects"] == ["ovn-worker2"]
    assert "no running pod has its sockets" in notes["node-untraceable"]["text"]
    assert "engine-lost" in notes["datapath-unproven"]["text"]
    assert "node-missing" in notes["datapath-unproven"]["text"]
    cluster.lists["pods"] = pods
    cluster.switch_streams[WORKER] = ["die2", "500", "die4", "ok"]
    told_again = audit("run", "--resume", done.json["path"], "-o", "json")
    assert told_again.code == 2
    assert "--traces exec --kubeconfig" in told_again.err
    whole = audit("run", "--resume", done.json["path"], *live, *EXEC, "-o", "json")
    assert whole.code == 0, whole.err
    assert cells(audit, whole.json["path"], PLANES) == expected
    assert whole.json["resumed"]["traces_kept"] > 0


def test_the_doctor_says_whether_they_can_be_asked(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    done = audit("doctor", "--live", *live)
    assert done.code == 0, done.out
    assert "the switches of 3 nodes can be asked (--traces exec, datapath)" in done.out
    assert len(asked_of_switches(cluster)) == 3


def test_no_packet_is_sent_through_a_clusters_switches(
    audit: Audit, cluster: Cluster, live: tuple[str, ...]
) -> None:
    done = audit("run", *live, *ASKED, *EXEC, "--verify-packets", "5")
    agents = audit("run", *live, *ASKED, "--workers", "agents", "--verify-packets", "5")
    for refused in (done, agents):
        assert (refused.code, refused.out) == (2, "")
        assert "--verify-packets" in refused.err
    assert cluster.commands == []
