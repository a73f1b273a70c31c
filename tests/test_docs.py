"""The documentation says what is there: every command, verdict, reason and exit code."""

import re
from pathlib import Path

import click
import pytest

from audit.cli.main import COMMANDS, audit
from audit.errors import ExitCode
from audit.model.blindness import BLINDNESS, OLDEST
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


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \|", VERDICTS_PAGE, flags=re.MULTILINE)
    assert sorted(int(code) for code in rows) == sorted(int(code) for code in ExitCode)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


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
