"""What a shell completes of endpoints: the words for those of the newest run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from audit.cli import run_arguments
from audit.errors import AuditError
from audit.model.endpoints import Endpoint, EndpointKind
from audit.store import layout, reader

_MOST = 500
"""Words that are offered: a shell that lists more asks first."""


def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the words that begin so: pods, workloads, Services, nodes and namespaces."""
    words = {word for endpoint in _newest(context).endpoints for word in _words(endpoint)}
    return _beginning(words, incomplete)


def complete_namespace(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the namespaces that begin so."""
    return _beginning(_newest(context).namespaces, incomplete)


def complete_node(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the nodes that begin so."""
    ends = _newest(context).endpoints
    return _beginning((e.name for e in ends if e.kind is EndpointKind.NODE), incomplete)


def complete_service(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return what `--to-service` takes: Services, and all of a namespace or of the cluster."""
    ends = _newest(context).endpoints
    services = (f"{e.namespace}/{e.name}" for e in ends if e.kind is EndpointKind.SERVICE)
    whole = (f"{name}/*" for name in ("*", *_newest(context).namespaces))
    return _beginning((*services, *whole), incomplete)


def complete_port(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the ports that begin so, by number and by the names that endpoints give them."""
    return _beginning(_newest(context).ports, incomplete)


def complete_policy(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the policies that begin so, as `networkpolicy/shop/default-deny`."""
    return _beginning(_newest(context).policies, incomplete)


def complete_pair(
    context: click.Context, parameter: click.Parameter, incomplete: str, *, before: int = 0
) -> list[CompletionItem]:
    """Return words for FROM and TO, and behind them ports.

    `before` is how many of the words that the command line has already are not of the pair.
    """
    given = len(context.params.get(str(parameter.name)) or ()) - before
    return (complete if given < _ENDS else complete_port)(context, parameter, incomplete)


_ENDS = 2


def complete_context(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the contexts of the kubeconfig that begin so."""
    from audit.facts import kubeconfig  # noqa: PLC0415 - YAML is read for these words only

    return _beginning(kubeconfig.contexts(context.params.get("kubeconfig")), incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the words that begin so, each once and in order."""
    begun = sorted({word for word in words if word.startswith(incomplete)})
    return [CompletionItem(word) for word in begun[:_MOST]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What words there are, by the newest run."""

    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()

    @property
    def namespaces(self) -> set[str]:
        """The namespaces of the endpoints."""
        return {endpoint.namespace for endpoint in self.endpoints} - {""}


def _newest(context: click.Context) -> _Known:
    """Return what the newest run here knows; nothing where none can be read.

    A run on an object store would have to be fetched for every word.
    """
    try:
        root = run_arguments.runs_root(context)
        runs = layout.finished(root) if isinstance(root, Path) else ()
        run = reader.open_recorded(runs[0]) if runs else None
    except AuditError:
        run = None
    if run is None:
        return _Known()
    named = (port.name for endpoint in run.endpoints for port in endpoint.declared)
    refs = (policy.ref for policy in run.policies)
    return _Known(
        endpoints=run.endpoints,
        ports=(*map(str, run.ports), *filter(None, named)),
        policies=tuple("/".join(filter(None, (r.kind.lower(), r.namespace, r.name))) for r in refs),
    )


def _words(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.kind is EndpointKind.POD:
        yield f"ns/{endpoint.namespace}"
        yield f"{endpoint.namespace}/{endpoint.name}"
        kind, _, name = endpoint.workload.partition("/")
        if name and kind.lower() != EndpointKind.POD:  # a pod that nothing made stands for itself
            yield f"{endpoint.namespace}/{kind.lower()}/{name}"
    elif endpoint.kind is EndpointKind.SERVICE:
        yield f"svc/{endpoint.namespace}/{endpoint.name}"
    elif endpoint.kind is EndpointKind.NODE:
        yield f"node/{endpoint.name}"
