"""Another OVN's southbound databases, made from a snapshot's northbound ones.

What an upgrade does, done to copies: the recorded databases get the new OVN's schema, and its
`ovn-northd` runs on them until it has caught up. The southbound one starts as it was recorded, so
that the chassis, port bindings and tunnel keys are the cluster's and only what northd makes is new.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from audit.errors import EngineError
from audit.model.engine import SchemaPrograms
from audit.replay import keeper
from audit.replay.databases import OvsdbTool

_SCHEMAS = {"nb": "ovn-nb.ovsschema", "sb": "ovn-sb.ovsschema"}
_TIMEOUT_S = 600.0
"""How long northd may take for one zone: a large one is computed in tens of seconds."""
_CONVERT_TIMEOUT_S = 300
_SHOWN = 300


def recompile(
    programs: SchemaPrograms,
    zones: Mapping[str, tuple[Path, Path]],
    target: Path,
    workdir: Path,
    advance: Callable[[int], None],
) -> None:
    """Write `target/ZONE/{nb,sb}.db` for every zone, the southbound made by `programs`.

    `zones` are the recorded (northbound, southbound) files, which are not touched. `workdir` is to
    be short, as sockets are made below it. EngineError when northd fails or does not catch up.
    """
    for number, (zone, files) in enumerate(sorted(zones.items())):
        rundir = workdir / f"z{number}"
        rundir.mkdir(parents=True)
        for kind, source in zip(_SCHEMAS, files, strict=True):
            _staged(programs, source, rundir / f"{kind}.db", _SCHEMAS[kind])
        _run_northd(programs, zone, rundir)
        made = target / zone
        made.mkdir(parents=True)
        for kind in _SCHEMAS:
            shutil.move(rundir / f"{kind}.db", made / f"{kind}.db")
        advance(1)


def _staged(programs: SchemaPrograms, source: Path, copy: Path, schema: str) -> None:
    """Copy a database, standalone and with this OVN's schema."""
    staged = copy.with_suffix(".recorded")
    OvsdbTool(programs=programs).stage(source, staged)
    shutil.copyfile(staged, copy)
    copy.chmod(0o600)
    staged.unlink()
    argv = programs.argv("ovsdb-tool", "convert", str(copy), str(programs.schema(schema)))
    _call(argv, f"{source} cannot be given the schema of this OVN", _CONVERT_TIMEOUT_S)


def _run_northd(programs: SchemaPrograms, zone: str, rundir: Path) -> None:
    """Serve both databases, and let northd work until the southbound one is up to date."""
    environment = {**os.environ, **programs.environment(rundir)}
    socket = f"unix:{rundir / 'db.sock'}"
    daemons = [
        {
            "argv": programs.argv(
                "ovsdb-server",
                f"--remote=punix:{rundir / 'db.sock'}",
                f"--unixctl={rundir / 'db.ctl'}",
                "-vsyslog:off",
                *(str(rundir / f"{kind}.db") for kind in _SCHEMAS),
            ),
            "ready": str(rundir / "db.sock"),
            "log": str(rundir / "ovsdb-server.log"),
        },
        {
            "argv": programs.argv(
                "ovn-northd",
                f"--ovnnb-db={socket}",
                f"--ovnsb-db={socket}",
                f"--unixctl={rundir / 'northd.ctl'}",
                "-vsyslog:off",
            ),
            "ready": str(rundir / "northd.ctl"),
            "log": str(rundir / "ovn-northd.log"),
        },
    ]
    supervisor = keeper.launch(daemons, environment)
    try:
        _wait_for(rundir / "northd.ctl", supervisor, zone, rundir)
        # Raises nb_cfg and returns when northd has copied it, after all it made until then
        # (ovn-nbctl(8), --wait=sb).
        waiting = programs.argv("ovn-nbctl", f"--db={socket}", "--wait=sb", "sync")
        _call(waiting, f"ovn-northd did not make zone {zone}'s database", _TIMEOUT_S, environment)
    finally:
        keeper.end(supervisor)


def _wait_for(socket: Path, supervisor: "subprocess.Popen[bytes]", zone: str, rundir: Path) -> None:
    """Return when `socket` is there; EngineError with the logs when a daemon died first."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not socket.exists():
        if supervisor.poll() is not None or time.monotonic() > deadline:
            logs = " ".join(log.read_text(errors="replace") for log in rundir.glob("*.log"))
            raise EngineError(f"ovn-northd did not start on zone {zone}: {logs[-_SHOWN:].strip()}")
        time.sleep(0.01)


def _call(
    argv: tuple[str, ...],
    complaint: str,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program, or say what it found wrong."""
    try:
        done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
            argv,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except OSError as error:
        raise EngineError(f"{complaint}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{complaint} in {timeout_s:.0f} s") from error
    if done.returncode:
        raise EngineError(f"{complaint}: {' '.join(done.stderr.split())[-_SHOWN:]}")
