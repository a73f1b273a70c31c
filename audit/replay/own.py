"""A node's own databases and its own switch, over the sockets of its running servers.

An agent traces on a copy: one `ovsdb-client backup` is one transaction, so all its daemons read the
same moment, and the node's server is asked for the database once and not by every daemon. The
copy's server ends with this process, and the daemons with it; a daemon at the node's server would
outlive a worker that is killed.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit.errors import DatabaseError, EngineError
from audit.model.datapath import Chassis, Switch
from audit.model.engine import Programs
from audit.replay import databases, datapath, lean

_BACKUP_TIMEOUT_S = 300
_QUERY_TIMEOUT_S = 20
_SHOWN = 300


@contextlib.contextmanager
def serve(programs: Programs, socket: Path, rundir: Path) -> Iterator[Path]:
    """Serve a copy of the southbound database at `socket`, as `databases.serve` does a file's."""
    copy = rundir / "own.db"
    with copy.open("wb") as sink:
        _run(programs, sink, "backup", f"unix:{socket}", "OVN_Southbound", within=_BACKUP_TIMEOUT_S)
    with databases.serve(programs, copy, rundir, copy=lean.copy) as served:
        copy.unlink()  # what is served is a copy of it
        yield served


def switch(programs: Programs, chassis: Chassis, rundir: Path) -> Switch:
    """Return the running switch whose sockets are in a directory, with its ports as they are now.

    It is found as ovs-appctl(8) does. EngineError when it is not there.
    """
    try:
        pid = (rundir / "ovs-vswitchd.pid").read_text().strip()
    except OSError as error:
        raise EngineError(f"{rundir} has no ovs-vswitchd: {error.strerror}") from error
    control = rundir / f"ovs-vswitchd.{pid}.ctl"
    bare = Switch(chassis=chassis, vswitchd=control, database=rundir / "db.sock")
    return datapath.interfaces(programs, bare)


def zone(programs: Programs, northbound: Path) -> str:
    """Return the zone a northbound database is of (`NB_Global.name`); DatabaseError if it has none.

    OVN-Kubernetes writes the node's name there, or `global` for a central pair.
    """
    row = _first_row(programs, northbound, "OVN_Northbound", "NB_Global", "name")
    if not row["name"]:
        raise DatabaseError(f"{northbound} does not say its zone (NB_Global.name); give --zone")
    return str(row["name"])


def northd_version(programs: Programs, southbound: Path) -> str:
    """Return what wrote a southbound database's flows, empty when it does not say."""
    row = _first_row(programs, southbound, "OVN_Southbound", "SB_Global", "options")
    options: dict[str, str] = dict(row["options"][1])  # OVSDB's ["map", [[key, value], …]]
    return options.get("northd_internal_version", "")


def _first_row(
    programs: Programs, socket: Path, database: str, table: str, column: str
) -> dict[str, Any]:
    select = {"op": "select", "table": table, "where": [], "columns": [column]}
    answer = _run(
        programs,
        subprocess.PIPE,
        *("transact", f"unix:{socket}", json.dumps([database, select])),
        within=_QUERY_TIMEOUT_S,
    )
    rows: list[dict[str, Any]] = json.loads(answer)[0].get("rows", [])
    if not rows:
        raise DatabaseError(f"{socket} has no row in {table}: northd has not been there yet")
    return rows[0]


def _run(programs: Programs, sink: Any, *arguments: str, within: float) -> bytes:  # noqa: ANN401 - as subprocess takes it
    """Run ovsdb-client; DatabaseError with its own words when it fails."""
    where = next(word for word in arguments if word.startswith("unix:"))
    try:
        done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
            programs.argv("ovsdb-client", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.PIPE,
            env=dict(os.environ),
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DatabaseError(f"{where} did not answer in {within:g} s") from error
    if done.returncode:
        message = " ".join(done.stderr.decode(errors="replace").split())[:_SHOWN]
        raise DatabaseError(f"{where} cannot be read: {message or f'exit {done.returncode}'}")
    return done.stdout or b""
