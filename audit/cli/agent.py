"""`audit agent`: a node's databases, offered to a run."""

import platform
from pathlib import Path

import click

from audit.cli import groups, options
from audit.tracing.agents import OVS_RUNDIR, AgentOptions
from audit.tracing.agents import serve as serve_agent


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
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many traces may run on this node at once.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to look for a run before giving up.",
)
@options.ovn_prefix_option
def agent(
    *,
    address: str,
    node: str,
    zone: str,
    ovn_rundir: Path,
    ovs_rundir: Path,
    worker_count: int,
    wait: float,
    ovn_prefix: Path | None,
) -> None:
    """Trace on this node for a run elsewhere, on the node's own databases.

    It looks for the run, joins it, and ends with it. Both sides hold the same token
    (RAY_AUTH_TOKEN_PATH). Nothing is written to the databases.

    \b
    Example:
      audit agent --address ovn-audit-head:6379 --node worker-1
    """
    serve_agent(
        AgentOptions(
            address=address,
            node=node,
            zone=zone,
            ovn_rundir=ovn_rundir,
            ovs_rundir=ovs_rundir,
            workers=worker_count,
            wait_s=wait,
            ovn_prefix=ovn_prefix,
        )
    )
