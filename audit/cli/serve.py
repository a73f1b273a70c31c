"""`audit serve`: the pages of a root's runs, for a browser."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click
import waitress

from audit.cli import groups, run_arguments, say
from audit.commands import copy as copying
from audit.commands import history as histories
from audit.commands import serve as sites
from audit.errors import OutputError, UsageError
from audit.model.endpoints import MAX_PORT
from audit.model.options import LOOPBACK

THREADS = 4
CONNECTIONS = 64
IDLE_SECONDS = 30
HEADER_BYTES = 16_384
BODY_BYTES = 1_024
"""No request has a body."""


@groups.command()
@run_arguments.root_argument
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where to listen; port 0 takes a free one. Beyond loopback, put a login in front.",
)
@click.option(
    "--host-name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A host name that browsers reach this server by, besides localhost. Repeatable.",
)
def serve(*, root: Path | copying.RemoteDirectory, listen: str, names: tuple[str, ...]) -> None:
    """Show the pages of the runs below ROOT to browsers, until it is stopped.

    ROOT is what `audit run --out` was given, also on an object store. By default it is where `audit
    run` writes: AUDIT_RUN_OUT, else --out of the options file, else runs. It is only read: the
    index of all runs, and each run's page as the audit wrote it. There is no login: whoever reaches
    the address reads who can reach whom, so it is this machine's alone unless --listen says
    otherwise.

    \b
    Examples:
      audit serve runs
      audit serve s3://audits/prod --listen 127.0.0.1:9000
      audit serve /runs --listen 0.0.0.0:8080 --host-name audits.example.com
    """
    run_arguments.require_root(root)
    address, port = _address(listen)
    histories.past(root)  # a root that cannot be read is said now, not to the first browser
    try:
        server = waitress.create_server(
            sites.Site(root, frozenset(name.lower() for name in names)),
            host=address,
            port=port,
            threads=THREADS,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=BODY_BYTES,
            clear_untrusted_proxy_headers=True,
            ident=None,
        )
    except OSError as error:
        text = f"cannot listen on {listen}: {error.strerror or error}; name another with --listen"
        raise OutputError(text) from error
    if not ip_address(address).is_loopback:
        text = "audit: everyone who reaches this address can read the pages: put a login in front"
        say.line(text, err=True)
    host = f"[{address}]" if ":" in address else address
    say.line(f"http://{host}:{server.effective_port}/")
    server.run()


def _address(listen: str) -> tuple[str, int]:
    """Return the address and the port; UsageError when they are none."""
    host, _, port = listen.rpartition(":")
    address = "127.0.0.1" if host.lower() == LOOPBACK else host.strip("[]")
    try:
        ip_address(address)
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_PORT:
        text = f"--listen {listen!r} is no address and port: write 127.0.0.1:8080 or [::1]:8080"
        raise UsageError(text)
    return address, number
