"""Real database files, whole and damaged, read and served by each installed OVN."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from audit.errors import DatabaseError, EngineError
from audit.replay import databases
from audit.replay import toolchain as toolchains
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from tests.archives import extract

NB = "OVN_Northbound"
GLOBAL = ("nb_cfg",)


FOUND = {str(found.version): found for found in toolchains.find()}


@pytest.fixture(scope="session", params=sorted(FOUND) or ["none"])
def engine(request: pytest.FixtureRequest) -> Toolchain:
    """Return each OVN at hand; the files' format is the same for all of them."""
    if request.param not in FOUND:
        pytest.fail(f"OVN is not installed; run `{toolchains.INSTALL_COMMAND}`")
    return FOUND[request.param]


@pytest.fixture(scope="session")
def zone(tmp_path_factory: pytest.TempPathFactory, example_snapshot: Path) -> Path:
    """Return a recorded zone; tests only read it."""
    root = tmp_path_factory.mktemp("recorded")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root)
    return root / "ovn/ovn-worker"


@pytest.fixture
def tool(engine: Toolchain) -> OvsdbTool:
    return OvsdbTool(programs=engine)


def set_nb_cfg(number: int) -> str:
    row = {"nb_cfg": number}
    return json.dumps([NB, {"op": "update", "table": "NB_Global", "where": [], "row": row}])


def call(engine: Toolchain, program: str, *arguments: object) -> None:
    argv = engine.argv(program, *map(str, arguments))
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert "error" not in done.stdout, done.stdout


def serve_and_change(engine: Toolchain, database: Path) -> None:
    """Let a real ovsdb-server write three transactions: nb_cfg 1, 2 and 3."""
    socket = database.with_suffix(".sock")
    argv = engine.argv(
        "ovsdb-server",
        str(database),
        f"--remote=punix:{socket}",
        f"--unixctl={database.with_suffix('.ctl')}",
        "--log-file=/dev/null",
    )
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(socket.exists)
            for number in (1, 2, 3):
                client = ("ovsdb-client", "transact", f"unix:{socket}", set_nb_cfg(number))
                call(engine, *client)
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def standalone(engine: Toolchain, zone: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a standalone file with three transactions after the data."""
    database = tmp_path_factory.mktemp("standalone") / "nb.db"
    database.write_bytes((zone / "nb.db").read_bytes())
    serve_and_change(engine, database)
    return database.read_bytes()


@pytest.fixture(scope="session")
def clustered(engine: Toolchain, zone: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a clustered file of a cluster of one, with three transactions in its log."""
    root = tmp_path_factory.mktemp("clustered")
    raft = f"unix:{root / 'raft.sock'}"
    call(engine, "ovsdb-tool", "create-cluster", root / "nb.db", zone / "nb.db", raft)
    serve_and_change(engine, root / "nb.db")
    return (root / "nb.db").read_bytes()


def offsets(content: bytes, magic: bytes = b"OVSDB JSON ") -> list[int]:
    """Return where each record of a file begins."""
    found, at = [], content.find(magic)
    while at >= 0:
        found.append(at)
        at = content.find(magic, at + 1)
    return found


def staged(tool: OvsdbTool, tmp_path: Path, content: bytes) -> tuple[bool, object]:
    """Stage a file with `content`; return whether it was torn, and the nb_cfg in it."""
    source, target = tmp_path / "given.db", tmp_path / "staged.db"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    torn = tool.stage(source, target)
    return torn, tool.tables(target, NB).rows("NB_Global", GLOBAL)[0]["nb_cfg"]


def refused(tool: OvsdbTool, tmp_path: Path, content: bytes) -> str:
    with pytest.raises(DatabaseError) as caught:
        staged(tool, tmp_path, content)
    assert str(tmp_path) in str(caught.value)
    return str(caught.value)


# --- staging


def test_a_whole_file(tool: OvsdbTool, tmp_path: Path, standalone: bytes) -> None:
    assert staged(tool, tmp_path, standalone) == (False, 3)
    assert (tmp_path / "staged.db").read_bytes() == standalone


def test_a_clustered_file_becomes_a_standalone_one(
    tool: OvsdbTool, tmp_path: Path, clustered: bytes
) -> None:
    assert staged(tool, tmp_path, clustered) == (False, 3)
    assert (tmp_path / "staged.db").read_bytes().startswith(b"OVSDB JSON ")
    # Of what it made on the way nothing is left but ovsdb-tool's lock.
    left = {p.name for p in tmp_path.iterdir()} - {".staged.db.~lock~"}
    assert left == {"given.db", "staged.db"}


def test_a_member_that_never_joined_has_nothing(
    engine: Toolchain, tool: OvsdbTool, tmp_path: Path
) -> None:
    joining = tmp_path / "joining.db"
    remotes = (f"unix:{tmp_path / 'own.sock'}", f"unix:{tmp_path / 'other.sock'}")
    call(engine, "ovsdb-tool", "join-cluster", joining, NB, *remotes)
    with pytest.raises(DatabaseError, match=r"joining.db holds nothing: .* another member"):
        tool.stage(joining, tmp_path / "staged.db")


def test_an_empty_database_is_whole(engine: Toolchain, tool: OvsdbTool, tmp_path: Path) -> None:
    call(engine, "ovsdb-tool", "create", tmp_path / "new.db", engine.schema("ovn-nb.ovsschema"))
    assert tool.stage(tmp_path / "new.db", tmp_path / "staged.db") is False
    assert tool.tables(tmp_path / "staged.db", NB).rows("NB_Global", GLOBAL) == []


def test_a_torn_last_record_is_left_out(tool: OvsdbTool, tmp_path: Path, standalone: bytes) -> None:
    last = offsets(standalone)[-1]
    # In the header, right after it, in the data, one byte short.
    for cut in (last + 4, last + 20, last + 62, last + 100, len(standalone) - 1):
        assert staged(tool, tmp_path, standalone[:cut]) == (True, 2)
    assert staged(tool, tmp_path, standalone[:last]) == (False, 2)
    assert staged(tool, tmp_path, standalone + bytes(512)) == (True, 3)


def test_a_torn_clustered_file(tool: OvsdbTool, tmp_path: Path, clustered: bytes) -> None:
    starts = offsets(clustered, b"OVSDB CLUSTER ")
    # The last record is a commit index, the one before it the third transaction.
    assert staged(tool, tmp_path, clustered[:-3]) == (True, 3)
    assert staged(tool, tmp_path, clustered[: starts[-2] + 90]) == (True, 2)
    assert "is truncated" in refused(tool, tmp_path, clustered[: starts[1] - 100])


@pytest.mark.parametrize("cut", ["in the schema", "in the only data", "in the data's header"])
def test_a_file_without_any_data_left(
    tool: OvsdbTool, tmp_path: Path, zone: Path, cut: str
) -> None:
    content = (zone / "nb.db").read_bytes()
    schema, data = offsets(content)
    end = {"in the schema": data - 9, "in the only data": len(content) - 9}.get(cut, data + 9)
    complaint = refused(tool, tmp_path, content[schema:end])
    assert (
        "given.db is truncated: it ends before its data does; copy the database again" in complaint
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty; copy the database again, or remove its zone"),
        (b"garbage", "is not an OVSDB file"),
        (b"OVSDB JSO", "is not an OVSDB file"),
        (b"SQLite format 3\0", "is not an OVSDB file"),
        (b"OVSDB JSON -9 0\n" * 3, "is truncated"),
        (b"OVSDB JSON x 0\n", "is truncated"),
        (b"OVSDB JSON 3 0123456789012345678901234567890123456789\n{}\n", "SHA-1"),
        (b"OVSDB JSON 3 0123456789012345678901234567890123456789\n[]\n", "SHA-1"),
        (b"OVSDB CLUSTER 3 0123456789012345678901234567890123456789\n{}\n", "cannot be read"),
    ],
)
def test_what_is_no_database(
    tool: OvsdbTool, tmp_path: Path, content: bytes, complaint: str
) -> None:
    assert complaint in refused(tool, tmp_path, content)


def test_damage_in_the_middle_is_never_passed_over(
    tool: OvsdbTool, tmp_path: Path, standalone: bytes
) -> None:
    *_, second, third = offsets(standalone)
    flipped = standalone.replace(b'"nb_cfg":2', b'"nb_cfg":7')
    assert "SHA-1" in refused(tool, tmp_path, flipped)
    # A hole before the last record: what follows must not be lost silently.
    for hole in (
        standalone[: second + 30] + standalone[third:],
        standalone[:second] + b"\n\n" + standalone[second:],
    ):
        assert "is damaged after" in refused(tool, tmp_path, hole)


def test_a_read_only_source_in_a_read_only_directory(
    engine: Toolchain, tool: OvsdbTool, tmp_path: Path, standalone: bytes, clustered: bytes
) -> None:
    place = tmp_path / "snapshot"
    place.mkdir()
    for name, content in (("a.db", standalone), ("b.db", clustered)):
        (place / name).write_bytes(content)
        (place / name).chmod(0o400)
        (tmp_path / f"run-{name}").mkdir()
    place.chmod(0o500)
    for name in ("a.db", "b.db"):
        assert tool.stage(place / name, tmp_path / name) is False
        with databases.serve(engine, tmp_path / name, place.parent / f"run-{name}") as socket:
            assert ask(engine, socket) == 1
    assert sorted(p.name for p in place.iterdir()) == ["a.db", "b.db"]
    place.chmod(0o700)


def test_a_file_that_cannot_be_read(
    tool: OvsdbTool, tmp_path: Path, zone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatabaseError, match=r"nope.db cannot be read: No such file"):
        tool.stage(tmp_path / "nope.db", tmp_path / "x")
    with pytest.raises(DatabaseError, match="cannot be read: Is a directory"):
        tool.stage(tmp_path, tmp_path / "x")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    torn = tmp_path / "torn.db"
    torn.write_bytes((zone / "nb.db").read_bytes() + b"OVSDB")
    with pytest.raises(DatabaseError, match=r"torn.db cannot be copied: No space left"):
        tool.stage(torn, tmp_path / "x")


def test_an_ovsdb_tool_that_hangs_is_given_up(
    tool: OvsdbTool, tmp_path: Path, clustered: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_TOOL_TIMEOUT_S", 0.0001)
    assert "ovsdb-tool did not finish in" in refused(tool, tmp_path, clustered)


# --- serving


def wait_for(condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def servers_of(rundir: Path) -> list[int]:
    """Return the processes that have `rundir` on their command line, other than this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0] if words else "Z"
        except OSError:  # it ended meanwhile
            continue
        if os.fsencode(rundir) in words and state != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@pytest.fixture
def rundirs(tmp_path: Path) -> Iterator[Path]:
    for name in "ab":
        (tmp_path / name).mkdir()
    yield tmp_path
    wait_for(lambda: not servers_of(tmp_path))  # a killed process is gone a moment later


def ask(engine: Toolchain, socket: Path) -> int:
    query = json.dumps([NB, {"op": "select", "table": "NB_Global", "where": [], "columns": []}])
    done = subprocess.run(
        engine.argv("ovsdb-client", "transact", f"unix:{socket}", query),
        check=True,
        capture_output=True,
        text=True,
    )
    return len(json.loads(done.stdout)[0]["rows"])


def test_two_servers_of_one_database(engine: Toolchain, zone: Path, rundirs: Path) -> None:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(databases.serve(engine, zone / "nb.db", rundirs / name))
            for name in "ab"
        ]
        assert [ask(engine, socket) for socket in sockets] == [1, 1]
        assert len(servers_of(rundirs)) >= 2
    wait_for(lambda: not servers_of(rundirs))


def test_an_error_in_the_body_leaves_no_server(
    engine: Toolchain, zone: Path, rundirs: Path
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KeyError), databases.serve(engine, zone / "nb.db", rundirs / "a"):
        raise KeyError
    wait_for(lambda: not servers_of(rundirs))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_server_goes_when_its_parent_is_killed(
    engine: Toolchain, zone: Path, rundirs: Path
) -> None:
    program = """
import sys, time
from pathlib import Path
from audit.replay import databases
from audit.replay.toolchain import Toolchain, Version
prefix = Path(sys.argv[3]) if sys.argv[3] else None
engine = Toolchain(Version.parse("1.2.3"), prefix)
with databases.serve(engine, Path(sys.argv[1]), Path(sys.argv[2])) as socket:
    print(socket, flush=True)
    time.sleep(300)
"""
    arguments = (str(zone / "nb.db"), str(rundirs / "a"), str(engine.prefix or ""))
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as parent:
        assert parent.stdout is not None
        socket = Path(parent.stdout.readline().strip())
        assert ask(engine, socket) == 1
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not servers_of(rundirs))


def test_a_server_that_does_not_start_says_why(engine: Toolchain, rundirs: Path) -> None:
    (rundirs / "garbage.db").write_bytes(b"garbage")
    with (
        pytest.raises(EngineError, match=r"ovsdb-server did not start: .*ovsdb error: .*/a/db: "),
        databases.serve(engine, rundirs / "garbage.db", rundirs / "a"),
    ):
        pytest.fail("it started")


def test_a_program_that_is_not_executable(
    engine: Toolchain, zone: Path, rundirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(Toolchain, "argv", lambda *_: (str(rundirs / "nothing"),))
    with (
        pytest.raises(EngineError, match=r"ovsdb-server did not start: .*No such file"),
        databases.serve(engine, zone / "nb.db", rundirs / "a"),
    ):
        pytest.fail("it started")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_socket_path_may_have_107_bytes(engine: Toolchain, zone: Path, tmp_path: Path) -> None:
    room = 107 - len(str(tmp_path)) - len("//db.sock")
    longest = tmp_path / ("x" * room)
    longest.mkdir()
    with databases.serve(engine, zone / "nb.db", longest) as socket:
        assert len(str(socket)) == 107
        assert ask(engine, socket) == 1
    longer = tmp_path / ("x" * (room + 1))
    longer.mkdir()
    with (
        pytest.raises(EngineError, match=r"longer than a Unix socket's path may be \(107 bytes\)"),
        databases.serve(engine, zone / "nb.db", longer),
    ):
        pytest.fail("it started")
