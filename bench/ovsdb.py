"""OVSDB files made of rows, and the southbound database that ovn-northd makes of them.

A standalone file is a log of records, the first the schema and every other a transaction: a header
`OVSDB JSON <length> <sha1>` and that many bytes of JSON (ovsdb(5)). One record holds a whole
database, so nothing needs a server to be written.
"""

import contextlib
import hashlib
import json
import os
import socket as sockets
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from audit.replay.toolchain import Toolchain
from bench.addresses import uuid_of

_START_TIMEOUT_S = 30
_NORTHD_TIMEOUT_S = 600

Key = tuple[str, str]
"""Which row: its table, and what is unique in it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of any zone; its uuid and those it refers to are made for each zone."""

    key: Key
    columns: str
    """The JSON of the columns that refer to no row, without braces."""
    references: Mapping[str, Sequence[Key]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, table: str, name: str, columns: Mapping[str, Any], **references: Sequence[Key]
    ) -> Self:
        """Make a row of Python values: a dict is a map, a list is a set."""
        given = {column: _value(value) for column, value in columns.items()}
        text = json.dumps(given, separators=(",", ":"))[1:-1]
        return cls((table, name), text, {name: keys for name, keys in references.items() if keys})

    def render(self, zone: str) -> str:
        """Return the row's JSON in a zone's database, after its uuid."""
        parts = [self.columns] if self.columns else []
        for column, keys in self.references.items():
            uuids = ",".join(f'["uuid","{uuid_of(zone, *key)}"]' for key in keys)
            parts.append(f'"{column}":["set",[{uuids}]]')
        return f'"{uuid_of(zone, *self.key)}":{{{",".join(parts)}}}'


def _value(value: Any) -> Any:  # noqa: ANN401 - an OVSDB <value> is any JSON (RFC 7047, 5.1)
    if isinstance(value, dict):
        return ["map", [[key, _value(item)] for key, item in sorted(value.items())]]
    if isinstance(value, list | tuple):
        return ["set", [_value(item) for item in value]]
    return value


def write(path: Path, schema: Path, zone: str, rows: Iterable[Row]) -> None:
    """Write a zone's rows as a standalone database file."""
    tables: dict[str, list[str]] = {}
    for row in rows:
        tables.setdefault(row.key[0], []).append(row.render(zone))
    texts = [f'"{table}":{{{",".join(found)}}}' for table, found in sorted(tables.items())]
    with path.open("wb") as file:
        file.write(record(json.dumps(json.loads(schema.read_text()), separators=(",", ":"))))
        file.write(record("{" + ",".join(['"_date":0', *texts]) + "}"))


def record(text: str) -> bytes:
    """Return a record of a standalone file: its header, and the JSON text."""
    content = text.encode() + b"\n"
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return f"OVSDB JSON {len(content)} {digest}\n".encode() + content


def compile_zone(
    programs: Toolchain, directory: Path, bindings: Sequence[Mapping[str, Any]]
) -> None:
    """Let the real ovn-northd make `sb.db` of `nb.db`, both in `directory`.

    `bindings` are operations on the southbound database that stand for ovn-controller: they bind
    ports to chassis once northd has made them.
    """
    run = directory / "run"
    run.mkdir()
    with contextlib.ExitStack() as stack:
        server = f"--remote=punix:{run / 'db.sock'}"
        files = (str(directory / "nb.db"), str(directory / "sb.db"))
        stack.enter_context(_daemon(programs, run, "ovsdb-server", server, *files))
        _wait_for(run / "db.sock")
        socket = f"unix:{run / 'db.sock'}"
        sides = (f"--ovnnb-db={socket}", f"--ovnsb-db={socket}")
        stack.enter_context(_daemon(programs, run, "ovn-northd", *sides))
        _sync(programs, socket)
        transaction = json.dumps(["OVN_Southbound", *bindings])
        _call(programs, "ovsdb-client", "transact", socket, transaction)
        _sync(programs, socket)
    for file in run.iterdir():
        file.unlink()
    run.rmdir()


def _sync(programs: Toolchain, socket: str) -> None:
    """Wait until ovn-northd has caught up with the northbound database."""
    wait = ("--no-leader-only", f"--timeout={_NORTHD_TIMEOUT_S}", "--wait=sb")
    _call(programs, "ovn-nbctl", f"--db={socket}", *wait, "sync")


def _call(programs: Toolchain, program: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - argv made of our own words and paths
        programs.argv(program, *arguments), capture_output=True, text=True, check=False
    )
    if done.returncode or '"error"' in done.stdout:
        raise RuntimeError(f"{program} failed: {done.stderr or done.stdout}")


@contextlib.contextmanager
def _daemon(programs: Toolchain, run: Path, program: str, *arguments: str) -> Iterator[None]:
    """Run a daemon in the foreground until the block ends."""
    control = f"--unixctl={run / f'{program}.ctl'}"
    with (run / f"{program}.log").open("wb") as log:
        started = subprocess.Popen(  # noqa: S603 - argv made of our own words and paths
            programs.argv(program, control, "--log-file=/dev/null", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **programs.environment(run)},
        )
        try:
            yield
        finally:
            started.terminate()
            started.wait()


def _wait_for(socket: Path) -> None:
    """Return when somebody listens: the file is there as soon as the socket is bound."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _listens(socket):
        if time.monotonic() > deadline:
            raise RuntimeError(f"ovsdb-server does not listen on {socket}")
        time.sleep(0.005)


def _listens(path: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0
