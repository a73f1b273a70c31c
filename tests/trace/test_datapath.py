"""What a datapath tracer makes of switches that are not there, or that do not answer."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from audit.errors import EngineError
from audit.model.datapath import Chassis, Ofport, Pipelines, Switch
from audit.model.tasks import keyed
from audit.model.traces import (
    DatapathTask,
    DatapathTrace,
    HopEnd,
    TraceBatch,
    TraceFailure,
    Tunnel,
)
from audit.model.verdicts import Reason
from audit.replay import own
from audit.replay.toolchain import Toolchain
from audit.trace.datapath import DatapathTracer, Sockets, entrance
from tests.verdict import made

CHASSIS = Chassis(name="c1", node="worker", zone="worker", address="10.0.0.1")
SWITCH = Switch(
    chassis=CHASSIS,
    vswitchd=Path("/nowhere/vs.ctl"),
    controller=Path("/nowhere/oc.ctl"),
    database=Path("/nowhere/db.sock"),
    vifs={"shop_a": Ofport("a", 1)},
    localnets={"br-ex_worker": Ofport("patch", 2)},
    tunnels={"c2": Ofport("ovn-c2-0", 3)},
    encaps={"c2": "10.0.0.2"},
)


def task(**changed: object) -> DatapathTask:
    asked = made.task()
    values = {field.name: getattr(asked, field.name) for field in fields(asked)}
    return keyed(replace(DatapathTask(**values, node="worker"), **changed))  # type: ignore[arg-type]


@pytest.fixture
def tracer(toolchain: Toolchain) -> DatapathTracer:
    return DatapathTracer(
        reach=Sockets(programs=toolchain, switches={"worker": SWITCH}),
        switches={"worker": SWITCH},
        zones={"worker": made.zone()},
        pipelines={"worker": Pipelines(stages={}, datapaths={})},
        timeout_s=1,
    )


def test_packets_enter_by_what_their_port_is_on_the_node() -> None:
    assert entrance(task(), SWITCH) == "a"
    outside = replace(made.FLOW, inport="br-ex_worker")
    assert entrance(task(microflow=outside), SWITCH) == "patch"
    assert entrance(task(microflow=replace(made.FLOW, inport="shop_b")), SWITCH) is None
    tunnel = Tunnel(local="10.0.0.2", remote="10.0.0.1", key=1, metadata=2)
    assert entrance(task(tunnel=tunnel), SWITCH) == "ovn-c2-0"
    assert entrance(task(tunnel=replace(tunnel, local="10.0.0.9")), SWITCH) is None


def test_each_task_has_its_outcome_whatever_is_missing(tracer: DatapathTracer) -> None:
    unbound = task(microflow=replace(made.FLOW, inport="shop_b"))
    tasks = (made.task(), task(node="gone"), task(), unbound)
    with tracer:
        logical, missing, lost, refused = tracer.run(TraceBatch(zone="worker", tasks=tasks))
    for outcome, reason in (
        (logical, Reason.NODE_MISSING),
        (missing, Reason.NODE_MISSING),
        (lost, Reason.ENGINE_LOST),
    ):
        assert isinstance(outcome, TraceFailure)
        assert outcome.reason is reason
    assert isinstance(refused, DatapathTrace)
    assert refused.hop.end is HopEnd.UNBOUND
    assert "shop_b" in refused.hop.text
    assert [logical.key, missing.key, lost.key, refused.key] == [one.key for one in tasks]


def test_a_switch_that_is_missing_at_an_agent_is_said_to_be(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="has no ovs-vswitchd: No such file") as failed:
        own.switch(toolchain, CHASSIS, tmp_path)
    reach = Sockets(programs=toolchain, switches={})
    why = str(failed.value)
    tracer = DatapathTracer(reach=reach, switches={}, zones={}, pipelines={}, why=why)
    [outcome] = tracer.run(TraceBatch(zone="worker", tasks=(task(),)))
    assert isinstance(outcome, TraceFailure)
    assert outcome.reason is Reason.NODE_MISSING
    assert outcome.message == f"no Open vSwitch of worker is at hand: {why}"
