"""`audit check` on the example: what a reader expects to fail does, as SQL counts it too."""

import json
import re
from pathlib import Path

import pytest

from audit.errors import ScopeError
from audit.model.options import PACKS
from audit.scope import expectations
from tests.end_to_end.conftest import Audit, run_of

EXCEPTION = """
expectations:
- name: web
  from: {kinds: [pod], namespaces: [default]}
  to: {kinds: [pod], namespaces: [prod]}
  expect: blocked
  except:
  - {from: {selector: app=client}, reason: being moved, owner: team-web, expires: EXPIRES}
"""


@pytest.fixture(scope="module")
def run(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    flags = ("-p", "tcp/80", "-p", "udp/53", "--to-ip", "169.254.169.254", "-A", "-q")
    spaces = ("default", "prod", "deny-in", "deny-out")
    to = [flag for name in spaces for flag in ("--to-namespace", name)]
    return run_of(audit_command, tmp_path_factory.mktemp("runs"), example_snapshot, *flags, *to)


def counted(audit: Audit, run: Path, where: str) -> int:
    found = audit("query", run, f"SELECT count(*) AS n FROM cells WHERE {where}", "-o", "json")
    return int(found.json[0]["n"])


PODS = "src_kind = 'pod' AND dst_kind = 'pod'"
GETS_THROUGH = "verdict IN ('reachable', 'exits')"


@pytest.mark.parametrize(
    ("pack", "about", "wrong"),
    [
        ("default-deny", PODS, f"{GETS_THROUGH} AND blame_kind IS NULL"),
        ("namespace-isolation", f"{PODS} AND src_namespace != dst_namespace", GETS_THROUGH),
        ("only-dns-egress", "src_kind = 'pod' AND src_namespace != dst_namespace", GETS_THROUGH),
        ("no-metadata", "src_kind = 'pod' AND dst_name = '169.254.169.254'", GETS_THROUGH),
    ],
)
def test_packs_fail_for_the_cells_that_sql_finds(
    audit: Audit, run: Path, pack: str, about: str, wrong: str
) -> None:
    done = audit("check", run, "--pack", pack, "-q", "-o", "json")
    assert done.code == 1
    (found,) = done.json["expectations"]
    assert found["status"] == "violated"
    cells = counted(audit, run, about)
    assert found["violating"] == counted(audit, run, f"{about} AND {wrong}") > 0
    assert found["unproven"] == counted(
        audit, run, f"{about} AND verdict IN ('inconclusive', 'untraced')"
    )
    assert found["as_expected"] + found["violating"] + found["unproven"] == cells
    listed = [one for one in found["violations"] if one["verdict"] in ("reachable", "exits")]
    assert sum(one["cells"] for one in listed) == found["violating"]


def test_who_gets_into_an_isolated_namespace_and_by_what(audit: Audit, run: Path) -> None:
    """`deny-in` denies all, but for two policies of the example that open it on purpose."""
    (found,) = audit("check", run, "--pack", "namespace-isolation", "-q", "-o", "json").json[
        "expectations"
    ]
    passing = [one for one in found["violations"] if one["verdict"] == "reachable"]
    into = {
        (one["src"].split()[1].split("/")[0], one["by"].partition(" ingress")[0])
        for one in passing
        if one["dst"].startswith("pod deny-in/") and "own ACL" not in one["by"]
    }
    assert into == {
        ("prod", "networkpolicy deny-in/allow-from-prod-idx"),
        ("staging", "adminnetworkpolicy anp-protect-locked"),
    }
    # `deny-out` lets nobody out but the pod labelled exempt=yes; anybody gets in.
    out_of = {one["src"] for one in passing if one["src"].startswith("pod deny-out/caged")}
    assert out_of == {"pod deny-out/caged-3"}
    assert [one for one in passing if one["dst"].startswith("pod deny-out/caged")]


def test_a_baseline_is_satisfied_by_its_run_and_not_by_another(
    audit: Audit,
    audit_command: tuple[str, ...],
    tmp_path: Path,
) -> None:
    data = Path(__file__).resolve().parent.parent / "data"
    flags = ("-p", "tcp/80", "-p", "udp/53", "-q")
    before, after = (
        run_of(audit_command, tmp_path / "runs", data / f"upgrade-{name}.tar.xz", *flags)
        for name in ("before", "after")
    )
    made = audit("check", before, "--baseline", "-q")
    assert made.code == 0
    file = tmp_path / "baseline.yaml"
    file.write_text(made.out)
    own = audit("check", before, "-f", file, "-q", "-o", "json")
    assert own.code == 0, own.out
    about = sum(one["as_expected"] for one in own.json["expectations"])
    assert about == own.json["counts"]["proven"]  # every pod here is its own workload
    other = audit("check", after, "-f", file, "-q", "-o", "json")
    assert other.code == 1
    changed = audit("diff", before, after, "-o", "json", "-q").json
    named = {  # the baseline is about pods by name where a namespace's differ: not db-4
        (path["src"], path["dst"])
        for path in changed["paths"]
        if "db-4" not in path["src"] + path["dst"]
    }
    violated = {
        (violation["src"], violation["dst"])
        for one in other.json["expectations"]
        for violation in one["violations"]
    }
    assert named <= violated
    assert audit("check", before, "--baseline", "--pack", "default-deny").code != 0


@pytest.mark.parametrize("expires", ["2099-01-01", "2020-01-01"])
def test_exceptions_end(audit: Audit, run: Path, expires: str) -> None:
    exempt = expires == "2099-01-01"
    file = audit.directory / "e.yaml"
    file.write_text(EXCEPTION.replace("EXPIRES", expires))
    (found,) = audit("check", run, "-f", file, "-q", "-o", "json").json["expectations"]
    about = f"src_namespace = 'default' AND dst_namespace = 'prod' AND {PODS}"
    counts = [found[k] for k in ("as_expected", "violating", "unproven", "exempt")]
    assert sum(counts) == counted(audit, run, about)
    clients = counted(audit, run, f"{about} AND src_name LIKE 'client-%'")
    assert found["exempt"] == (clients if exempt else 0)
    assert clients > 0
    assert [text.partition(":")[0] for text in found["expired"]] == (
        [] if exempt else ["an exception expired on 2020-01-01 and is ignored"]
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("expectations:\n- {name: a, expect: open}\n", "line 2, column 21: expected one of reac"),
        ("expectations:\n- {name: a, expect: blocked, form: {}}\n", "line 2, column 30: unknown"),
        ("expectations:\n- expect: blocked\n", "line 2, column 3: an expectation needs 'name'"),
        ("expectations:\n- name: a\n  expect: any\n", "line 2, column 3: expect: any is met"),
        (
            "expectations:\n- name: a\n  expect: blocked\n  ports: [http]\n",
            "line 4, column 11: 'http' is no port",
        ),
        ("expectations: [\n", "not YAML"),
        ("", "is empty"),
    ],
)
def test_mistakes_are_named_by_line_and_column(text: str, said: str) -> None:
    with pytest.raises(ScopeError, match=re.escape(said)) as raised:
        expectations.parse(text, "e.yaml")
    assert str(raised.value).startswith("e.yaml")


def test_reports_in_several_formats_at_once(audit: Audit, run: Path) -> None:
    out = audit.directory / "out"
    forms = ("json", "markdown", "junit", "sarif", "prometheus")
    flags = [flag for form in forms for flag in ("-o", form)]
    done = audit("report", run, *flags, "--out", out)
    assert done.code == 0, done.err
    paths = [Path(line) for line in done.out.splitlines()]
    assert [path.parent for path in paths] == [out] * len(forms)
    assert json.loads(paths[0].read_text())["counts"]["cells"] == counted(audit, run, "true")
    printed = audit("report", run, "-o", "markdown", "--stdout")
    assert printed.out == paths[1].read_text()
    assert audit("report", run, "-o", "markdown", "-o", "json", "--stdout").code == 2


@pytest.mark.ovn
def test_a_run_is_checked_as_soon_as_it_is_there(audit: Audit, example_snapshot: Path) -> None:
    flags = ("-n", "shop", "-q", "--pack", "default-deny", "--pack", "cis-kubernetes")
    done = audit("run", "--snapshot", example_snapshot, *flags, "-o", "json")
    assert done.code == 1
    statuses = {check["name"]: check["status"] for check in done.json["expectations"]}
    assert statuses == {
        "default-deny": "satisfied",
        "cis-5.3.2": "satisfied",
        "cis-5.3.2-egress": "empty",
    }
    page = audit.directory / done.json["report"]
    assert "2 of 3 expectations pass" in page.read_text(encoding="utf-8")
    # The same, of a run that ended before it had its page; what is checked is named anew.
    page.unlink()
    again = audit("run", "--resume", done.json["path"], "-q", "--pack", "default-deny")
    assert "satisfied default-deny: " in again.out
    assert "1 of 1 expectations are satisfied" in again.out
    assert "1 of 1 expectation passes" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("pack", PACKS)
def test_a_run_with_all_that_a_pack_needs_leaves_nothing_empty_but_what_wants_a_label(
    audit: Audit, example_snapshot: Path, pack: str
) -> None:
    packed = expectations.pack(pack)
    asked = ("audit run " + flags for e in packed for flags in re.findall(r"--[^,;]+", e.needs))
    flags = {flag for words in asked for flag in re.findall(r"(--\S+) (\S+)", words)}
    words = [word.strip("'") for flag in sorted(flags) for word in flag]
    command = ("run", "--snapshot", example_snapshot, "--planes", "intent", "-q", "-o", "json")
    checked = audit(*command, *words, "--pack", pack).json["expectations"]
    empty = {check["name"] for check in checked if check["status"] == "empty"}
    assert empty == {e.name for e in packed if "label the namespaces" in e.needs}


def test_what_compares_two_runs_is_not_checked(audit: Audit, example_snapshot: Path) -> None:
    flags = ("--recompile", "--pack", "default-deny")
    done = audit("run", "--snapshot", example_snapshot, *flags)
    assert (done.code, "--expectations and --pack are about one run" in done.err) == (2, True)
