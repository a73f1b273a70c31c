"""`audit trace`, typed as ovnkube-trace is typed, beside what ovnkube-trace printed."""

import json
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from audit.replay.databases import OvsdbTool, serve
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import Audit, Called

pytestmark = pytest.mark.ovn

RECORDED: list[dict[str, list[str]]] = json.loads(
    (REPOSITORY / "tests/data/ovnkube-trace.json").read_text()
)
"""Command lines, and the verdict lines that the real ovnkube-trace printed for them."""

WRONG = {
    # One --ct=new for the whole trace: at the backend its packet is established and is denied.
    "ovn-trace source pod to service clusterIP indicates failure from prod-client-0 to web",
    # Recorded without the flows of the gateway's bridge.
    "ovs-appctl ofproto/trace pod to IP indicates failure from fw-0 to 198.51.100.5",
}
"""Lines of ovnkube-trace's that are not so."""


@pytest.fixture(scope="module")
def snapshot(example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the example unpacked: reading a directory is quicker."""
    root = tmp_path_factory.mktemp("example")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root)
    return root


def lines(done: Called) -> list[str]:
    assert done.err == ""
    return [line for line in done.out.splitlines() if " indicates " in line]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: " ".join(one["args"][3:]))
def test_the_lines_of_ovnkube_trace_are_printed_in_its_order(
    audit: Audit, snapshot: Path, recorded: dict[str, list[str]]
) -> None:
    done = audit("trace", "--snapshot", snapshot, *recorded["args"])
    assert done.code == 0
    printed = lines(done)
    expected = [line for line in recorded["lines"] if line not in WRONG]
    assert [line for line in printed if line in expected] == expected
    for line in set(recorded["lines"]) & WRONG:
        assert line not in printed
        assert line.replace("failure", "success") in printed


FAILS = ("-src-namespace", "prod", "-src", "prod-client-0", "-dst-namespace", "default")
WEB = ("-dst", "web-0", "-tcp", "-dst-port", "80", "-loglevel", "0")
BOTH = "from prod-client-0 to web-0", "from web-0 to prod-client-0"


def without_the_allow_policy(snapshot: Path, root: Path, toolchain: Toolchain) -> Path:
    """Return the cluster as it was before `web-allow-prod` was applied.

    Its ACLs' logical flows are what ovn-northd had not made yet.
    """
    before = Path(shutil.copytree(snapshot, root / "before"))
    listed = before / "kube/networkpolicies.json"
    policies = json.loads(listed.read_text())
    policies["items"] = [
        one for one in policies["items"] if one["metadata"]["name"] != "web-allow-prod"
    ]
    listed.write_text(json.dumps(policies))
    reader = OvsdbTool(programs=toolchain)
    for zone in (before / "ovn").iterdir():
        northbound = reader.tables(zone / "nb.db", "OVN_Northbound")
        acls = northbound.rows("ACL", ("_uuid", "external_ids"))
        hints = [
            row["_uuid"][:8]
            for row in acls
            if row["external_ids"].get("k8s.ovn.org/name") == "default:web-allow-prod"
        ]
        assert hints
        wanted = [[["external_ids", "includes", ["map", [["stage-hint", h]]]]] for h in hints]
        operations = [{"op": "delete", "table": "Logical_Flow", "where": one} for one in wanted]
        transact(toolchain, zone / "sb.db", "OVN_Southbound", *operations)
    return before


def transact(
    toolchain: Toolchain, database: Path, schema: str, *operations: dict[str, Any]
) -> list[dict[str, Any]]:
    done = subprocess.run(
        toolchain.argv("ovsdb-tool", "transact", str(database), json.dumps([schema, *operations])),
        capture_output=True,
        check=True,
        text=True,
    )
    assert "error" not in done.stdout, done.stdout
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_the_documented_session_fails_first_and_then_succeeds(
    audit: Audit, snapshot: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    before = without_the_allow_policy(snapshot, tmp_path, toolchain)
    done = audit("trace", "--snapshot", before, *FAILS, *WEB)
    assert done.code == 0
    there, back = BOTH
    assert lines(done)[0] == f"ovn-trace source pod to destination pod indicates failure {there}"
    # It goes on, and the datapath says the same.
    assert lines(done)[2:4] == [
        f"ovs-appctl ofproto/trace source pod to destination pod indicates failure {there}",
        f"ovs-appctl ofproto/trace destination pod to source pod indicates success {back}",
    ]
    assert "networkpolicy default/deny-by-default ingress" in " ".join(done.out.split())
    expected = audit("trace", "--snapshot", before, *FAILS, *WEB, "--expect", "reachable")
    assert expected.code == 1
    done = audit("trace", "--snapshot", snapshot, *FAILS, *WEB, "--expect", "reachable")
    assert done.code == 0
    assert lines(done) == [
        f"ovn-trace source pod to destination pod indicates success {there}",
        f"ovn-trace destination pod to source pod indicates success {back}",
        f"ovs-appctl ofproto/trace source pod to destination pod indicates success {there}",
        f"ovs-appctl ofproto/trace destination pod to source pod indicates success {back}",
        f"ovn-detrace source pod to destination pod indicates success {there}",
        f"ovn-detrace destination pod to source pod indicates success {back}",
    ]


def test_both_zones_are_asked_though_the_first_stops_the_packet(
    audit: Audit, snapshot: Path
) -> None:
    pair = ("-src-namespace", "deny-out", "-src", "caged-0", "-dst", "web-1", "-tcp")
    found = audit("trace", "--snapshot", snapshot, *pair, "-o", "json").json
    assert found["verdict"] == "blocked"
    assert found["blame"] == "networkpolicy deny-out/default-deny-egress egress"
    assert found["drift"] is False
    request = [stage for stage in found["stages"] if stage["way"] == "request"]
    for tool, node in (("ovn-trace", "zone"), ("ovs-appctl ofproto/trace", "node")):
        here, there = (stage for stage in request if stage["tool"] == tool)
        assert (here["remote"], here["supposed"], here["place"]) == (
            False,
            False,
            "ovn-control-plane",
        ), node
        assert (there["remote"], there["supposed"], there["place"]) == (True, True, "ovn-worker")
        assert there["blame"] == "networkpolicy default/deny-by-default ingress"
    [leg] = found["legs"]
    for plane in ("logical", "datapath"):
        assert leg[plane]["reply"]["verdict"] == "reachable"
        assert leg[plane]["reverse"]["verdict"] == "reachable"
    # ovn-detrace names the ACL that stopped it.
    detraced = [stage for stage in request if stage["tool"] == "ovn-detrace"]
    owners = [source["owner"] for stage in detraced for source in stage["sources"]]
    assert "default deny of namespace deny-out, egress" in owners
    assert "default deny of namespace default, ingress" in owners


def test_what_a_level_shows_can_be_typed_and_says_the_same(
    audit: Audit, snapshot: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    pair = ("--src", "client-0", "--dst", "web-0", "--tcp")
    found = audit("trace", "--snapshot", snapshot, *pair, "-v", "2", "-o", "json").json
    commands = 0
    for stage in found["stages"]:
        if stage["tool"] == "ovn-trace":
            zone = snapshot / "ovn" / stage["place"]
            for command, output in zip(stage["commands"], stage["outputs"], strict=True):
                commands += 1
                rundir = tmp_path / str(commands)
                rundir.mkdir()
                with serve(toolchain, zone / "sb.db", rundir) as socket:
                    program, *arguments = shlex.split(command)
                    done = subprocess.run(
                        toolchain.argv(program, f"--db=unix:{socket}", *arguments),
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                assert done.stdout.rstrip() == output.rstrip()
        elif stage["tool"] == "ovn-detrace":
            [output] = stage["outputs"]
            said = set(re.findall(r"^ +\* (ACL: .*)$", output, re.MULTILINE))
            ours = {one["text"] for one in stage["sources"] if one["table"] == "ACL"}
            assert said == ours
    assert commands == 3
    text = audit("trace", "--snapshot", snapshot, *pair, "-loglevel", "5", "-skip-detrace")
    for stage in (one for one in found["stages"] if one["tool"] != "ovn-detrace"):
        name = f"{stage['tool']}{' (remote)' * stage['remote']} {stage['direction']}"
        assert f"{name} Output:\n" in text.out
        for command in stage["commands"] if stage["tool"] == "ovn-trace" else ():
            assert command in text.out
    assert "reg8[17] = 1" in text.out  # ls_out_acl_eval of the default deny
    assert "Datapath actions: " in text.out


def test_a_service_is_traced_to_each_backend_on_its_own_port(audit: Audit, snapshot: Path) -> None:
    pair = ("-src-namespace", "prod", "-src", "prod-client-0", "-service", "web", "-tcp")
    done = audit("trace", "--snapshot", snapshot, *pair, "-o", "json")
    found = done.json
    assert (done.code, found["verdict"], found["datapath"]) == (0, "reachable", "reachable")
    assert sorted(leg["dst"] for leg in found["legs"]) == [
        f"pod default/web-{number}" for number in range(3)
    ]
    assert {leg["port"] for leg in found["legs"]} == {"tcp/8080"}
    printed = [stage["line"] for stage in found["stages"] if stage["line"]]
    assert printed[0] == (
        "ovn-trace source pod to service clusterIP indicates success from prod-client-0 to web"
    )
    for number in range(3):
        for tool in ("ovn-trace", "ovs-appctl ofproto/trace", "ovn-detrace"):
            assert (
                f"{tool} source pod to destination pod indicates success from prod-client-0 to "
                f"web-{number}"
            ) in printed


@pytest.mark.parametrize(
    ("protocol", "family"), [("-udp", "ip6"), ("-sctp", "ip4"), ("-sctp", "ip6")]
)
def test_other_protocols_and_ip6(audit: Audit, snapshot: Path, protocol: str, family: str) -> None:
    pair = ("-src-namespace", "tenant-b", "-src", "b-1", "-dst-namespace", "prod")
    flags = ("-dst", "prod-client-3", protocol, "-addr-family", family, "-skip-detrace")
    done = audit("trace", "--snapshot", snapshot, *pair, *flags)
    assert done.code == 0
    assert len(lines(done)) == 8
    assert all("indicates success" in line for line in lines(done))
    assert "ovn-detrace" not in done.out


def test_without_a_port_all_that_the_service_declares(audit: Audit) -> None:
    snapshot = REPOSITORY / "tests/data/services-egressip.tar.xz"
    pair = ("cli/c-0", "svc/svc/udp-tcp")
    traced = audit("trace", *pair, "--snapshot", snapshot, "-o", "json").json["traces"]
    assert {trace["port"]: trace["verdict"] for trace in traced} == {
        "tcp/53": "reachable",
        "udp/53": "reachable",
    }
    assert {leg["port"] for trace in traced for leg in trace["legs"]} == {"tcp/5353", "udp/5353"}
    blocked = audit("trace", *pair, "--snapshot", snapshot, "--expect", "blocked")
    assert blocked.code == 1
    assert blocked.out.count("every backend of\nthe service is reachable") == len(traced)


def test_a_central_cluster_has_one_zone_and_many_nodes(audit: Audit) -> None:
    """`(remote)` is a zone's for ovn-trace, and a node's for ofproto/trace."""
    pair = ("-src-namespace", "monitoring", "-src", "prom-1", "-dst-namespace", "staging")
    snapshot = REPOSITORY / "tests/data/ovn-23.03-central.tar.xz"
    done = audit("trace", "--snapshot", snapshot, *pair, "-dst", "stage-0", "-tcp")
    assert done.code == 0
    there, back = "source pod to destination pod", "destination pod to source pod"
    ends = {there: "from prom-1 to stage-0", back: "from stage-0 to prom-1"}
    ofproto, detrace = "ovs-appctl ofproto/trace", "ovn-detrace"
    expected = [("ovn-trace", there), ("ovn-trace", back)]
    for tool in (ofproto, detrace):
        for way in (there, back):
            expected += [(tool, way), (f"{tool} (remote)", way)]
    assert lines(done) == [f"{tool} {way} indicates success {ends[way]}" for tool, way in expected]


def test_a_pod_that_is_not_bound_on_its_node_is_found(
    audit: Audit, snapshot: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    """OVN decides to deliver, and the node does not."""
    broken = Path(shutil.copytree(snapshot, tmp_path / "broken"))
    operation = {
        "op": "update",
        "table": "Port_Binding",
        "where": [["logical_port", "==", "default_web-1"]],
        "row": {"chassis": ["set", []], "up": False},
    }
    transact(toolchain, broken / "ovn/ovn-worker/sb.db", "OVN_Southbound", operation)
    pair = ("-src-namespace", "prod", "-src", "prod-client-0", "-dst", "web-1", "-tcp")
    done = audit("trace", "--snapshot", broken, *pair)
    assert done.code == 1
    printed = lines(done)
    ends = "from prod-client-0 to web-1"
    remote = "(remote) source pod to destination pod indicates"
    assert f"ovn-trace {remote} success {ends}" in printed
    assert f"ovs-appctl ofproto/trace {remote} failure {ends}" in printed
    said = " ".join(done.out.split())
    assert "finding: the planes disagree about the request to pod default/web-1" in said
    assert "ovn-worker" in said


def test_a_zone_that_is_missing_is_no_answer_in_any_plane(
    audit: Audit, snapshot: Path, tmp_path: Path
) -> None:
    partial = Path(shutil.copytree(snapshot, tmp_path / "partial"))
    shutil.rmtree(partial / "ovn/ovn-worker2")
    (partial / "kube/networkpolicies.json").unlink()
    source = ("--snapshot", partial, "-src-namespace", "prod", "-src", "prod-client-0", "-tcp")
    done = audit("trace", *source, "-service", "web", "-o", "json")
    assert done.code == 3
    found = done.json
    assert (found["logical"], found["datapath"]) == ("untraced", "untraced")
    assert any("networkpolicies.json is not in the snapshot" in note for note in found["notes"])
    reasons = {
        plane: leg[plane]["request"]["reason"]
        for leg in found["legs"]
        if leg["dst"] == "pod default/web-2"
        for plane in ("logical", "datapath")
    }
    assert reasons == {"logical": "zone-missing", "datapath": "node-missing"}
    done = audit("trace", *source, "-dst", "web-2")
    assert (done.code, lines(done)) == (3, [])
    assert "databases of a zone on its way are missing" in " ".join(done.out.split())


def test_wrong_usage_says_what_to_type(audit: Audit, snapshot: Path) -> None:
    taken = ("trace", "--snapshot", snapshot, "-src", "web-0")
    for words, code, says in (
        ((*taken, "-dst", "web-1"), 2, "exactly one of --tcp, --udp and --sctp"),
        ((*taken, "-dst", "web-1", "-tcp", "-udp"), 2, "exactly one of --tcp"),
        (
            (*taken, "-dst", "web-1", "-service", "web", "-tcp"),
            2,
            "exactly one of --dst, --service and",
        ),
        ((*taken, "-dst", "web-9", "-tcp"), 2, "'web-9' does not exist in namespace default"),
        (
            ("trace", "-kubeconfig", "/x", "-src", "web-0", "-dst", "web-1", "-tcp"),
            4,
            "or give --snapshot",
        ),
    ):
        done = audit(*words)
        assert (done.code, done.out) == (code, ""), words
        assert says in done.err


def test_flags_for_a_live_cluster_are_taken_and_said_to_be_of_no_use(
    audit: Audit, snapshot: Path
) -> None:
    pair = ("-src", "web-0", "-dst", "client-0", "-tcp", "-skip-detrace")
    flags = ("-kubeconfig", "/root/.kube/config", "-ovn-config-namespace", "ovn-kubernetes")
    done = audit("trace", "--snapshot", snapshot, *pair, *flags)
    assert done.code == 0
    assert done.err.splitlines() == [
        "note: --kubeconfig is of no use with --snapshot",
        "note: --ovn-config-namespace is of no use with --snapshot",
    ]
