"""Real connections from pods: by exec over a real API, through a real network namespace."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from audit.model.verdicts import VERDICTS
from tests.end_to_end.conftest import Audit, Called, run_of
from tests.end_to_end.pods import Pods
from tests.report.conftest import data_of, tables_of

pytestmark = pytest.mark.ovn

WEB, BACK, DB = ("default", "web-0"), ("shop", "back-0"), ("shop", "db-0")


@pytest.fixture(scope="module")
def audited(
    audit_command: tuple[str, ...], example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a run from everywhere to three pods."""
    flags = ["-q", "--workers", "inline"]
    for pod in (WEB, BACK, DB):
        flags += ["--to", "/".join(pod)]
    for port in ("tcp/80", "tcp/5432", "tcp/8080", "udp/53"):
        flags += ["-p", port]
    return run_of(audit_command, tmp_path_factory.mktemp("runs"), example_snapshot, *flags)


@pytest.fixture(scope="module")
def addresses(audited: Path) -> dict[tuple[str, str], tuple[str, dict[str, str]]]:
    """Return the address and the labels of each pod of the run."""
    rows = pq.read_table(audited / "endpoints.parquet").to_pylist()
    return {
        (row["namespace"], row["name"]): (row["addresses"][0], dict(row["labels"]))
        for row in rows
        if row["kind"] == "pod"
    }


@pytest.fixture
def pods(addresses: dict[tuple[str, str], tuple[str, dict[str, str]]]) -> Iterator[Pods]:
    """Serve the run's pods: web-0 listens on 80, back-0 on nothing, and db-0 gets no packets."""
    served = Pods(images={"debian": ["bash"], "distroless": [], "python": ["python3"]})
    for (namespace, name), (address, labels) in addresses.items():
        image = "distroless" if namespace == "prod" else "debian"
        served.add(namespace, name, address, image, labels=labels)
    web, back, db = (addresses[pod][0] for pod in (WEB, BACK, DB))
    vanish = ["192.0.2.1", db]
    with served.serving(listen=[(web, 80)], addresses=[web, back], vanish=vanish):
        yield served


@pytest.fixture
def run(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "runs" / "probed"))


def probe(audit: Audit, pods: Pods, run: Path, *words: str) -> Called:
    flags = ("--kubeconfig", pods.kubeconfig(run.parent / "kubeconfig"), "--timeout", "1", "-q")
    return audit("probe", run, *flags, "-o", "json", *words)


def test_what_connections_say_is_a_plane_of_the_run(audit: Audit, pods: Pods, run: Path) -> None:
    asked = {
        ("default/client-1", "default/web-0", "80"): ("connected", "reachable", "blocked", True),
        ("prod/prod-client-2", "default/web-0", "80"): ("not-sent", "untraced", "reachable", None),
        ("shop/back-0", "shop/db-0", "5432"): ("unanswered", "inconclusive", "reachable", None),
        ("shop/front-0", "shop/back-0", "tcp/8080"): ("refused", "reachable", "blocked", True),
        ("staging/stage-2", "shop/db-0", "5432"): ("unanswered", "inconclusive", "blocked", None),
    }
    done = probe(audit, pods, run, *(word for pair in asked for word in ("--pair", *pair)))
    assert done.code == 1, done.err
    said = [
        (row["response"], row["verdict"], row["expected"], row["drift"])
        for row in done.json["probes"]
    ]
    assert said == list(asked.values())
    assert pods.most_at_once <= 8

    manifest = json.loads((run / "run.json").read_text())
    assert manifest["probe"]["connections"] == 5
    assert (manifest["probe"]["agree"], manifest["probe"]["of"]) == (0, 2)
    kinds = {f["kind"]: f["severity"] for f in manifest["findings"]}
    assert (kinds["probe-drift"], kinds["probe-unanswered"]) == ("error", "warning")
    assert audit("verify", run).code == 0
    tables = tables_of(data_of((run / "report.html").read_text()))
    assert tables["planes"][-1] == "probe"
    seen = {VERDICTS[state[8]] for state in tables["states"] if state[8] < len(VERDICTS)}
    assert seen == {"reachable", "inconclusive", "untraced"}
    sql = "SELECT src_name, response FROM probes WHERE drift ORDER BY ALL"
    rows = audit("query", run, sql, "-o", "csv").out.split()
    assert rows == ["src_name,response", "client-1,connected", "front-0,refused"]

    explained = " ".join(
        audit("explain", run, "default/client-1", "default/web-0", "80").out.split()
    )
    assert "probe reachable (drift: logical and probe disagree)" in explained
    assert "Probe connected by bash" in explained
    fields = audit("explain", run, "shop/back-0", "shop/db-0", "5432", "-o", "json").json
    assert (fields["probe"], fields["connection"]["response"]) == ("inconclusive", "unanswered")


def test_a_later_probe_of_a_cell_replaces_what_an_earlier_said(
    audit: Audit, pods: Pods, run: Path
) -> None:
    pair = ("--pair", "prod/prod-client-2", "default/web-0", "80")
    assert probe(audit, pods, run, *pair).code == 3
    done = probe(audit, pods, run, *pair, "--image", "python")
    assert (done.code, done.json["probes"][0]["client"]) == (0, "python3"), done.err
    [container] = pods.pods["prod", "prod-client-2"]["spec"]["ephemeralContainers"]
    assert container["securityContext"]["runAsNonRoot"]
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["probe"]["responses"] == {"connected": 1}
    assert audit("query", run, "SELECT count(*) AS n FROM probes", "-o", "csv").out == "n\n2\n"


def test_what_answers_for_everyone_proves_nothing(
    audit: Audit,
    addresses: dict[tuple[str, str], tuple[str, dict[str, str]]],
    run: Path,
) -> None:
    """As a proxy in the pod does: here the address that nobody has listens too."""
    pods = Pods(images={"debian": ["bash"]})
    for namespace, name in (WEB, ("default", "client-1")):
        address, labels = addresses[namespace, name]
        pods.add(namespace, name, address, "debian", labels=labels)
    web = addresses[WEB][0]
    everyone = [(web, 80), ("192.0.2.1", 80)]
    with pods.serving(listen=everyone, addresses=[web, "192.0.2.1"], vanish=[]):
        done = probe(audit, pods, run, "--pair", "default/client-1", "default/web-0", "80")
    assert done.code == 0
    [row] = done.json["probes"]
    assert (row["response"], row["verdict"], row["drift"]) == ("connected", "inconclusive", None)


def test_pods_that_are_not_those_of_the_run_are_not_probed(
    audit: Audit, pods: Pods, run: Path
) -> None:
    pods.pods["shop", "front-0"]["metadata"]["labels"] = {"app": "other"}
    pods.pods["shop", "front-1"]["status"]["podIPs"] = [{"ip": "10.1.2.3"}]
    pods.pods["shop", "db-0"]["metadata"]["deletionTimestamp"] = "now"
    del pods.pods["default", "client-0"]
    pods.forbidden.add("monitoring")
    sources = ("shop/front-0", "shop/front-1", "default/client-0", "monitoring/prom-0")
    pairs = [word for src in sources for word in ("--pair", src, "default/web-0", "80")]
    done = probe(audit, pods, run, *pairs, "--pair", "shop/back-0", "shop/db-0", "5432")
    assert done.code == 3
    assert {row["response"] for row in done.json["probes"]} == {"not-sent"}
    details = " ".join(row["detail"] for row in done.json["probes"])
    for why in ("other labels", "another address", "is gone", "does not run", "exec is forbidden"):
        assert why in details
    assert {pod for pod, *_ in pods.commands} == set()


def test_a_sample_is_of_both_kinds_and_none_of_the_outside(
    audit: Audit, pods: Pods, run: Path
) -> None:
    done = probe(audit, pods, run, "--sample", "6")
    expected = [row["expected"] in ("reachable", "exits") for row in done.json["probes"]]
    assert (len(expected), sum(expected)) == (6, 3)
    assert len({row["cell"] for row in done.json["probes"]}) == 6


def test_a_sample_is_drawn_where_it_may_be(audit: Audit, pods: Pods, run: Path) -> None:
    """All of a namespace: a cell that leads out of it, or into it, would be among them."""
    sql = """SELECT count(*) AS n FROM cells WHERE src_kind = 'pod' AND protocol = 'tcp' AND verdict
        IN ('reachable', 'blocked', 'unroutable') AND src_namespace || dst_namespace = 'shopshop'"""
    number = int(audit("query", run, sql, "-o", "csv").out.split()[1])
    done = probe(audit, pods, run, "--sample", "500", "-n", "shop")
    assert len(done.json["probes"]) == number > 0
    of_shop = {name for namespace, name in pods.pods if namespace == "shop"}
    assert {pod for pod, *_ in pods.commands} == of_shop


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "say what to probe"),
        (("--sample", "3", "-n", "shopp"), "no endpoint in namespace 'shopp'"),
        (("--pair", "shop/front-0", "default/web-0", "80", "-n", "shop"), "a --pair names its own"),
        (("--pair", "shop/front-0", "default/web-0", "udp/53"), "TCP connection"),
        (("--pair", "shop/front-0", "default/web-0", "tcp/81"), "has no cell"),
        (("--pair", "shop/nobody", "default/web-0", "80"), "has no endpoint shop/nobody"),
    ],
)
def test_what_cannot_be_probed_is_said_before_anything_is_tried(
    audit: Audit, pods: Pods, run: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = probe(audit, pods, run, *words)
    assert done.code == 2
    assert sentence in done.err
    assert not pods.commands


def test_a_signed_run_is_not_added_to(audit: Audit, pods: Pods, run: Path) -> None:
    (run / "run.json.sig").write_bytes(b"x")
    done = probe(audit, pods, run, "--sample", "1")
    assert done.code == 4
    assert "is signed" in done.err
    assert not pods.commands


def test_a_run_that_is_kept_by_class_is_probed_as_one_of_cells(
    audit: Audit, pods: Pods, audited: Path, example_snapshot: Path, tmp_path: Path
) -> None:
    scope = json.loads((audited / "run.json").read_text())["scope"]
    (tmp_path / "scope.json").write_text(json.dumps(scope))
    done = audit(
        *("run", "--snapshot", example_snapshot, "--planes", "intent", "-q", "-o", "json"),
        *("--scope-file", "scope.json"),
    )
    assert done.code == 0, done.err
    run = tmp_path / done.json["path"]
    assert [*run.glob("blocks/*.parquet")] != []
    told = probe(audit, pods, run, "--pair", "default/client-1", "default/web-0", "80")
    assert told.code == 1, told.err
    [row] = told.json["probes"]
    expected = {"response": "connected", "verdict": "reachable", "expected": "blocked"}
    assert {name: row[name] for name in expected} == expected
    assert audit("verify", run).code == 0
    sql = (
        "SELECT intent, p.verdict, p.drift FROM probes p JOIN cells c USING (src_namespace, "
        "src_name, dst_namespace, dst_name, protocol, port)"
    )
    answer = audit("query", run, sql, "-o", "csv").out.split()
    assert answer == ["intent,verdict,drift", "blocked,reachable,True"]
    fields = audit("explain", run, "default/client-1", "default/web-0", "80", "-o", "json").json
    assert (fields["verdict"], fields["probe"]) == ("blocked", "reachable")
    tables = tables_of(data_of((run / "report.html").read_text()))
    assert tables["planes"] == ["intent", "probe"]
