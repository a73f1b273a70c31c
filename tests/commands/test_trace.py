"""What cannot be had of the datapath is said, and the logical plane answers alone."""

from pathlib import Path

import pytest

from audit.cli.progress import Silent
from audit.commands.trace import TraceOptions, trace
from audit.errors import EngineError
from audit.model.endpoints import Port
from audit.model.packets import Protocol
from audit.model.stages import PairTrace, Tool
from audit.model.verdicts import Reason, Verdict
from audit.report.trace import has_findings, is_complete
from audit.scope.pair import Names
from audit.trace.detrace import Detracer

pytestmark = pytest.mark.ovn

NAMES = Names(
    src_namespace="prod",
    src="prod-client-0",
    dst_namespace="default",
    dst="web-1",
    port=Port(protocol=Protocol.TCP, number=80),
)


def traced(snapshot: Path, *, raw: bool = False) -> PairTrace:
    (found,) = trace(TraceOptions(snapshot=snapshot, names=NAMES, raw=raw), Silent())
    assert found.logical.verdict is Verdict.REACHABLE
    assert found.answer == found.logical
    assert not has_findings(found)
    return found


def test_half_an_ovn_traces_the_logical_plane(
    example_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.tracing.switches.PROGRAMS", ("ovsdb-server", "ovs-nothing"))
    found = traced(example_snapshot)
    assert found.datapath is None
    assert not is_complete(found)
    assert {stage.tool for stage in found.stages} == {Tool.OVN_TRACE}
    [note] = found.notes
    assert note.startswith("skipped ofproto/trace and ovn-detrace: there is no ovs-nothing ")


def test_switches_that_do_not_start_are_no_answer(
    example_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("node ovn-worker did not start: no reason given")

    monkeypatch.setattr("audit.tracing.switches.started", refuse)
    found = traced(example_snapshot)
    assert not is_complete(found)
    assert found.notes == (
        "skipped ofproto/trace and ovn-detrace: node ovn-worker did not start: no reason given",
    )


def test_a_node_that_is_not_replayed_proves_nothing(
    example_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.commands.trace.MOST_NODES", 1)
    found = traced(example_snapshot)
    assert found.datapath is not None
    assert found.datapath.reason is Reason.NODE_MISSING
    assert not found.drifts
    assert any("2 nodes have a part in it" in note for note in found.notes)


def test_without_the_program_the_mapping_in_memory_is_there(
    example_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("ovn-detrace failed: no module ovs")

    monkeypatch.setattr(Detracer, "run", refuse)
    found = traced(example_snapshot, raw=True)
    assert is_complete(found)
    detraced = [stage for stage in found.stages if stage.tool is Tool.OVN_DETRACE]
    assert len(detraced) == 4
    assert all(stage.indicates == "success" and not stage.outputs for stage in detraced)
    owners = {source.owner for stage in detraced for source in stage.sources}
    assert "networkpolicy default/web-allow-prod ingress[0]" in owners
    assert all("skipped the program ovn-detrace" in note for note in found.notes)
    assert found.notes
