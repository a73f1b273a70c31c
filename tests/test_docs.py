"""The documentation says what is there: every command, verdict, reason and exit code."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from audit import errors
from audit.cli.main import COMMANDS, audit
from audit.errors import AuditError, ExitCode
from audit.model.blindness import BLINDNESS, OLDEST
from audit.model.findings import WARNED, FindingKind
from audit.model.verdicts import OPERATIONAL, Reason, Verdict
from audit.trace.blindness import PASSED_OVER
from audit.verdict.compose import verdict_of
from tests.conftest import REPOSITORY

VERDICTS_PAGE = (REPOSITORY / "docs" / "verdicts.md").read_text(encoding="utf-8")
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])


def commands() -> list[click.Command]:
    loaded = [audit.get_command(click.Context(audit), name) for name in COMMANDS]
    return [audit, *(command for command in loaded if command is not None)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: str(command.name))
def test_every_command_has_help_with_an_example(command: click.Command) -> None:
    assert command.help
    assert "Example" in command.help


def test_the_readme_lists_every_command() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"`audit {command}" in readme, command


def test_every_verdict_and_reason_is_documented_once_and_no_other() -> None:
    documented = re.findall(r"^\| `([a-z-]+)` \|", VERDICTS_PAGE, flags=re.MULTILINE)
    reasons = [str(reason) for reason in Reason]
    verdicts = [str(verdict) for verdict in Verdict]
    assert sorted(documented) == sorted([*verdicts, *reasons])


def test_settled_reasons_are_documented_with_their_verdict() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", VERDICTS_PAGE, flags=re.MULTILINE))
    for reason in (
        Reason.SERVICE_WITHOUT_ENDPOINTS,
        Reason.ENDPOINTS_UNKNOWN,
        Reason.HOST_TO_HOST,
        Reason.NO_LOGICAL_PORT,
    ):
        assert rows[reason] == verdict_of(reason)


def test_the_reasons_that_make_a_run_incomplete_are_named() -> None:
    [sentence] = re.findall(r"^(`zone-missing`.*?)\n\n", VERDICTS_PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([a-z-]+)`", sentence)) == {str(reason) for reason in OPERATIONAL}


def test_what_stops_or_proves_nothing_says_what_to_do() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (unroutable|inconclusive|untraced) \| .* \| ?(.*?) ?\|$",
        VERDICTS_PAGE,
        flags=re.MULTILINE,
    )
    assert {name for name, _, _ in rows} >= {str(reason) for reason in OPERATIONAL}
    assert [name for name, _, advice in rows if not advice] == []


ERRORS: dict[type[AuditError], str] = {
    errors.ScopeError: "what was asked: a scope, ports, expectations",
    errors.UsageError: "the command's words and options",
    errors.ManifestError: "a manifest",
    errors.SnapshotError: "a saved cluster",
    errors.DatabaseError: "a database in it",
    errors.ClusterError: "a cluster that was asked",
    errors.NoClusterError: "no cluster to ask",
    errors.EngineError: "a tool that traces, Ray, or agents",
    errors.NoEngineError: "no OVN that fits",
    errors.OutputError: "where results are written",
    errors.RunReadError: "a run that is read",
    errors.RunInterruptedError: "an interruption",
}
"""What sentences of each kind are about, in words: nobody is shown the name of a class."""


def test_every_error_says_its_exit_code_and_what_to_do() -> None:
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (\d+) \| .+ \| .+ \|$", page, flags=re.MULTILINE)
    assert dict(rows) == {about: str(int(kind.exit_code)) for kind, about in ERRORS.items()}
    assert set(ERRORS) == {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, AuditError) and kind is not AuditError
    }


def test_every_kind_of_finding_is_documented_and_no_other() -> None:
    """Those of planes and policies in intent.md; what OVN's rows say otherwise in inventory.md."""
    documented = set()
    for name in ("intent", "inventory"):
        page = (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
        table = page[page.index("| kind | ") :].partition("\n\n")[0]
        documented |= set(re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.MULTILINE))
    assert documented == {str(kind) for kind in FindingKind}


def test_every_note_is_documented() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in REPOSITORY.glob("docs/*.md"))
    source = "".join(file.read_text("utf-8") for file in REPOSITORY.glob("audit/**/*.py"))
    notes = set(re.findall(r'Note\(\s*code="([a-z-]+)"|Note\.of_each\(\s*"([a-z-]+)"', source))
    codes = {code for pair in notes for code in pair if code} | WARNED
    assert len(codes) > len(WARNED)
    assert [code for code in sorted(codes) if f"`{code}`" not in pages] == []


def test_every_metric_is_documented_and_no_other() -> None:
    source = (REPOSITORY / "audit" / "report" / "formats" / "prometheus.py").read_text("utf-8")
    page = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(audit_[a-z_]+)(?:\{[a-z,]+\})?`", page)) == set(
        re.findall(r'"(audit_[a-z_]+)"', source)
    )


def test_the_site_shows_every_page_once() -> None:
    site = tomllib.loads((REPOSITORY / "zensical.toml").read_text(encoding="utf-8"))["project"]
    shown = [page for part in site["nav"] for pages in part.values() for page in pages]
    assert sorted(shown) == sorted(page.name for page in REPOSITORY.glob("docs/*.md"))


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \|", VERDICTS_PAGE, flags=re.MULTILINE)
    assert sorted(int(code) for code in rows) == sorted(int(code) for code in ExitCode)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """Return what a link into a page may end with: its headings, as GitHub writes them."""
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in anchors(page.parent / target if target else page), (target, anchor)


def test_every_blind_spot_is_documented_once_and_no_other() -> None:
    page = (REPOSITORY / "docs" / "traces.md").read_text(encoding="utf-8")
    table = page.partition("## Where a tracer is blind")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    documented = {row[0]: row for row in rows[2:]}
    assert list(documented) == [str(row.spot) for row in BLINDNESS]
    for row in BLINDNESS:
        name, engine, since, _, _, otherwise = documented[str(row.spot)]
        assert engine == ("both" if len(row.engines) > 1 else f"`{row.engines[0]}`"), name
        assert since == ("all" if row.since == OLDEST else f"{row.since} on"), name
        if row.reason is not None:
            assert otherwise == f"`{row.reason}`", name
    for action, spot in PASSED_OVER.items():
        assert f"`{action}`" in documented[str(spot)][3], action


def test_every_line_of_the_threat_model_has_a_test() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| file | written by | read by | what it may cause | test |\n")
    rows = table.partition("\n\n")[0].splitlines()[1:]
    assert len(rows) > 10
    for row in rows:
        file = ""
        tests = re.findall(r"`(?:([a-z_/]+\.py)::)?(test_\w+)`", row)
        assert tests, row
        for named, test in tests:
            file = named or file
            assert f"def {test}(" in (REPOSITORY / "tests" / file).read_text(encoding="utf-8"), row
