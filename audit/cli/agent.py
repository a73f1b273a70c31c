"""`audit agent`: a node's databases, offered to a run."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import click

from audit.cli import groups, options
from audit.model.options import OVS_RUNDIR
from audit.tracing import agents


@groups.command()
@click.option(
    "--address",
    required=True,
    metavar="HOST:PORT",
    help="Where the run listens (`audit run --workers agents`).",
)
@click.option(
    "--node",
    default=platform.node,
    show_default="the host's name",
    help="The Kubernetes node this is; in a pod, spec.nodeName.",
)
@click.option(
    "--zone",
    default="",
    show_default="what the northbound database says",
    help="The zone whose databases are here.",
)
@click.option(
    "--ovn-rundir",
    type=click.Path(path_type=Path),
    default=Path("/var/run/ovn"),
    show_default=True,
    help="The directory with the node's ovnsb_db.sock and ovnnb_db.sock.",
)
@click.option(
    "--ovs-rundir",
    type=click.Path(path_type=Path),
    default=OVS_RUNDIR,
    show_default=True,
    help="The directory with the sockets of the node's Open vSwitch, for --planes datapath.",
)
@click.option(
    "--worker-count",
    "workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many traces may run on this node at once.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to look for a run before giving up.",
)
@options.ovn_prefix_option
def agent(**given: Any) -> None:  # noqa: ANN401 - click hands on the options above
    """Trace on this node for a run elsewhere, on the node's own databases.

    It looks for the run, joins it, and ends with it. Both sides hold the same token
    (RAY_AUTH_TOKEN_PATH). Nothing is written to the databases.

    \b
    Example:
      audit agent --address ovn-audit-head:6379 --node worker-1
    """
    agents.serve(agents.AgentOptions(**given))
