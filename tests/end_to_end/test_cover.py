"""Few traces decide as many: `--cover legs` says what `--cover exhaustive` says, cell by cell."""

import itertools
import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from audit.cli import progress
from audit.commands import run as command
from audit.cover.acls import Vector, ZoneAcls
from audit.cover.matches import AddressIn
from audit.errors import ExitCode
from audit.model.endpoints import EndpointKind
from audit.model.options import Covering, PlaneName, Workers
from audit.replay.toolchain import Toolchain
from audit.scope import scope
from audit.trace.tracer import LogicalTracer
from audit.tracing import plan as planning
from audit.tracing.options import Options
from audit.tracing.plan import Planned
from bench import generate
from bench.cluster import Size
from tests.archives import extract
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.ovn

DATA = REPOSITORY / "tests" / "data"
EXAMPLE = REPOSITORY / "examples" / "interconnect.tar.gz"

COORDINATES = (
    "src_kind, src_namespace, src_name, src_node, dst_kind, dst_namespace, dst_name, dst_node, "
    "family, protocol, port"
)
SAID = (
    "verdict, reply, logical, reason, "
    "blame_kind, blame_namespace, blame_name, blame_direction, blame_rule"
)

RECORDED: Mapping[str, tuple[Path, Mapping[str, Any]]] = {
    "ovn-25.03-interconnect": (EXAMPLE, {"ports": ("tcp/8080", "udp/53")}),
    "ovn-23.03-central": (DATA / "ovn-23.03-central.tar.xz", {"ports": ("tcp/8080",)}),
    "upgrade-after": (DATA / "upgrade-after.tar.xz", {"ports": ("tcp/8080",)}),
    "multicast": (DATA / "cases" / "multicast.tar.xz", {"ports": ("tcp/80",)}),
    "services-egressip": (DATA / "services-egressip.tar.xz", {"ports": ("tcp/8080", "tcp/80")}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run on disk."""

    path: Path
    said: Mapping[str, Any]
    code: ExitCode

    @property
    def cells(self) -> str:
        """The run's cells, as DuckDB reads them."""
        return f"read_parquet('{self.path}/cells/*.parquet')"

    @property
    def traces(self) -> int:
        """How many traces are on disk."""
        return int(self.ask(f"SELECT count(*) FROM '{self.path}/traces/*.parquet'")[0][0])

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return duckdb.execute(sql).fetchall()


def options(snapshot: Path, covering: Covering, **flags: Any) -> Options:
    return Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=snapshot,
        scope=scope.from_flags(**{"family": "ip4", **flags}),
        workers=Workers.INLINE,
        cover=covering,
        verify=25,
    )


def run(snapshot: Path, root: Path, covering: Covering = Covering.LEGS, **flags: Any) -> Ran:
    done = command.run(options(snapshot, covering, **flags), root, progress.Silent())
    said = json.loads((done.path / "run.json").read_text())
    return Ran(path=done.path, said=said, code=done.exit_code)


def differences(one: Ran, other: Ran, among: str = "true") -> list[tuple[Any, ...]]:
    """Return the cells that two runs do not say the same of, or that one of them lacks."""
    first, second = (
        f"(SELECT {COORDINATES}, {SAID} FROM {ran.cells} WHERE {among})" for ran in (one, other)
    )
    return one.ask(f"({first} EXCEPT ALL {second}) UNION ALL ({second} EXCEPT ALL {first})")


def cells_of(ran: Ran) -> int:
    return int(ran.ask(f"SELECT count(*) FROM {ran.cells}")[0][0])


def all_agree(checked: Mapping[str, Any]) -> bool:
    return bool(checked["agree"] == checked["of"] > 0 and not checked["disagreements"])


def unpacked(snapshot: Path, target: Path) -> Path:
    with tarfile.open(snapshot) as archive:
        extract(archive, target)
    return target


def changed(
    programs: Toolchain, snapshot: Path, where: Sequence[Any], row: Mapping[str, Any]
) -> int:
    """Update ACLs in every zone's northbound database; return in how many zones there were any."""
    update = {"op": "update", "table": "ACL", "where": [list(where)], "row": dict(row)}
    zones = 0
    for database in sorted(snapshot.glob("ovn/*/nb.db")):
        transaction = json.dumps(["OVN_Northbound", update])
        done = subprocess.run(
            programs.argv("ovsdb-tool", "transact", str(database), transaction),
            capture_output=True,
            text=True,
            check=True,
        )
        zones += int(json.loads(done.stdout)[0]["count"] > 0)
    return zones


@pytest.fixture(scope="module")
def exhaustive(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return the whole example, traced cell by cell."""
    snapshot, flags = RECORDED["ovn-25.03-interconnect"]
    return run(snapshot, tmp_path_factory.mktemp("exhaustive"), Covering.EXHAUSTIVE, **flags)


class Unforeseen(progress.Silent):
    """Counts the traces that only other traces led to."""

    count = 0

    def expect(self, steps: int) -> None:
        self.count += steps


def test_what_traces_lead_to_in_other_zones_is_traced_before_they_are_gone_back_to(
    tmp_path: Path,
) -> None:
    unforeseen = Unforeseen()
    asked = options(EXAMPLE, Covering.LEGS, ports=("tcp/8080", "udp/53"))
    done = command.run(asked, tmp_path, unforeseen)
    ran = Ran(path=done.path, said=done.manifest, code=done.exit_code)
    onward = f"SELECT count(*) FROM '{ran.path}/traces/*.parquet' WHERE len(next_ids) > 0"
    assert ran.ask(onward)[0][0] > 0
    assert unforeseen.count == 0


@pytest.mark.parametrize("name", RECORDED)
def test_legs_say_what_tracing_every_cell_of_a_recorded_cluster_says(
    name: str, exhaustive: Ran, tmp_path: Path
) -> None:
    snapshot, flags = RECORDED[name]
    everything = exhaustive
    if snapshot != EXAMPLE:
        everything = run(snapshot, tmp_path / "exhaustive", Covering.EXHAUSTIVE, **flags)
    few = run(snapshot, tmp_path / "legs", **flags)
    assert cells_of(few) > 400
    assert differences(few, everything) == []
    assert few.said["cover"] == "legs"
    assert everything.said["cover"] == "exhaustive"
    assert few.code is everything.code
    assert everything.said["prediction"] is None
    assert few.traces < everything.traces / 2
    assert all_agree(few.said["prediction"])
    assert all_agree(few.said["verify"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Random:
    """A made-up cluster, compiled by the real ovn-northd."""

    snapshot: Path
    flags: Mapping[str, Any]


def random_cluster(seed: int, target: Path, programs: Toolchain) -> Random:
    size = Size(pods=14, nodes=3, namespaces=5, policies=12 + 4 * (seed % 3), seed=seed)
    generate.generate(target, size, programs)
    return Random(snapshot=target, flags={"ports": ("tcp/443", "udp/53")})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_legs_say_what_tracing_every_cell_of_a_random_cluster_says(
    seed: int, toolchain: Toolchain, tmp_path: Path
) -> None:
    made = random_cluster(seed, tmp_path / "snapshot", toolchain)
    everything = run(made.snapshot, tmp_path / "exhaustive", Covering.EXHAUSTIVE, **made.flags)
    few = run(made.snapshot, tmp_path / "legs", **made.flags)
    assert differences(few, everything) == []
    assert all_agree(few.said["prediction"])
    assert all_agree(few.said["verify"])
    verdicts = {v for (v,) in few.ask(f"SELECT DISTINCT verdict FROM {few.cells}")}
    assert verdicts >= {"reachable", "blocked"}


def test_legs_that_miss_one_address_set_are_found_out(
    exhaustive: Ran, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, flags = RECORDED["ovn-25.03-interconnect"]
    ((_, match),) = clients_of_web(toolchain, unpacked(snapshot, tmp_path / "snapshot"))
    (missed,) = re.findall(r"ip4\.src == {\$(a\d+)}", match)

    def blind(self: ZoneAcls, literal: AddressIn) -> Vector:
        seen = sighted(self, literal)
        return np.zeros_like(seen) if missed in literal.sets else seen

    sighted: Callable[[ZoneAcls, AddressIn], Vector] = ZoneAcls.address_vector
    monkeypatch.setattr(ZoneAcls, "address_vector", blind)
    few = run(snapshot, tmp_path / "runs", **flags)
    assert differences(few, exhaustive) != []
    assert few.code is ExitCode.FINDINGS
    checked = [few.said["prediction"], few.said["verify"]]
    assert any(one["agree"] < one["of"] and one["disagreements"] for one in checked)


def test_pairs_of_legs_are_traced_and_say_the_same(exhaustive: Ran, tmp_path: Path) -> None:
    snapshot, flags = RECORDED["ovn-25.03-interconnect"]
    pairs = run(snapshot, tmp_path / "pairs", Covering.PAIRS, **flags)
    few = run(snapshot, tmp_path / "legs", **flags)
    assert pairs.said["cover"] == "pairs"
    assert few.traces < pairs.traces < exhaustive.traces
    assert differences(pairs, exhaustive) == []
    assert all_agree(pairs.said["prediction"])


def test_a_range_of_ports_is_what_each_port_in_it_is(tmp_path: Path) -> None:
    """Ports on both sides of what ACLs name, and some at random, are each traced as they are."""
    scoped: Mapping[str, Any] = {
        "from_namespaces": ("prod", "shop", "infra"),
        "to_namespaces": ("default", "shop"),
    }
    whole = run(EXAMPLE, tmp_path / "whole", ports=("tcp/all", "udp/all"), **scoped)
    ranges = whole.ask(f"SELECT DISTINCT protocol, port, port_end FROM {whole.cells}")
    for protocol in ("tcp", "udp"):
        own = sorted((first, last) for proto, first, last in ranges if proto == protocol)
        assert [own[0][0], own[-1][1]] == [0, 65535]
        assert all(one[1] + 1 == two[0] for one, two in itertools.pairwise(own))
    draw = np.random.default_rng(7)
    tried = {f"{proto}/{port}" for proto, *ends in ranges for port in ends if port}
    tried |= {f"tcp/{port}" for port in draw.integers(1, 65536, 6)}
    single = run(
        EXAMPLE, tmp_path / "single", Covering.EXHAUSTIVE, ports=tuple(sorted(tried)), **scoped
    )
    ends = COORDINATES.removesuffix(", protocol, port")
    compared, wrong = whole.ask(
        f"SELECT count(*), count(*) FILTER ((r.verdict, r.reply, r.blame_name, r.blame_rule) "
        f"IS DISTINCT FROM (s.verdict, s.reply, s.blame_name, s.blame_rule)) "
        f"FROM {single.cells} s JOIN {whole.cells} r USING ({ends}, protocol) "
        f"WHERE s.port BETWEEN r.port AND r.port_end"
    )[0]
    assert compared == cells_of(single) > 3_000
    assert wrong == 0
    verdicts = {v for (v,) in whole.ask(f"SELECT DISTINCT verdict FROM {whole.cells}")}
    assert verdicts >= {"reachable", "blocked"}


def test_what_the_databases_do_not_agree_on_is_traced_one_by_one_and_said(
    exhaustive: Ran, toolchain: Toolchain, tmp_path: Path
) -> None:
    snapshot, flags = RECORDED["ovn-25.03-interconnect"]
    copy = unpacked(snapshot, tmp_path / "snapshot")
    ((_, match),) = clients_of_web(toolchain, copy)
    where = ("match", "==", match)
    assert changed(toolchain, copy, where, {"action": "drop"}) == 3
    few = run(copy, tmp_path / "runs", **flags)
    assert few.code is ExitCode.FINDINGS
    [finding] = few.said["findings"]
    assert finding["kind"] == "southbound-differs"
    assert len({text for text in finding["subjects"] if "default/web-allow-prod" in text}) == 3
    [note, *_] = [note for note in few.said["notes"] if note["code"] == "southbound-differs"]
    assert "pod default/web-0" in note["subjects"]
    verdicts = f"SELECT {COORDINATES}, verdict, reply FROM"
    assert few.ask(f"({verdicts} {few.cells}) EXCEPT ALL ({verdicts} {exhaustive.cells})") == []


def clients_of_web(programs: Toolchain, snapshot: Path) -> list[tuple[str, str]]:
    """Return the owner and the match of the ACL that lets clients in to the web servers."""
    query = {
        "op": "select",
        "table": "ACL",
        "where": [["action", "==", "allow-related"], ["direction", "==", "to-lport"]],
        "columns": ["external_ids", "match"],
    }
    done = subprocess.run(
        programs.argv(
            "ovsdb-tool",
            "query",
            str(min(snapshot.glob("ovn/*/nb.db"))),
            json.dumps(["OVN_Northbound", query]),
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    found = set()
    for row in json.loads(done.stdout)[0]["rows"]:
        identity = dict(row["external_ids"][1]).get("k8s.ovn.org/id", "")
        if "NetworkPolicy:default:web-allow-prod:Ingress" in identity:
            found.add((identity, row["match"]))
    return sorted(found)


def test_the_cells_of_an_acl_that_is_not_understood_are_traced_one_by_one(
    exhaustive: Ran, toolchain: Toolchain, tmp_path: Path
) -> None:
    copy = unpacked(EXAMPLE, tmp_path / "snapshot")
    flags: Mapping[str, Any] = {"ports": ("tcp/8080",)}
    ((_, match),) = clients_of_web(toolchain, copy)
    strange = f"{match} && reg0[1] == 1"
    assert changed(toolchain, copy, ("match", "==", match), {"match": strange}) == 3
    with ExitStack() as stack:
        planned = planning.plan(options(copy, Covering.LEGS, **flags), progress.Silent(), stack)
    (note,) = [note for note in planned.notes if note.code == "opaque-matches"]
    assert repr(strange) in note.text
    assert note.subjects
    few = run(copy, tmp_path / "runs", **flags)
    assert cells_of(few) > 400
    # The southbound is as it was: so are the verdicts, and no northbound ACL is to blame.
    says = f"SELECT {COORDINATES}, verdict, reply, logical FROM"
    same = f"({says} {few.cells}) EXCEPT ALL ({says} {exhaustive.cells})"
    assert few.ask(same) == []
    whole = run(copy, tmp_path / "whole", ports=("tcp/all",), to_namespaces=("default",))
    doubt = f"SELECT DISTINCT reason FROM {whole.cells} WHERE port != port_end"
    assert whole.ask(f"{doubt} AND verdict = 'reachable'") == []
    assert ("ports-not-told-apart",) in whole.ask(doubt)


def planned(snapshot: Path, stack: ExitStack) -> Planned:
    asked = options(snapshot, Covering.LEGS, ports=("tcp/80",))
    return planning.plan(asked, progress.Silent(), stack)


def test_multicast_acls_cost_no_requests() -> None:
    """The case is the example with the ACLs that OpenShift has on every switch."""
    with ExitStack() as stack:
        case, example = (
            planned(snapshot, stack) for snapshot in (RECORDED["multicast"][0], EXAMPLE)
        )
    assert not [note for note in case.notes if note.code == "opaque-matches"]
    between_pods = np.array(
        [e.kind is EndpointKind.POD and not e.host_network for e in case.matrix.endpoints]
    )
    asked = between_pods[case.matrix.src] & between_pods[case.matrix.dst]
    (plan,) = case.legs
    assert asked.sum() > 1000
    assert plan.composed[asked].mean() >= 0.95
    assert len(case.cover.tasks) <= 1.1 * len(example.cover.tasks)
    assert (plan.composed == example.legs[0].composed).all()


def test_a_prediction_traces_nothing_and_is_what_the_traces_say(
    exhaustive: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a prediction needs no engine")

    monkeypatch.setattr(LogicalTracer, "run", refuse)
    snapshot, flags = RECORDED["ovn-25.03-interconnect"]
    guess = run(snapshot, tmp_path, Covering.PREDICT, **flags)
    assert guess.said["cover"] == "predict"
    assert guess.code is ExitCode.CLEAN
    assert guess.traces == 0
    own = f"SELECT DISTINCT verdict, reason FROM {guess.cells} WHERE predicted IS NOT NULL"
    assert guess.ask(own) == [("untraced", "only-predicted")]
    pods = f"SELECT DISTINCT reason FROM {guess.cells} WHERE dst_kind = 'pod' AND predicted IS NULL"
    assert {reason for (reason,) in guess.ask(pods)} <= {"host-to-host", "only-predicted"}
    composed, wrong = guess.ask(
        f"SELECT count(*), count(*) FILTER (guess.predicted != traced.verdict) "
        f"FROM {guess.cells} guess JOIN {exhaustive.cells} traced USING ({COORDINATES}) "
        f"WHERE guess.predicted IS NOT NULL"
    )[0]
    assert composed > 500
    assert wrong == 0
