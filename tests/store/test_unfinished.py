"""What a run can be gone on from: the traces that ran, and no others."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from audit.errors import OutputError, RunReadError
from audit.model.packets import Microflow, Protocol
from audit.model.traces import (
    AclMatch,
    DatapathTrace,
    Hop,
    HopEnd,
    LogicalTrace,
    TraceFailure,
    TraceOutcome,
    Tunnel,
)
from audit.model.verdicts import Reason
from audit.store import outcomes
from audit.store.layout import digest, manifest_text, read_manifest
from audit.store.lock import exclusively
from audit.store.reader import open_run
from audit.store.unfinished import read_plan, sift, take_over
from audit.store.writer import RunWriter
from tests.store.conftest import trace

if TYPE_CHECKING:
    from tests.store.conftest import Example

HOP = Hop(
    end=HopEnd.OUTPUT,
    port="shop_cart",
    acls=(
        AclMatch(
            stage="ls_out_acl", datapath="a", action="allow", logical_flow="0a1b", priority=1001
        ),
    ),
    backends=("[fd00::1]:80",),
    choices=(1, 2),
    text='/* ünïcode */ output("x");',
)
INSIDE = Microflow(
    inport="",
    eth_src="0a:58:0a:f4:00:01",
    eth_dst="0a:58:0a:f4:00:02",
    ip_src="10.244.0.1",
    ip_dst="10.244.0.2",
    protocol=Protocol.TCP,
    src_port=52888,
    dst_port=80,
)
RAN = LogicalTrace(key="ran", hop=HOP, output="")
TUNNELLED = DatapathTrace(
    key="tunnelled",
    hop=Hop(end=HopEnd.TUNNELLED),
    output="",
    flow="tcp,in_port=3",
    tunnel=Tunnel(local="127.0.0.1", remote="127.0.0.2", key=7, metadata=0x10002),
    packet=INSIDE,
)
FAILED = TraceFailure(key="failed", reason=Reason.ENGINE_TIMEOUT, message="too slow")


def row(outcome: TraceOutcome) -> Any:
    return trace(outcome.key, read=outcome)


@pytest.mark.parametrize("outcome", [RAN, TUNNELLED], ids=lambda outcome: outcome.key)
def test_what_was_read_of_a_trace_comes_back(outcome: LogicalTrace) -> None:
    text = outcomes.encode(outcome)
    assert text is not None
    assert outcomes.decode(outcome.key, text) == outcome


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"hop": 1}', '{"hop": {"end": "flew"}}', "\x00"])
def test_what_is_no_reading_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own words
        outcomes.decode("key", text)


def test_what_failed_is_taken_out_and_what_ran_is_kept(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "run")
    writer.write_traces("mixed", [row(RAN), row(FAILED)])
    writer.write_traces("whole", [row(TUNNELLED)])
    writer.write_traces("lost", [trace("fork")])
    (writer.path / "traces" / "torn.parquet").write_bytes(b"PAR1 half a file")
    before = (writer.path / "traces" / "whole.parquet").stat()

    kept = sift(writer.path)

    assert {key: outcomes.decode(key, text) for key, text in kept.items()} == {
        "ran": RAN,
        "tunnelled": TUNNELLED,
    }
    files = sorted((writer.path / "traces").iterdir())
    assert [file.name for file in files] == ["mixed.parquet", "whole.parquet"]
    after = files[1].stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert pq.read_table(files[0])["trace_id"].to_pylist() == ["ran"]


def test_a_finished_run_gives_its_traces_away_and_keeps_them(tmp_path: Path) -> None:
    old = RunWriter(tmp_path, "old")
    old.write_traces("mixed", [row(RAN), row(FAILED)])
    old.write_traces("changed", [row(TUNNELLED)])
    old.finish({})
    manifest = read_manifest(old.path)
    digests = {output["path"]: output["sha256"] for output in manifest["outputs"]}
    contents = (old.path / "traces" / "mixed.parquet").read_bytes()
    new = RunWriter(tmp_path, "new")
    new.write_plan({})

    take_over(old.path, new.path, digests | {"traces/changed.parquet": "0" * 64})

    assert list(sift(new.path)) == ["ran"]
    assert (old.path / "traces" / "mixed.parquet").read_bytes() == contents


def test_a_directory_without_a_plan_cannot_be_resumed(example: "Example", tmp_path: Path) -> None:
    path = example.write(tmp_path).path
    with pytest.raises(RunReadError, match=r"no plan\.json.*run again"):
        read_plan(path)
    for text in ("{", "[]", '{"schema_version": 1}', "\xff", "[" * 100_000):
        (path / "plan.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(RunReadError, match="run again"):
            read_plan(path)


def test_left_it_keeps_what_can_be_gone_on_with(tmp_path: Path) -> None:
    nothing = RunWriter(tmp_path / "runs", "nothing")
    nothing.write_plan({})
    assert not nothing.leave()
    assert not (tmp_path / "runs").exists()

    something = RunWriter(tmp_path / "runs", "something")
    something.write_plan({})
    something.write_traces("batch", [row(RAN)])
    assert something.leave()
    assert list(sift(something.path)) == ["ran"]


def test_again_removes_what_is_made_anew(example: "Example", tmp_path: Path) -> None:
    path = example.write(tmp_path).path
    (path / "traces" / ".b.parquet.partial").write_text("half")
    RunWriter.again(path)
    assert not (path / "cells").exists()
    assert not list(path.rglob(".*"))
    assert list(path.glob("traces/*.parquet"))


def test_two_writers_of_one_directory_are_refused(tmp_path: Path) -> None:
    with exclusively(tmp_path), pytest.raises(OutputError, match="another audit is writing"):
        exclusively(tmp_path).__enter__()
    with exclusively(tmp_path):
        pass


def test_a_killed_writer_holds_no_lock(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(writing, b".")
        os.read(os.pipe()[0], 1)
    os.read(reading, 1)
    with pytest.raises(OutputError):
        exclusively(tmp_path).__enter__()
    os.kill(child, 9)
    os.waitpid(child, 0)
    with exclusively(tmp_path):
        pass


def test_a_run_of_the_schema_before_is_read(run_path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run_path, old)
    for file in old.glob("traces/*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["read"]), file)
    manifest = json.loads((old / "run.json").read_text())
    manifest["schema_version"] = 2
    for output in manifest["outputs"]:
        output.update(digest(old, output["path"]))
    (old / "run.json").write_bytes(manifest_text(manifest))

    assert list(open_run(old).traces.all()) == list(open_run(run_path).traces.all())
