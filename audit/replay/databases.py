"""A snapshot's OVSDB files: staged where they may be written, read, and served.

Nothing is ever written to a file of the snapshot: `ovsdb-server` serves copies, since it writes to
what it serves, and so does whoever mends a torn file or makes a clustered one standalone
(`ovsdb-tool cluster-to-standalone`).
"""

import contextlib
import os
import shutil
import signal
import socket as sockets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.errors import DatabaseError, EngineError
from audit.model.engine import Programs
from audit.replay.tables import Tables

Copy = Callable[[Path, Path], object]
"""Makes a copy of a standalone database, by their paths."""

_TOOL_TIMEOUT_S = 300
_ECHO = b'{"method":"echo","params":[],"id":0}'
"""RFC 7047, 4.1.11."""
_SERVER_START_TIMEOUT_S = 60
_STANDALONE = b"OVSDB JSON "
_CLUSTERED = b"OVSDB CLUSTER "
_LEAST_RECORDS = {_STANDALONE: 2, _CLUSTERED: 1}
"""A standalone file's first record is the schema and its second the data; a clustered file has a
snapshot of both in its first."""
_HEADER_FIELDS = 4
_SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux: sun_path holds 108 bytes with its NUL (unix(7))."""
_SHOWN = 300
"""Characters of a tool's complaint that are repeated to the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsdbTool:
    """Reads database files with an installed ovsdb-tool (`audit.model.engine.DatabaseReader`)."""

    programs: Programs

    def stage(self, source: Path, target: Path) -> bool:
        """Make `target` a standalone database with what the OVSDB file `source` holds.

        A whole standalone file is only linked to: with interconnect there are gigabytes. One
        copied from under a running server may end in half a transaction, which is left out, as
        ovsdb-server does: True then. DatabaseError when nothing can be saved.
        """
        magic = _magic(source)
        end, records = _complete_records(source, magic)
        torn = end < source.stat().st_size
        if torn and records < _LEAST_RECORDS[magic]:
            raise DatabaseError(
                f"{source} is truncated: it ends before its data does; copy the database again"
            )
        if not torn and magic == _STANDALONE:
            target.symlink_to(source.resolve())
            return False
        _copy(source, target)
        if torn:
            _cut(source, target, end, magic)
        if magic == _CLUSTERED:
            self._to_standalone(source, target)
        return torn

    def _to_standalone(self, source: Path, target: Path) -> None:
        """Turn `target`, a clustered database, into a standalone one."""
        clustered = target.with_name(f"{target.name}.clustered")
        target.rename(clustered)
        self._run(source, "cluster-to-standalone", str(target), str(clustered))
        clustered.unlink()
        if target.stat().st_size == 0:
            raise DatabaseError(
                f"{source} holds nothing: its server had only begun to join the cluster; copy "
                "the database of another member"
            )

    def tables(self, database: Path, schema: str) -> Tables:
        """Return the tables of a staged database whose schema is `schema`."""
        return Tables.of(database, schema)

    def _run(self, source: Path, *arguments: str) -> str:
        """Run ovsdb-tool, or say what it found wrong with `source`."""
        try:
            done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
                self.programs.argv("ovsdb-tool", *arguments),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_TOOL_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DatabaseError(
                f"{source}: ovsdb-tool did not finish in {_TOOL_TIMEOUT_S} s"
            ) from error
        if done.returncode:
            message = " ".join(done.stderr.split())[:_SHOWN]
            raise DatabaseError(f"{source} cannot be read as an OVSDB file: {message}")
        return done.stdout


def _magic(source: Path) -> bytes:
    """Return an OVSDB file's first bytes, which say its format; DatabaseError when it is none."""
    try:
        with source.open("rb") as file:
            start = file.read(len(_CLUSTERED))
    except OSError as error:
        raise DatabaseError(f"{source} cannot be read: {error.strerror}") from error
    magic = next((prefix for prefix in _LEAST_RECORDS if start.startswith(prefix)), None)
    if magic is None:
        what = "is not an OVSDB file" if start else "is empty"
        raise DatabaseError(f"{source} {what}; copy the database again, or remove its zone")
    return magic


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
        target.chmod(0o600)  # the source may be read-only
    except OSError as error:
        raise DatabaseError(f"{source} cannot be copied: {error.strerror}") from error


def _complete_records(path: Path, magic: bytes) -> tuple[int, int]:
    """Return where the last complete record of a database file ends, and how many there are.

    A record is a line `OVSDB JSON <length> <sha1>` and `length` bytes (ovsdb(5)). What it says,
    and whether its checksum holds, is ovsdb-tool's business.
    """
    end = count = 0
    size = path.stat().st_size
    with path.open("rb") as file:
        while header := file.readline():
            fields = header.split()
            whole = header.startswith(magic) and len(fields) == _HEADER_FIELDS
            if not whole or not fields[2].isdigit():
                break
            record_end = file.tell() + int(fields[2])
            if record_end > size:
                break
            file.seek(record_end)
            end, count = record_end, count + 1
    return end, count


def _cut(source: Path, target: Path, end: int, magic: bytes) -> None:
    """Leave out what follows the last complete record; DatabaseError when that is not the end.

    A write that was cut off is one incomplete record. Another record after it means that the
    file is damaged in the middle, and what was written since would be lost with it.
    """
    with target.open("rb") as file:
        file.seek(end)
        if file.read().find(magic, 1) > 0:
            raise DatabaseError(
                f"{source} is damaged after {end} bytes, before its last record; copy the "
                "database again"
            )
    os.truncate(target, end)


@contextlib.contextmanager
def serve(
    programs: Programs, database: Path, rundir: Path, *, copy: Copy = shutil.copyfile
) -> Iterator[Path]:
    """Serve a copy of `database` on a Unix socket in `rundir` and yield the socket's path.

    A copy, because ovsdb-server locks its file and several workers may serve the same. The
    server's life hangs on a pipe from this process (`--run=cat` exits when its standard
    input ends, and ovsdb-server with it), so that it goes also when this process is killed. An
    ovn-trace daemon goes with its database connection.
    """
    socket = rundir / "db.sock"
    if len(os.fsencode(socket)) > _SOCKET_PATH_BYTES:
        raise EngineError(
            f"{socket} is longer than a Unix socket's path may be ({_SOCKET_PATH_BYTES} bytes); "
            "set TMPDIR to a shorter directory"
        )
    served = rundir / "db"
    copy(database, served)
    log = rundir / "ovsdb-server.log"
    argv = programs.argv(
        "ovsdb-server",
        f"--remote=punix:{socket}",
        f"--unixctl={rundir / 'db.ctl'}",
        "--run=cat",
        "--log-file=/dev/null",
        str(served),
    )
    reading, writing = os.pipe()
    try:
        with log.open("wb") as sink:
            server = subprocess.Popen(  # noqa: S603 - argv made of our own words and paths
                argv,
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=sink,
                env={**os.environ, **programs.environment(rundir)},
                start_new_session=True,
            )
    except OSError as error:
        os.close(writing)
        raise EngineError(f"ovsdb-server did not start: {error}") from error
    finally:
        os.close(reading)
    try:
        _wait_for(socket, server, log)
        yield socket
    finally:
        os.close(writing)
        _stop(server)


def _wait_for(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; EngineError with its own words when it does not."""
    deadline = time.monotonic() + _SERVER_START_TIMEOUT_S
    while not _answers(socket):
        if server.poll() is not None or time.monotonic() > deadline:
            message = " ".join(log.read_text(errors="replace").split())[-_SHOWN:]
            raise EngineError(f"ovsdb-server did not start: {message or 'no reason given'}")
        time.sleep(0.005)


def _answers(path: Path) -> bool:
    """Say whether the server answers: it listens before it has read its database, or failed to."""
    with sockets.socket(sockets.AF_UNIX) as asking:
        asking.settimeout(_SERVER_START_TIMEOUT_S)
        try:
            asking.connect(str(path))
            asking.sendall(_ECHO)
            return bool(asking.recv(1))
        except OSError:
            return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Kill the server and its child: it would free a big database bit by bit, and has a copy."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
