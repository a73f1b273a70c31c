"""Options that several commands share, and what they are made into."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from audit.cli import say, words
from audit.cli.run_arguments import Run
from audit.commands import snapshot as snapshots
from audit.errors import ScopeError, UsageError
from audit.facts.archive import LARGEST
from audit.model.options import PACKS
from audit.scope import scope

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SCOPE: tuple[tuple[str, str, str], ...] = (
    ("-n/--namespace", "namespaces", "Rows and columns: pods of this namespace. Repeatable."),
    ("-A/--all-namespaces", "all_namespaces", "Pods of every namespace: the default."),
    (
        "-l/--selector",
        "selector",
        "Rows and columns: pods with these labels (app=web, !canary). Repeatable: all must hold.",
    ),
    (
        "--namespace-selector",
        "namespace_selector",
        "Rows and columns: of namespaces with labels. Repeatable: all must hold.",
    ),
    (
        "--network",
        "networks",
        "Pods' attachments to this network: default, blue_net, blue/net. Repeatable.",
    ),
    ("--with-peers", "with_peers", "Add every other endpoint as the other side."),
    ("--from-namespace", "from_namespaces", "Rows only; '*' for every one. Repeatable."),
    ("--from-selector", "from_selector", "Rows only. Repeatable."),
    ("--from-node", "from_nodes", "Rows: a node's own host, or '*' for all. Repeatable."),
    (
        "--from-ip",
        "from_ips",
        "Rows: one address, a CIDR, or `all` addresses outside. Repeatable.",
    ),
    (
        "--from",
        "from_endpoints",
        "Rows: a name, deploy/web, ns/shop, app=web, an address (docs/asking.md). Repeatable.",
    ),
    ("--to-namespace", "to_namespaces", "Columns only; '*' for every one. Repeatable."),
    ("--to-selector", "to_selector", "Columns only. Repeatable."),
    ("--to-node", "to_nodes", "Columns: a node's own host, or '*' for all. Repeatable."),
    (
        "--to-service",
        "to_services",
        "Columns: namespace/name, namespace/*, or */* for all. Repeatable.",
    ),
    (
        "--to-ip",
        "to_ips",
        "Columns: one address, a CIDR, or `all` addresses outside. Repeatable.",
    ),
    ("--to", "to_endpoints", "Columns: as --from, and svc/web. Repeatable."),
    (
        "-p/--port",
        "ports",
        "tcp/80, tcp/8000-8100, a declared name, all, or declared (the default).",
    ),
    ("--family", "family", "ip4 (the default), ip6 or both."),
)
"""Flags, the field of `audit.scope.scope.Scope` each fills, and its help (docs/scope.md)."""

_SWITCHES = frozenset({"all_namespaces", "with_peers"})
_SELECTORS = ("selector", "namespace_selector", "from_selector", "to_selector")
"""All of them must hold where one is given several times, as the parts of each must."""
_SINGLE = frozenset({"family"})


_COMPLETED = {
    "namespaces": words.complete_namespace,
    "endpoints": words.complete,
    "nodes": words.complete_node,
    "services": words.complete_service,
    "ports": words.complete_port,
}


def _metavar(field: str) -> str:
    """Return what a flag of the scope takes, as its help shows it."""
    spelled = {
        "selector": "LABELS",
        "namespaces": "NAMESPACE",
        "networks": "NETWORK",
        "nodes": "NODE",
        "ips": "ADDRESS",
        "services": "NAMESPACE/NAME",
        "endpoints": "WORD",
        "ports": "PORT",
        "family": "ip4|ip6|both",
    }
    return spelled[field.rpartition("_")[2]]


def scope_options(command: _Command) -> _Command:
    """Add the scope flags and a scope file; the command receives `scope: Scope`."""

    @functools.wraps(command)
    def with_scope(**given: Any) -> Any:  # noqa: ANN401 - click hands on any option
        flags = {field: given.pop(field) for _, field, _ in _SCOPE}
        file, short = given.pop("scope_file"), given.pop("short_scope_file")
        if short is not None:
            say.message(
                "note",
                "-f is --scope-file here, and a file of expectations in audit check "
                "and report; write --scope-file",
                err=True,
            )
        flags |= {field: ",".join(flags[field]) if flags[field] else None for field in _SELECTORS}
        return command(scope=_scope(flags, file or short), **given)

    scope_file = click.Path(path_type=Path, dir_okay=False)
    # Scripts have it: `-f` meant the scope here before it meant the expectations there.
    wrapped = click.option(
        "-f", "short_scope_file", type=scope_file, hidden=True, allow_from_autoenv=False
    )(with_scope)
    wrapped = click.option(
        "--scope-file",
        type=scope_file,
        help="A YAML file that says the same as the scope flags.",
    )(wrapped)
    for names, field, text in reversed(_SCOPE):
        switch = field in _SWITCHES
        wrapped = click.option(
            *names.split("/"),
            field,
            is_flag=switch,
            multiple=not switch and field not in _SINGLE,
            metavar=None if switch else _metavar(field),
            shell_complete=_COMPLETED.get(field.rpartition("_")[2]),
            help=text,
        )(wrapped)
    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the signature


def _scope(flags: dict[str, Any], file: Path | None) -> scope.Scope:
    """Make the scope of flags or of a file; both at once contradict each other."""
    everything = flags.pop("all_namespaces")
    given = {field: value for field, value in flags.items() if value not in (None, (), False)}
    if everything and "namespaces" in given:
        raise ScopeError("-A and -n contradict each other; give one of them")
    if file is None:
        return scope.from_flags(**flags)
    if given:
        raise UsageError(
            "--scope-file and scope flags contradict each other; write them in the file"
        )
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise ScopeError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScopeError(f"{file} cannot be read: it is no UTF-8 text") from error
    return scope.parse_scope_file(text, str(file))


traces_option = click.option(
    "--traces",
    type=click.Choice(["copied", "exec"]),
    default="copied",
    show_default=True,
    help="Of a live cluster: trace here on copies of its databases, or by exec in the pods that "
    "have them, with the OVN and the Open vSwitch that are there.",
)


def traced_cluster(traces: str, access: snapshots.Access) -> snapshots.Access | None:
    """Return the cluster whose pods trace; None when traces run here."""
    if traces == "copied":
        return None
    file = access.kubeconfig
    return replace(access, kubeconfig=file.absolute() if file else None)


class Size(click.ParamType[int]):
    """A number of bytes, as `512M` or `16G`."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{str(value)!r} is no size; write one as 512M or 16G", param, ctx)
        return int(match[1]) << _SHIFTS[match[2].upper()]


_SIZE = re.compile(r"([1-9][0-9]{0,11})([KMGT]?)i?B?", re.ASCII | re.IGNORECASE)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}

ovn_prefix_option = click.option(
    "--ovn-prefix",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="AUDIT_OVN_PREFIX",
    help="An OVN installation to use instead of the system's.",
)


_WHICH_CLUSTER: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--context",
        shell_complete=words.complete_context,
        help="The context of the kubeconfig. Default: its current one.",
    ),
    click.option(
        *("-kubeconfig", "--kubeconfig"),
        type=click.Path(path_type=Path),
        help="Of the live cluster. Default: as kubectl's, and a pod's own account in a pod.",
    ),
)


def which_cluster_options(command: _Command) -> _Command:
    """Add which live cluster is meant, its OVN aside; the command receives `access: Access`."""

    @functools.wraps(command)
    def with_access(**given: Any) -> Any:  # noqa: ANN401 - click hands on any option
        access = snapshots.Access(
            kubeconfig=given.pop("kubeconfig"), context=given.pop("context") or ""
        )
        return command(access=access, **given)

    wrapped: Any = with_access
    for option in _WHICH_CLUSTER:
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # functools.wraps keeps the signature


def cluster_options(command: _Command) -> _Command:
    """Add which live cluster is meant; the command receives `access: Access`."""

    @functools.wraps(command)
    def with_access(**given: Any) -> Any:  # noqa: ANN401 - click hands on any option
        access = snapshots.Access(
            kubeconfig=given.pop("kubeconfig"),
            context=given.pop("context") or "",
            namespace=given.pop("ovn_config_namespace") or "",
            exec_timeout_s=given.pop("exec_timeout"),
        )
        return command(access=access, **given)

    wrapped: Any = with_access
    for option in (
        click.option(
            "--exec-timeout",
            type=click.FloatRange(min=0.1),
            default=120.0,
            show_default=True,
            metavar="SECONDS",
            help="Seconds after which reading a database in its pod is given up.",
        ),
        click.option(
            *("-ovn-config-namespace", "--ovn-config-namespace"),
            metavar="NAMESPACE",
            help="Where OVN-Kubernetes runs. Default: its usual namespaces, as far as it is there.",
        ),
        *_WHICH_CLUSTER,
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # functools.wraps keeps the signature


max_snapshot_size_option = click.option(
    "--max-snapshot-size",
    type=Size(),
    default=f"{LARGEST >> 30}G",
    show_default=True,
    help="How much a packed snapshot may unpack to; a larger one is refused.",
)


def source_options(*, manifests: bool = False) -> Callable[[_Command], _Command]:
    """Add where the facts come from, and which OVN reads them.

    A live cluster, unless a snapshot is named, or with `manifests` these.
    """
    chosen = [
        ovn_prefix_option,
        click.option(
            "--snapshot",
            type=click.Path(path_type=Path),
            help="A directory, or a .tar.gz of it, with kube/*.json and ovn/ZONE/{nb,sb}.db, or "
            "a must-gather, instead of the live cluster.",
        ),
        max_snapshot_size_option,
        cluster_options,
    ]
    if manifests:
        chosen[1:1] = [
            click.option(
                *("-k", "--kustomize", "kustomization"),
                metavar="DIR",
                help="As --manifests: what the kustomization in DIR makes, by kubectl or kustomize "
                "of this machine.",
            ),
            click.option(
                "--manifests",
                metavar="DIR|FILE|-",
                help="YAML manifests instead of a cluster: workloads stand for their pods.",
            ),
        ]

    def with_source(command: _Command) -> _Command:
        for option in chosen:
            command = option(command)
        return command

    return with_source


def live_option(text: str) -> Callable[[_Command], _Command]:
    """Add `--live`, by which a live cluster is meant, with this help."""
    return click.option("--live", is_flag=True, help=text)


live_anyway_option = live_option("Ask the cluster of the kubeconfig, as without --snapshot.")


def require_one_source(sources: Mapping[str, object]) -> None:
    """Refuse several flags that say what is read, by their values; UsageError names them."""
    given = [flag for flag, value in sources.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} name different things to ask; give one of them")


def output_option(*formats: str) -> Callable[[_Command], _Command]:
    """Add `-o/--output` with these formats, the first being the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to print the result.",
    )


def _complete_pack(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the packs that begin so."""
    return [CompletionItem(name) for name in PACKS if name.startswith(incomplete)]


_pack_option = click.option(
    "--pack",
    "packs",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete_pack,
    help=f"Ready-made expectations: {', '.join(PACKS)}. Repeatable.",
)


def _expectations_file_option(*flags: str) -> Callable[[_Command], _Command]:
    return click.option(
        *flags,
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Expectations and waivers, as YAML (docs/expectations.md).",
    )


def expectations_options(command: _Command) -> _Command:
    """Add the expectations to check; the command receives `file` and `packs`."""
    return _pack_option(_expectations_file_option("-f", "--file")(command))


def own_expectations_options(command: _Command) -> _Command:
    """Add the same to a command whose `-f` means something else."""
    return _pack_option(_expectations_file_option("--expectations")(command))


quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress.")

run_option = click.option(
    "--run",
    shell_complete=Run().shell_complete,
    metavar="RUN",
    help="The run to read: its directory or s3://…, its id or a beginning of it, the day it began "
    "(2026-11-23), or latest. Default: latest.",
)

ports_option = click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="PORT",
    shell_complete=words.complete_port,
    help="tcp/80, 80, tcp/8000-8100, or a declared name. Repeatable. Default: all the run has.",
)


def command_line() -> str:
    """Return the command as typed, for run.json."""
    return " ".join(["audit", *sys.argv[1:]])
