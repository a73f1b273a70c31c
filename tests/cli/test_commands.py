"""Each command: its result on stdout, its formats, its exit code."""

import csv
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from audit.cli import query as queries
from audit.cli import run as running
from audit.cli import say
from audit.cli.main import COMMANDS, main
from audit.cli.main import audit as commands
from audit.errors import ExitCode, OutputError
from tests.cli.conftest import Inside
from tests.end_to_end.conftest import Audit

SQL = "SELECT src_name, port, blame_rule FROM cells ORDER BY ALL LIMIT 3"


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help(inside: Inside, name: str | None) -> None:
    done = inside(*([name] if name else []), "--help")
    assert (done.code, done.err) == (0, "")
    assert "Example" in done.out
    assert "  audit " in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_begins_with(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    assert command.get_short_help_str(limit=1000) == COMMANDS[name]


def test_the_version(audit: Audit) -> None:
    assert audit("--version").out.startswith("audit, version ")


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_what_needs_no_command_loads_none(word: str) -> None:
    """Each of these libraries takes longer to load than all that is said here."""
    code = (
        "import atexit, os, sys; from audit.__main__ import main; "
        "heavy = {'numpy', 'pyarrow', 'duckdb', 'ray', 'kubernetes', 'rich', 'audit.commands'}; "
        "atexit.register(lambda: os.write(2, ' '.join(heavy & set(sys.modules)).encode())); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, word], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(("audit, version ", "Usage: "))
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words",
    [(), ("nonsense",), ("query", "x"), ("explain", "x", "a"), ("run", "-o", "x")],
)
def test_wrong_usage(audit: Audit, words: tuple[str, ...]) -> None:
    assert audit(*words).code == 2


@pytest.mark.ovn
def test_run_prints_json_alone_and_says_the_rest_on_stderr(
    audit: Audit, example_snapshot: Path
) -> None:
    command = ("run", "--snapshot", example_snapshot, "--out", "runs", "-p", "tcp/80")
    scope = ("--from-namespace", "prod", "--to-namespace", "default")
    done = audit(*command, *scope, "-o", "json")
    assert done.code == 0
    assert done.json["counts"]["cells"] > 0
    assert (audit.directory / done.json["report"]).exists()
    assert "tracing (" in done.err
    quiet = audit(*command, *scope, "-q")
    assert quiet.err == ""
    assert Path(quiet.out.splitlines()[-1]).exists()


@pytest.mark.ovn
def test_plan_traces_nothing(audit: Audit, example_snapshot: Path) -> None:
    flags = ("--snapshot", example_snapshot, "-n", "default", "-p", "tcp/80")
    plan = audit("plan", *flags, "-o", "json").json
    assert plan["requests"] == sum(plan["zones"].values())
    assert plan["cells"] >= plan["requests"] > 0
    text = audit("plan", *flags)
    assert f"{plan['cells']:,}" in text.out
    assert plan["in_all"] in text.out
    assert isinstance(plan["estimate_s"], float)
    assert not list(audit.directory.iterdir())


@pytest.mark.ovn
def test_plan_estimates_the_traces_of_a_run(audit: Audit, example_snapshot: Path) -> None:
    plan = audit("plan", "--snapshot", example_snapshot, "-o", "json").json
    run = audit("run", "--snapshot", example_snapshot, "-o", "json", "-q").json
    assert plan["estimate_traces"] == pytest.approx(run["counts"]["traces"], rel=0.1)
    assert f"about {round(plan['estimate_traces'], -1)} traces in all" in plan["in_all"]


@pytest.mark.ovn
def test_plan_says_of_other_planes_what_it_can(audit: Audit, example_snapshot: Path) -> None:
    plan = functools.partial(audit, "plan", "--snapshot", example_snapshot)
    switches = plan("--planes", "logical,datapath", "-o", "json").json
    assert (switches["estimate_traces"], switches["estimate_s"]) == (None, None)
    assert "cannot be estimated with the datapath plane" in switches["in_all"]
    objects = plan("--planes", "intent", "--ovn-prefix", "/nowhere", "-o", "json").json
    assert (objects["estimate_traces"], objects["requests"], objects["engine"]) == (0, 0, None)
    assert objects["cells"] == switches["cells"]
    services = plan("-n", "shop", "--to-service", "shop/back")
    assert "at least" in services.out


@pytest.mark.ovn
def test_query_in_every_format(audit: Audit, small_run: Path) -> None:
    rows = audit("query", small_run, SQL, "-o", "json").json
    assert [list(row) for row in rows] == [["src_name", "port", "blame_rule"]] * 3
    as_csv = list(csv.DictReader(audit("query", small_run, SQL, "-o", "csv").out.splitlines()))
    none = {None: ""}
    assert [[*row.values()] for row in as_csv] == [
        [str(none.get(value, value)) for value in row.values()] for row in rows
    ]
    table = audit("query", small_run, SQL).out.splitlines()
    assert table[0].split() == ["src_name", "port", "blame_rule"]
    assert [line.split()[0] for line in table[1:]] == [row["src_name"] for row in rows]
    wide = audit("query", small_run, "SELECT * FROM cells LIMIT 2").out.splitlines()
    assert len(wide) == 3, "what is not read on a terminal is not folded"


@pytest.mark.ovn
def test_sql_that_is_none(audit: Audit, small_run: Path) -> None:
    done = audit("query", small_run, "SELEC 1")
    assert done.code == 2
    assert done.err.startswith("audit: ")
    assert done.out == ""


@pytest.mark.ovn
def test_a_cell_of_csv_is_never_a_formula(small_run: Path, audit: Audit) -> None:
    sql = "SELECT '=1+1' AS \"@a\", '-x', '+y', chr(9) || 'z', 'a=b', -1, NULL"
    names, values = csv.reader(audit("query", small_run, sql, "-o", "csv").out.splitlines())
    assert names[0] == "'@a"
    assert values == ["'=1+1", "'-x", "'+y", "'\tz", "a=b", "-1", ""]


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_a_reader_that_goes_away_is_no_error(audit: Audit, small_run: Path, output: str) -> None:
    # Far more than a pipe holds, so that the writer notices.
    sql = "SELECT repeat('x', 1000) AS x FROM range(2000)"
    command = [*audit.command, "query", str(small_run), sql, "-o", output]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), error) == (0, b"")


def test_a_reader_that_goes_away_leaves_the_exit_code(audit: Audit, small_run: Path) -> None:
    words = ("check", str(small_run), "--pack", "cis-kubernetes")
    code = audit(*words).code
    assert code
    process = subprocess.Popen([*audit.command, *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == code


@pytest.mark.ovn
def test_explain_in_both_formats(audit: Audit, small_run: Path) -> None:
    words = ("explain", small_run, "prod/prod-client-0", "default/web-0", "tcp/80")
    text, fields = audit(*words), audit(*words, "-o", "json").json
    assert " ".join(text.out.split()).startswith(fields["sentence"])
    assert all("raw" not in trace for trace in fields["traces"])
    assert all(trace["raw"] for trace in audit(*words, "--raw", "-o", "json").json["traces"])
    assert fields["traces"][-1]["conntrack"] == "est,rpl"
    assert any(trace["acl_match"] for trace in fields["traces"])


@pytest.mark.ovn
def test_report_renders_again(audit: Audit, small_run: Path) -> None:
    report = small_run / "report.html"
    before = report.read_bytes()
    report.unlink()
    done = audit("report", small_run)
    assert (done.code, done.out.strip()) == (0, str(report.absolute()))
    assert report.read_bytes() == before


# --- doctor


@pytest.mark.ovn
def test_doctor_where_all_is_well(audit: Audit, example_snapshot: Path) -> None:
    done = audit("doctor")
    assert done.code == 0
    assert all(line.startswith("ok: ") for line in done.out.splitlines())
    assert "ok: OVN " in done.out
    done = audit("doctor", "--snapshot", example_snapshot, "-o", "json")
    assert done.code == 0
    assert all(finding["good"] for finding in done.json)
    assert "would trace it" in done.json[-1]["text"]


@pytest.mark.ovn
def test_doctor_where_something_is_missing(audit: Audit) -> None:
    (audit.directory / "empty").mkdir()
    done = audit("doctor", "--ovn-prefix", "empty")
    assert done.code == 4
    assert any(line.startswith("missing: ") for line in done.out.splitlines())
    assert done.err == ""
    done = audit("doctor", "--snapshot", "empty")
    assert done.code == 4
    assert done.out.splitlines()[-1].startswith("missing: ")
    assert "not a snapshot" in done.out


# --- text is text


def test_names_are_text_and_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    queries._print(["[bold]a[/]", "b"], [["[red]x[/red]", None], ["]", ":smile:"]])  # noqa: SLF001
    out = capsys.readouterr().out
    for text in ("[bold]a[/]", "[red]x[/red]", ":smile:"):
        assert text in out


def test_names_are_not_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    queries._print(["a"], [["\x1b[2Jx\x07\ry"], ["z"]])  # noqa: SLF001
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert len(out.splitlines()) == 3


@pytest.mark.ovn
def test_no_colour(audit: Audit, small_run: Path) -> None:
    colourful = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        done = subprocess.run(
            [*audit.command, "query", str(small_run), SQL],
            env={**os.environ, **colourful, **more},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("\x1b[3" in done.stdout or "\x1b[1;" in done.stdout) <= coloured


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, *, coloured: bool
) -> None:
    @click.command()
    def command() -> None:
        say.message("error", "no \x1b[31m")
        say.line("yes", colour="green")

        say.text("blocked  3\n  shop/blocked\n", words=say.VERDICTS)

    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.delenv("TERM", raising=False)
    plain = "error: no \N{REPLACEMENT CHARACTER}[31m\nyes\nblocked  3\n  shop/blocked\n"
    assert CliRunner().invoke(command).output == plain, "no terminal"
    shown = CliRunner().invoke(command, color=True).output
    assert ("\x1b[32m" in shown, click.unstyle(shown)) == (coloured, plain)
    red = "\x1b[31m\x1b[1mblocked\x1b[0m  3\n  shop/blocked"
    assert (red in shown) is coloured
    monkeypatch.setenv("TERM", "dumb")
    assert CliRunner().invoke(command, color=True).output == plain


# --- what goes wrong


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str, does: object) -> int:
    """Return the exit code of a command that does something."""

    @click.command()
    def command() -> object:
        if isinstance(does, BaseException):
            raise does
        return does

    monkeypatch.setitem(commands.commands, "try", command)
    monkeypatch.setattr("sys.argv", ["audit", *arguments, "try"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("does", "code"),
    [
        (None, 0),
        (ExitCode.CLEAN, 0),
        (ExitCode.FINDINGS, 1),
        (ExitCode.INCOMPLETE, 3),
        (OutputError("no room"), 4),
        (KeyboardInterrupt(), 130),
        (click.UsageError("no such thing"), 2),
        (BrokenPipeError(), 0),
        # The interpreter would end with 1, which is a finding.
        (RuntimeError("surprise"), 4),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, does: object, code: int) -> None:
    if isinstance(does, BrokenPipeError):
        monkeypatch.setattr("os.dup2", lambda *_: None)
    assert called(monkeypatch, does=does) == code


def test_what_nobody_expected_is_one_line_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, does=RuntimeError("surprise"))
    said = capsys.readouterr().err
    assert said.startswith("audit: unexpected RuntimeError: surprise")
    assert "Traceback" not in said
    assert called(monkeypatch, "--debug", does=OutputError("no room")) == 4
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["many", "-1", "1.5"])
def test_packets_are_sent_for_a_number_of_cells_or_all(count: str) -> None:
    done = CliRunner().invoke(commands, ["run", "--snapshot", "x", "--verify-packets", count])
    assert done.exit_code == 2
    assert "neither a number from 0 on nor all" in done.output


def test_what_was_checked_is_on_the_page(inside: Inside, small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    done = inside("check", run, "--pack", "cis-kubernetes", "-o", "html", "-q")
    assert done.code == 1
    page = Path(done.out.strip())
    assert page == run / "report.html"
    assert "CIS Kubernetes Benchmark 5.3.2" in page.read_text()
    assert inside("verify", run).code == 0
    out = tmp_path / "evidence"
    flags = ("--pack", "cis-kubernetes", "-o", "html", "-o", "junit", "--out", out, "-q")
    assert inside("report", run, *flags).code == 0
    for name in ("report.html", "junit.xml"):
        assert "cis-5.3.2" in (out / name).read_text()
    assert inside("report", run, "-q").code == 0
    assert "CIS Kubernetes" not in page.read_text()


def test_a_long_value_beside_others_is_cut_in_a_table_and_nowhere_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns, manifest = ("name", "manifest"), "spec: " + "x" * 500
    queries.show(columns, [("web", manifest)], "table")
    printed = capsys.readouterr()
    row = printed.out.splitlines()[1].split()
    assert row[0] == "web"
    assert row[-1] == "x" * 113 + "…"
    assert "note: a long value is cut; -o csv" in printed.err
    for name, output in (("table", ("manifest",)), ("csv", columns), ("json", columns)):
        rows = [(manifest,)] if output == ("manifest",) else [("web", manifest)]
        queries.show(output, rows, name)
        printed = capsys.readouterr()
        assert "x" * 500 in printed.out
        assert printed.err == ""


def test_what_does_not_fit_a_terminal_is_a_line_for_each_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    columns = ["name", "manifest", "none"]
    queries.show(columns, [("web", "a: 1\nb: 2\x1b", None), ("db", "x" * 200, None)], "table")
    assert capsys.readouterr().out.splitlines() == [
        "name: web",
        "manifest:",
        "  a: 1",
        "  b: 2\N{REPLACEMENT CHARACTER}",
        "none:",
        "",
        "name: db",
        f"manifest: {'x' * 200}",
        "none:",
    ]
    queries.show(columns, [("web", "short", None)], "table")
    assert "web" in capsys.readouterr().out.splitlines()[1]


@pytest.mark.parametrize(
    ("counts", "proven", "engine", "sentence"),
    [
        ({"cells": 1, "traces": 1}, 1, "OVN", "1 cell decided by 1 trace"),
        (
            {"cells": 2256, "traces": 1203},
            2232,
            "OVN",
            "2,232 cells decided by 1,203 traces; 24 unproven",
        ),
        ({"cells": 6, "traces": 0}, 6, None, "6 cells decided by the policy objects"),
    ],
)
def test_only_proven_cells_are_decided_and_one_is_no_plural(
    counts: dict[str, int], proven: int, engine: str | None, sentence: str
) -> None:
    manifest = {"counts": counts, "coverage": {"proven": proven}, "engine": engine}
    assert running.decided_by(manifest) == sentence
