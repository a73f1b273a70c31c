"""A machine whose OVN is too old: what is said, asked and done about it."""

import json
import os
import pty
import shlex
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from audit.cli import engines
from audit.commands import doctor
from audit.errors import NoEngineError
from audit.replay.toolchain import Toolchain, Version
from tests.archives import extract
from tests.end_to_end.conftest import Audit

pytestmark = pytest.mark.ovn

NEWER = Path(__file__).resolve().parents[1] / "data" / "head-shared.tar.xz"
"""Made by OVN 26.03."""


@pytest.fixture
def bookworm(audit_command: tuple[str, ...], tmp_path: Path) -> Audit:
    """Return the command on a machine that has Debian 12's OVN, and no other."""
    plant(tmp_path / "bin/ovn-trace", "echo ovn-trace 23.03.1")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "AUDIT_OVN_PREFIX"},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    return Audit(command=audit_command, directory=tmp_path, environment=environment)


def plant(program: Path, script: str) -> None:
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def install(machine: Audit, name: str, engine: Toolchain) -> Path:
    """Put an OVN at hand beside the machine's own, as an installation does."""
    place = machine.directory / "data/ovn-audit" / name
    if engine.prefix is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(engine.prefix)
    else:
        for program in ("ovn-trace", "ovsdb-server", "ovsdb-tool"):
            plant(place / f"bin/{program}", f'exec {shlex.join(engine.argv(program))} "$@"')
    return place


def test_a_newer_snapshot_is_refused_with_the_command_that_helps(bookworm: Audit) -> None:
    trace = ("trace", "-src", "a", "-dst", "b", "-tcp")
    for command in (("run", "--out", "runs"), ("plan",), trace):
        done = bookworm(*command, "--snapshot", NEWER)
        assert done.code == 4
        sentence = done.err.strip().splitlines()[-1]
        for part in (
            "was made by OVN 26.03.1",
            "23.03.1 (the system)",
            f"install one with `audit doctor --install-ovn --snapshot {NEWER}`",
        ):
            assert part in sentence
        assert "[y/N]" not in done.err, "nobody is there to answer"
    assert not (bookworm.directory / "runs").exists()
    done = bookworm("doctor", "--snapshot", NEWER)
    assert done.code == 4
    assert f"--install-ovn --snapshot {NEWER}`" in done.out.splitlines()[-1]


def test_the_oldest_that_is_new_enough_is_chosen(
    bookworm: Audit, toolchain: Toolchain, newest_toolchain: Toolchain, example_snapshot: Path
) -> None:
    install(bookworm, "ovn", toolchain)
    newest = install(bookworm, "ovn-26.03", newest_toolchain)
    for snapshot, engine in ((example_snapshot, toolchain), (NEWER, newest_toolchain)):
        done = bookworm("plan", "--snapshot", snapshot, "-p", "tcp/80", "-o", "json")
        assert done.code == 0, done.err
        assert done.json["engine"] == f"OVN {engine.version}"
    done = bookworm("doctor", "--install-ovn", "--snapshot", NEWER)
    assert (done.code, done.out) == (0, f"ok: OVN {newest_toolchain.version} in {newest}\n")
    assert done.err == "", "what is there is not installed again"


def test_a_prefix_that_was_named_is_not_replaced(bookworm: Audit, toolchain: Toolchain) -> None:
    place = install(bookworm, "elsewhere", toolchain)
    if toolchain.version.can_trace(Version(26, 3, 0)):
        return
    words = ("plan", "--snapshot", NEWER, "--ovn-prefix", place, "--install-ovn")
    done = bookworm(*words)
    assert done.code == 4
    assert "holds OVN 26.03.1 or newer with --ovn-prefix" in done.err
    assert "--install-ovn" not in done.err


def test_at_a_terminal_it_is_asked_and_no_is_no(bookworm: Audit) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*bookworm.command, "run", "--snapshot", str(NEWER), "--out", "runs"],
        cwd=bookworm.directory,
        env={**(bookworm.environment or {}), "TERM": "xterm", "COLUMNS": "400"},
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, b"n\n")
    shown = b""
    while some := read(ours):
        shown += some
    os.close(ours)
    assert process.wait(60) == 4
    text = shown.decode()
    assert "Install OVN 26.03.1 or newer now, without touching the system's? [y/N]" in text
    assert "audit doctor --install-ovn --snapshot" in text.splitlines()[-1]
    assert not (bookworm.directory / "data").exists()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""


def unknown(example: Path, target: Path, tool: Toolchain) -> Path:
    """Return a snapshot one of whose zones does not say which OVN made it."""
    with tarfile.open(example) as archive:
        extract(archive, target)
    options: Mapping[str, object] = {
        "op": "update",
        "table": "SB_Global",
        "where": [],
        "row": {"options": ["map", []]},
    }
    database = target / "ovn/ovn-worker/sb.db"
    words = ("transact", str(database), json.dumps(["OVN_Southbound", options]))
    subprocess.run(tool.argv("ovsdb-tool", *words), check=True, capture_output=True)
    return target


def test_a_database_of_an_unknown_ovn_needs_the_newest(
    bookworm: Audit, toolchain: Toolchain, newest_toolchain: Toolchain, example_snapshot: Path
) -> None:
    snapshot = unknown(example_snapshot, bookworm.directory / "snapshot", toolchain)
    plan = ("plan", "--snapshot", snapshot, "-p", "tcp/80", "-o", "json")
    if not toolchain.version.can_trace(Version(26, 3, 0)):
        install(bookworm, "ovn", toolchain)
        done = bookworm(*plan)
        assert done.code == 4
        assert "zone ovn-worker does not say which OVN made it" in done.err
        assert f"`audit doctor --install-ovn --snapshot {snapshot}`" in done.err
    install(bookworm, "ovn-26.03", newest_toolchain)
    done = bookworm(*plan)
    assert done.code == 0, done.err
    assert done.json["engine"] == f"OVN {newest_toolchain.version}"
    assert any("1 zones do not say which ovn-northd made them" in n for n in done.json["notes"])


class Installer:
    """Stands in for the installation, which needs a network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed: list[str] = []
        monkeypatch.setattr(doctor, "install_engine", self)

    def __call__(self, prefix: Path | None, *, needed: str, progress: object) -> None:
        assert prefix is None
        assert callable(progress)
        self.installed.append(needed)


class Work:
    """Needs one OVN after the other."""

    def __init__(self, *needs: str) -> None:
        self.needs = list(needs)

    def __call__(self) -> str:
        if self.needs:
            needed = self.needs.pop(0)
            raise NoEngineError("too old", needed=needed, advice="")
        return "done"


def provided(work: Work, *, install: bool, prefix: Path | None = None) -> str:
    return engines.provided(work, snapshot=NEWER, prefix=prefix, install=install)


def test_what_is_needed_is_installed_where_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installer = Installer(monkeypatch)
    assert provided(Work(), install=True) == "done"
    assert installer.installed == []
    # A clustered database tells what it needs when there is an OVN to read it.
    assert provided(Work("", "26.03.1"), install=True) == "done"
    assert installer.installed == ["", "26.03.1"]
    with pytest.raises(NoEngineError, match=r"too old; install one with"):
        provided(Work("26.03.1", "26.03.1"), install=True)
    with pytest.raises(NoEngineError, match=r"too old; name a directory"):
        provided(Work("26.03.1"), install=True, prefix=Path("/opt/x"))
    assert installer.installed == ["", "26.03.1", "26.03.1"]


@pytest.mark.parametrize("answer", [True, False])
def test_an_answer_at_a_terminal_decides(monkeypatch: pytest.MonkeyPatch, *, answer: bool) -> None:
    installer = Installer(monkeypatch)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: answer)
    if answer:
        assert provided(Work("26.03.1"), install=False) == "done"
    else:
        with pytest.raises(NoEngineError):
            provided(Work("26.03.1"), install=False)
    assert installer.installed == ["26.03.1"] * answer
