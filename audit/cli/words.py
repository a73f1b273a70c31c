"""What a shell completes of endpoints: the words for those of the newest run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from audit.cli.run_arguments import RUNS
from audit.errors import AuditError
from audit.model.endpoints import Endpoint, EndpointKind
from audit.store import layout, reader

_MOST = 500
"""Words that are offered: a shell that lists more asks first."""


def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the words that begin so: pods, workloads, Services, nodes and namespaces."""
    words = dict.fromkeys(word for endpoint in _endpoints() for word in _words(endpoint))
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)][:_MOST]


def complete_namespace(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the namespaces that begin so."""
    names = {endpoint.namespace for endpoint in _endpoints()} - {""}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)][:_MOST]


def _endpoints() -> tuple[Endpoint, ...]:
    """Return the endpoints of the newest run; none where there is none, or it cannot be read."""
    runs = layout.finished(Path(RUNS))
    try:
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
