"""plan → the nodes' own Open vSwitches, asked in their pods, by exec."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from audit.errors import AuditError, EngineError
from audit.facts.live.access import Access
from audit.model.datapath import Chassis, Switch
from audit.model.facts import Note
from audit.replay import ports
from audit.trace import ofproto
from audit.trace.ofproto_walk import Groups
from audit.trace.pods import PodSwitches, Streams
from audit.tracing.options import Progress
from audit.tracing.plan import Planned
from audit.tracing.switches import OWN, Running, Start, chassis_of

if TYPE_CHECKING:
    from audit.facts.live.execs import Container

_Answer = str | AuditError


def of(cluster: Access) -> Start:
    """Return what finds the switches of a cluster, which run already."""
    return functools.partial(_all, cluster)


def _all(cluster: Access, planned: Planned, progress: Progress, _: ExitStack) -> Running:
    progress.phase("asking the nodes' switches", 0)
    chassis = chassis_of(planned)
    return ask(cluster, chassis, chassis)


def ask(cluster: Access, chassis: Sequence[Chassis], wanted: Iterable[Chassis]) -> Running:
    """Ask the switches of those that are wanted among all `chassis` for their ports and groups.

    Where one does not answer, a note says why. ClusterError when it cannot be seen where they are.
    """
    from audit.facts.live import ovn_pods, streams  # noqa: PLC0415 - only who asks a cluster pays for its client

    wanted, where = tuple(wanted), _containers(cluster)
    containers = {each.node: (where[each.node],) for each in wanted if each.node in where}
    opener = streams.Opener(access=cluster, containers=containers)
    query = json.dumps(["Open_vSwitch", *ports.QUERY])
    rows = opener.outputs(
        ("ovsdb-client", "transact", f"unix:{ovn_pods.OVS_RUNDIR}/db.sock", query)
    )
    answering = {node: containers[node] for node, answer in rows.items() if isinstance(answer, str)}
    bridge = f"unix:{ovn_pods.OVS_RUNDIR}/{ofproto.BRIDGE}.mgmt"
    groups = replace(opener, containers=answering).outputs(ofproto.dump_groups(bridge))
    switches: dict[str, Switch] = {}
    tables: dict[str, Groups] = {}
    failures: dict[str, str] = {}
    for each in wanted:
        try:
            switches[each.node], tables[each.node] = _read(each, rows, groups)
        except AuditError as error:
            failures[each.node] = str(error)
    return Running(
        chassis=tuple(chassis),
        switches=switches,
        southbound={},
        reach=PodSwitches(
            streams=Streams(stream=opener, ready_s=cluster.exec_timeout_s), tables=tables
        ),
        missing=failures,
        notes=Note.of_each("node-untraceable", "the switch of node {} is not asked", failures),
        location=OWN,
    )


def _containers(cluster: Access) -> dict[str, "Container"]:
    """Return where the switch of each node is now."""
    from audit.facts.live import api, ovn_pods  # noqa: PLC0415 - as above

    with api.Server(cluster) as server:
        pods = server.items(ovn_pods.PODS)[1]
    return ovn_pods.switches(pods, ovn_pods.find(pods, cluster.namespace).namespace)


def _read(
    chassis: Chassis, rows: Mapping[str, _Answer], groups: Mapping[str, _Answer]
) -> tuple[Switch, Groups]:
    """Read what a node's switch said of itself; AuditError when that is nothing of use."""
    if chassis.node not in rows:
        raise EngineError("no running pod has its sockets now")
    try:
        ovsdb_rows = json.loads(_heard(rows[chassis.node]))
        switch = ports.with_ports(Switch(chassis=chassis), ovsdb_rows)
        return switch, ofproto.groups(_heard(groups[chassis.node]))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise EngineError(f"its ports or groups cannot be read: {error!r}") from error


def _heard(answer: _Answer) -> str:
    if isinstance(answer, AuditError):
        raise answer
    return answer
