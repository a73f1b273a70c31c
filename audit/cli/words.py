"""What a shell completes of endpoints: the words for those of the newest run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from audit.cli import run_arguments
from audit.errors import AuditError
from audit.model.endpoints import Endpoint, EndpointKind
from audit.store import layout, reader

if TYPE_CHECKING:
    from audit.model.recorded import Recorded

_MOST = 500
"""Words that are offered: a shell that lists more asks first."""


Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""What click asks for the words that begin as one does."""


def _of_newest(words: Callable[[Recorded], Iterable[str]]) -> Completer:
    """Return what completes words that the newest run here knows."""

    def completer(
        context: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        run = _newest(context)
        return [] if run is None else _beginning(words(run), incomplete)

    return completer


def _newest(context: click.Context) -> Recorded | None:
    """Return the newest run here; None where none can be read.

    A run on an object store would have to be fetched for every word.
    """
    try:
        root = run_arguments.runs_root(context)
        runs = layout.finished(root) if isinstance(root, Path) else ()
        return reader.open_recorded(runs[0]) if runs else None
    except AuditError:
        return None


def _beginning(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the words that begin so, each once and in order."""
    begun = sorted({word for word in words if word.startswith(incomplete)})
    return [CompletionItem(word) for word in begun[:_MOST]]


def _endpoint_words(run: Recorded) -> Iterator[str]:
    """Yield words for endpoints: pods, workloads, Services, nodes and namespaces."""
    return (word for endpoint in run.endpoints for word in _words(endpoint))


def _namespaces(run: Recorded) -> set[str]:
    return {endpoint.namespace for endpoint in run.endpoints} - {""}


def _nodes(run: Recorded) -> Iterator[str]:
    return (e.name for e in run.endpoints if e.kind is EndpointKind.NODE)


def _services(run: Recorded) -> Iterator[str]:
    """Yield what `--to-service` takes: Services, and all of a namespace or of the cluster."""
    for endpoint in run.endpoints:
        if endpoint.kind is EndpointKind.SERVICE:
            yield f"{endpoint.namespace}/{endpoint.name}"
    yield from (f"{name}/*" for name in ("*", *_namespaces(run)))


def _ports(run: Recorded) -> Iterator[str]:
    """Yield ports by number, and by the names that endpoints give them."""
    yield from map(str, run.ports)
    yield from (port.name for e in run.endpoints for port in e.declared if port.name)


def _policies(run: Recorded) -> Iterator[str]:
    """Yield policies, as `networkpolicy/shop/default-deny`."""
    refs = (policy.ref for policy in run.policies)
    return ("/".join(filter(None, (r.kind.lower(), r.namespace, r.name))) for r in refs)


complete = _of_newest(_endpoint_words)
complete_namespace = _of_newest(_namespaces)
complete_node = _of_newest(_nodes)
complete_service = _of_newest(_services)
complete_port = _of_newest(_ports)
complete_policy = _of_newest(_policies)


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
