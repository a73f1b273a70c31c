"""Zones that several processes read are those that one reads; whatever becomes of a process."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from audit.errors import DatabaseError
from audit.facts import snapshot, zones
from audit.model.facts import Zone
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.ovn

Read = Callable[[int], tuple[dict[str, Zone], list[str]]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(REPOSITORY / "tests" / "data" / "four-nodes.tar.xz") as archive:
        extract(archive, tmp_path / "cluster")
    return tmp_path / "cluster"


@pytest.fixture
def read(root: Path, tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read the zones in so many processes; return them and what is noted."""

    def with_processes(count: int) -> tuple[dict[str, Zone], list[str]]:
        monkeypatch.setattr(zones, "at_a_time", lambda _: count)
        workdir = tmp_path / f"work-{count}"
        source = zones.Source(
            opened=snapshot.open_snapshot(root, workdir),
            workdir=workdir,
            reader=OvsdbTool(programs=toolchain),
            endpoint_addresses=frozenset({"10.128.0.5"}),
        )
        read_zones, notes = zones.read(source)
        staged = [(zone.northbound, zone.southbound) for zone in read_zones.values()]
        assert all(file.exists() for pair in staged for file in pair)
        anywhere = {
            name: replace(zone, northbound=Path(), southbound=Path())
            for name, zone in read_zones.items()
        }
        return anywhere, [f"{note.code} {note.subjects} {note.text}" for note in notes]

    return with_processes


def test_several_processes_read_what_one_does(read: Read) -> None:
    alone, notes = read(1)
    together, same_notes = read(2)
    assert list(together) == list(alone) == [f"worker-{n}" for n in (1, 2, 3, 4)]
    for name, zone in alone.items():
        for field in fields(Zone):
            value, other = getattr(zone, field.name), getattr(together[name], field.name)
            assert value == other, field.name
            assert type(value) is type(other), field.name
    assert notes == same_notes == []


def test_what_zones_have_in_common_is_kept_once(read: Read) -> None:
    first, second, *_ = read(2)[0].values()
    assert first.stock.policies is second.stock.policies
    assert {id(b) for b in first.load_balancers} & {id(b) for b in second.load_balancers}
    (flow, other) = (
        next(f for f in zone.flows["join"] if f.stage == "ls_in_apply_port_sec")
        for zone in (first, second)
    )
    assert flow.match is other.match


def test_a_zone_that_cannot_be_read_is_noted_whoever_reads_it(read: Read, root: Path) -> None:
    (root / "ovn" / "worker-2" / "sb.db").write_text("nothing of OVN's")
    (root / "ovn" / "worker-3" / "nb.db").unlink()
    alone, notes = read(1)
    together, same_notes = read(2)
    assert list(together) == list(alone) == ["worker-1", "worker-4"]
    assert [note.split()[0] for note in notes] == ["zone-incomplete", "zone-unreadable"]
    assert notes == same_notes
    assert str(root / "ovn" / "worker-2" / "sb.db") in notes[1]


def test_where_no_zone_can_be_read_the_first_says_why(read: Read, root: Path) -> None:
    for file in root.glob("ovn/*/sb.db"):
        file.write_text("nothing of OVN's")
    with pytest.raises(DatabaseError, match=r"worker-1/sb\.db"):
        read(2)


class _Mortal(OvsdbTool):
    """Is killed with its process as it stages the second zone, half of which is staged then."""

    def stage(self, source: Path, target: Path) -> bool:
        if target.parent.name == "worker-2" and target.name == "sb.db" and os.getpid() != _TESTS:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().stage(source, target)


_TESTS = os.getpid()


def test_the_zones_of_a_process_that_is_killed_are_read_here(
    root: Path, tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zones, "at_a_time", lambda _: 2)
    source = zones.Source(
        opened=snapshot.open_snapshot(root, tmp_path / "work"),
        workdir=tmp_path / "work",
        reader=_Mortal(programs=toolchain),
        endpoint_addresses=frozenset(),
    )
    read_zones, notes = zones.read(source)
    assert list(read_zones) == [f"worker-{n}" for n in (1, 2, 3, 4)]
    assert not notes
    shutil.rmtree(tmp_path / "work")


_UNGUARDED = """
import os, sys
from pathlib import Path
from audit.facts import snapshot, zones
from audit.replay import toolchain
from audit.replay.databases import OvsdbTool
if os.getpid() != int(os.environ.setdefault("STARTED", str(os.getpid()))):
    sys.exit("a process that is to read zones ends before it is handed anything")
zones.at_a_time = lambda _: 2
root, work = map(Path, sys.argv[1:3])
prefix = Path(sys.argv[3]) if sys.argv[3:] else None
source = zones.Source(
    opened=snapshot.open_snapshot(root, work),
    workdir=work,
    reader=OvsdbTool(programs=toolchain.Toolchain(version=toolchain.NEWEST, prefix=prefix)),
    endpoint_addresses=frozenset(f"fd00::{n:x}" for n in range(100_000)),
)
print(*zones.read(source)[0])
"""
"""Its `__main__` is run again in each process that it starts, as multiprocessing does."""


def test_a_process_that_ends_before_it_is_handed_anything_is_not_waited_for(
    root: Path, tmp_path: Path, toolchain: Toolchain
) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(_UNGUARDED)
    ran = subprocess.run(
        [sys.executable, script, root, tmp_path / "work", *filter(None, [toolchain.prefix])],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == [f"worker-{n}" for n in (1, 2, 3, 4)]
    assert "ends before" in ran.stderr


@pytest.mark.parametrize("lacking", ["__init__", "submit"])
def test_where_no_process_can_be_started_zones_are_read_here(
    lacking: str, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(ProcessPoolExecutor, lacking, refused)
    read_zones, notes = read(2)
    assert list(read_zones) == [f"worker-{n}" for n in (1, 2, 3, 4)]
    assert not notes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1 << 20] * 50, 1),  # read in the time that processes take to start
        ([60 << 20] * 2, 2),
        ([60 << 20] * 50, 4),
        ([60 << 20, 300 << 20], 1),  # several of these do not fit in memory
    ],
)
def test_processes_are_started_where_there_is_much_to_read_and_room_for_it(
    sizes: list[int], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    files = {}
    for number, size in enumerate(sizes):
        file = tmp_path / str(number)
        with file.open("wb") as opened:
            opened.truncate(size)
        empty = tmp_path / "empty"
        empty.touch()
        files[str(number)] = (file, empty)
    assert zones.at_a_time(files) == expected
