"""An OVN that is new enough for a snapshot: where there is none, one may be installed at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from audit.cli import say
from audit.commands import doctor as doctoring
from audit.errors import NoEngineError

_Result = TypeVar("_Result")

install_option = click.option(
    "--install-ovn",
    is_flag=True,
    help="Where no OVN here is new enough, install one that is, beside the system's. Without it, a "
    "terminal asks first.",
)


def provided(
    work: Callable[[], _Result], *, snapshot: Path | None, prefix: Path | None, install: bool
) -> _Result:
    """Return what `work` does; once more with an OVN that is installed for it, if it lacks one.

    That is done where it is asked for by `install`, or by who sits at a terminal; never where a
    `prefix` says which OVN is meant. `snapshot` is what was named: None for a live cluster.
    """
    tried: set[str] = set()
    while True:
        try:
            return work()
        except NoEngineError as error:
            wanted = error.needed not in tried and prefix is None and (install or _asked(error))
            if not wanted:
                raise NoEngineError(
                    error.what, needed=error.needed, advice=_advice(error, snapshot, prefix)
                ) from error
            tried.add(error.needed)
            doctoring.install_engine(None, needed=error.needed, progress=tell)


def tell(sentence: str) -> None:
    """Tell how far an installation is."""
    say.line(sentence, err=True)


def _asked(error: NoEngineError) -> bool:
    """Ask whether to install an OVN; no where nobody would answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    say.line(error.what, err=True)
    question = f"Install OVN {error.needed} or newer now, without touching the system's?"
    return click.confirm(question, default=False, err=True)


def _advice(error: NoEngineError, snapshot: Path | None, prefix: Path | None) -> str:
    if prefix is not None:
        return (
            f"name a directory that holds OVN {error.needed} or newer with --ovn-prefix, or leave "
            "that out"
        )
    return doctoring.install_advice(snapshot) if snapshot else "--install-ovn installs one"
