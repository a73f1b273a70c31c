"""What a shell completes of endpoints: the words for those of the newest run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    words = {word for endpoint in _endpoints(context) for word in _words(endpoint)}
    return _beginning(words, incomplete)


def complete_namespace(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the namespaces that begin so."""
    return _beginning({each.namespace for each in _endpoints(context)} - {""}, incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the words that begin so, in order."""
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)][:_MOST]


def _endpoints(context: click.Context) -> tuple[Endpoint, ...]:
    """Return the endpoints of the newest run here; none where none can be read.

    A run on an object store would have to be fetched for every word.
    """
    try:
        root = run_arguments.runs_root(context)
        runs = layout.finished(root) if isinstance(root, Path) else ()
        return reader.open_recorded(runs[0]).endpoints if runs else ()
    except AuditError:
        return ()


def _words(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.kind is EndpointKind.POD:
        yield f"ns/{endpoint.namespace}"
        yield f"{endpoint.namespace}/{endpoint.name}"
        if endpoint.workload:
            kind, _, name = endpoint.workload.partition("/")
            yield f"{endpoint.namespace}/{kind.lower()}/{name}"
    elif endpoint.kind is EndpointKind.SERVICE:
        yield f"svc/{endpoint.namespace}/{endpoint.name}"
    elif endpoint.kind is EndpointKind.NODE:
        yield f"node/{endpoint.name}"
