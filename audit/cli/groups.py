"""The help of a command: its options by what they are about, the way click writes sections."""

from collections.abc import Callable
from typing import Any

import click

from audit.cli import later
from audit.errors import AuditError

OTHERS = "Options"
_CLUSTER = ("kubeconfig", "context", "ovn-config-namespace", "exec-timeout")
_MANIFESTS = ("namespace-labels", "pod-cidr", "node-cidr", "service-cidr", "ingress-controller")
_ROWS = ("from-namespace", "from-selector", "from-node", "from-ip", "from")
_COLUMNS = ("to-namespace", "to-selector", "to-node", "to-service", "to-ip", "to")
_NODES = ("address", "node", "zone", "ovn-rundir", "ovs-rundir", "wait")
GROUPS = {
    "The pair": (
        *("src", "src-namespace", "dst", "service", "dst-ip", "dst-namespace", "dst-port"),
        *("tcp", "udp", "sctp", "addr-family"),
    ),
    "Where it is and whom it joins": _NODES,
    "What is read": (
        *("run", "snapshot", "live", *_CLUSTER, "without-databases"),
        *("manifests", "kustomize", "apply", "apply-delete", "max-snapshot-size"),
        *("file", "pack", "expectations", "baseline", "since"),
    ),
    "What manifests do not say": _MANIFESTS,
    "Scope": (
        *(
            "namespace",
            "all-namespaces",
            "selector",
            "namespace-selector",
            "network",
            "dst-network",
            "with-peers",
        ),
        *_ROWS,
        *_COLUMNS,
        *("port", "family", "scope-file"),
    ),
    "Traces": (
        *("planes", "cover", "verify", "verify-packets", "recompile", "skip-detrace"),
        *("workers", "worker-count", "traces", "agents-listen", "agents-wait"),
        *("ovn-prefix", "install-ovn", "at-least", "trace-timeout", "time-limit"),
    ),
    "The run": (
        "out",
        "staging",
        "reuse",
        "resume",
        "without",
        "sign-key",
        "push-metrics",
        "timestamp-url",
        "key",
        "timestamp-ca",
    ),
    "Connections": ("sample", "pair", "image", "timeout", "at-once"),
    "Where browsers find it": ("listen", "host-name"),
    "Which runs are kept": ("prune", "dry-run", "keep-last", "keep-days"),
    "Result": (
        *("sql", "raw", "loglevel", "expect", "fail-coverage-below", "exit-zero"),
        *("stdout", "quiet", "output", "version", "debug", "config", "help"),
    ),
}
"""Headings, and the flags below each, in the order in which they are read."""

_POSITION = {
    flag: (heading, index) for heading, flags in GROUPS.items() for index, flag in enumerate(flags)
}
FLAGS = frozenset(_POSITION)
"""Of all commands, without their dashes."""
_FEW = 6
"""Options that need no headings."""


def flag_of(option: click.Parameter) -> str:
    """Return an option's longest spelling without its dashes."""
    return max(option.opts, key=len).lstrip("-")


class Command(click.Command):
    """A command whose help has its options in groups, where there are many."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - what the command returns
        """Run the command, with everything loaded that it uses."""
        later.load_all()
        try:
            return super().invoke(ctx)
        except AuditError as error:
            from audit.cli import config  # noqa: PLC0415 - which knows of groups

            config.name_variable(error, ctx)
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, below a heading for what they are about."""
        groups: dict[str, list[tuple[int, tuple[str, str]]]] = {name: [] for name in GROUPS}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and isinstance(option, click.Option):
                heading, index = _POSITION.get(flag_of(option), ("Result", 0))
                groups[heading].append((index, record))
        records = {name: [r for _, r in sorted(group)] for name, group in groups.items() if group}
        if sum(map(len, records.values())) <= _FEW:
            records = {OTHERS: [record for group in records.values() for record in group]}
        for heading, group in records.items():
            with formatter.section(heading):
                formatter.write_dl(group)


def command() -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function, as `click.command` does, whose help has groups."""
    return click.command(cls=Command)
