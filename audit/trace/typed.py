"""Traces as commands a reader can type where the databases and switches are. Pure.

What is traced here goes through daemons and sockets; a process per trace says the same
(docs/traces.md).
"""

import shlex

from audit.model.datapath import Switch
from audit.model.traces import DatapathTask, TraceTask
from audit.trace import ofproto
from audit.trace.datapath import entrance
from audit.trace.microflow import UnnameableError, expression

_STEPS = 8
"""Conntrack steps whose state is stated: more than a trace in one place takes."""


def ovn_trace(task: TraceTask) -> str:
    """Return the command that asks a zone's southbound database.

    A port whose name cannot be typed makes it data.
    """
    select = (f"--select-id={task.select}",) if task.select else ()
    states = (f"--ct={task.state}",) * _STEPS
    try:
        return shlex.join(("ovn-trace", "--detailed", *states, *select, expression(task.microflow)))
    except UnnameableError:
        return repr(task.microflow)


def ofproto_trace(task: DatapathTask, switch: Switch) -> str:
    """Return the command that asks a node's Open vSwitch."""
    in_port = entrance(task, switch) or "none"
    flow = ofproto.flow(task.microflow, in_port, tunnel=task.tunnel)
    states = ("--ct-next", f"trk,{task.state}") * _STEPS
    return shlex.join(("ovs-appctl", "ofproto/trace", ofproto.BRIDGE, flow, *states))


def ovn_detrace(node: str) -> str:
    """Return the command that is given the trace of a node as its input."""
    return f"ovn-detrace  # in the zone of {node}, with the trace above as its input"
