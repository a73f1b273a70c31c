"""Every command in the documentation runs as it is written, and prints what stands below it.

A block of commands that is not run says why, in a comment before it: `<!-- not run: why -->`. Each
page has a directory of its own, with the files that its commands name.
"""

import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import called_here
from tests.parity import DATA

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<kind>console|sh|bash)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = re.compile(r"\b\d{8}T\d{6}Z-[0-9a-f]{4}\b")
ANY = "…"
"""A line of the page that stands for any number of lines, and in a line for any words."""


@dataclass(slots=True)
class Command:
    """A command of a page, and the lines below it; none where the page shows none."""

    text: str
    printed: list[str] = field(default_factory=list)


def commands(page: Path) -> list[Command]:
    """Return the commands of a page that are run, in order."""
    found: list[Command] = []
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["why"]:
            continue
        assert block["kind"] == "console", f"{page.name}: what is run is in a console block"
        for line in block["text"].splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            elif is_open(found[-1].text):
                found[-1].text += f"\n{line}"
            elif found[-1].text.endswith("\\") and not found[-1].printed:
                found[-1].text = found[-1].text[:-1] + line.strip()
            else:
                found[-1].printed.append(line)
    return found


def is_open(text: str) -> bool:
    """Say whether a command goes on in the next line, since a quotation is not closed."""
    try:
        shlex.split(text, comments=True)
    except ValueError as error:
        return "quotation" in str(error)
    return False


@pytest.fixture
def desk(tmp_path: Path, example_snapshot: Path) -> Path:
    """Return a directory with the files that pages name."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    (tmp_path / "cluster.tar.gz").symlink_to(example_snapshot)
    for name in ("before", "after"):
        with tarfile.open(DATA / f"upgrade-{name}.tar.xz") as tar:
            extract(tar, tmp_path / f".{name}")
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz", compresslevel=1) as tar:
            tar.add(tmp_path / f".{name}", arcname=".")
    for name, branch in (
        ("deploy", "branch"),
        ("main/deploy", "main"),
        ("branch/deploy", "branch"),
    ):
        shutil.copytree(REPOSITORY / "examples" / "shop" / branch, tmp_path / name)
    shutil.copytree(tmp_path / "deploy", tmp_path / "overlays" / "prod")
    files = "resources: [workloads.yaml, policies.yaml]\n"
    (tmp_path / "overlays" / "prod" / "kustomization.yaml").write_text(files)
    shutil.copy(tmp_path / "deploy" / "policies.yaml", tmp_path / "policy.yaml")
    (tmp_path / "scope.yaml").write_text("namespaces: [shop]\n")
    return tmp_path


def words_of(text: str, desk: Path) -> list[str] | None:
    """Return a command line's words; None where it takes a shell."""
    if re.search(r"[|<>;&$]", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
        return None
    words: list[str] = []
    for word in shlex.split(text, comments=True):
        matching = (
            sorted(str(path.relative_to(desk)) for path in desk.glob(word)) if "*" in word else []
        )
        words += matching if matching and f"'{word}'" not in text else [word]
    return words if words[0] in ("audit", ".venv/bin/audit") else None


def call(command: Command, desk: Path, code: int) -> tuple[int, str]:
    """Run a command; `code` is how the one before it ended."""
    words = words_of(command.text, desk)
    if words is not None:
        called = called_here(desk, *words[1:])
        assert called.code in (0, 1, 3), called.err
        return called.code, called.out
    programs = f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"(exit {code})\n{command.text}"],
        cwd=desk,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def pattern(printed: list[str]) -> re.Pattern[str]:
    """Return what output must match: a line that is `…` is any lines."""
    parts = [
        r"(?:.*\n)*?" if line == ANY else re.escape(RUN.sub("RUN", line)).replace(ANY, ".*") + r"\n"
        for line in printed
    ]
    return re.compile("".join(parts))


@pytest.mark.ovn
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda p: p.name)
def test_a_page_s_commands_do_what_it_says(page: Path, desk: Path) -> None:
    code = 0
    for command in commands(page):
        code, out = call(command, desk, code)
        if command.printed:
            shown = RUN.sub("RUN", "".join(f"{line.rstrip()}\n" for line in out.splitlines()))
            assert pattern(command.printed).fullmatch(shown), f"{command.text}\n{shown}"


def unmarked() -> Iterator[str]:
    """Yield commands of pages that are in no block of commands."""
    for page in PAGES:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        yield from (f"{page.name}: {line}" for line in re.findall(r"^\$ .*", text, re.MULTILINE))


def test_every_command_is_in_a_block_that_is_run_or_says_why_not() -> None:
    assert list(unmarked()) == []
