"""From what a user types to a cell of a run. Pure."""

import difflib
import ipaddress
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.errors import UsageError
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import FAMILIES
from audit.model.packets import Family
from audit.model.recorded import spans
from audit.model.run import Run


def find_cell(run: Run, src: str, dst: str, port: str, family: str | None) -> int:
    """Return the index of the cell that four words name.

    UsageError when there is none, with what there is instead, or more than one.
    """
    sources, destinations = _endpoints(run, src), _endpoints(run, dst)
    matrix = run.matrix
    here = np.isin(matrix.src, sources) & np.isin(matrix.dst, destinations)
    if not here.any():
        raise UsageError(f"the run has no cell from {src} to {dst}; it was not in its scope")
    ports = {p: matrix.ports[p] for p in np.unique(matrix.port[here]).tolist()}
    wanted = port if "/" in port else f"tcp/{port}"
    meant = [p for p, known in ports.items() if _means(wanted, known)]
    if not meant:
        there = ", ".join(map(str, ports.values()))
        raise UsageError(f"the run has no cell from {src} to {dst} on {wanted}; it has {there}")
    here &= np.isin(matrix.port, meant)
    if family is not None:
        here &= matrix.family == FAMILIES.index(Family(family))
    found = np.flatnonzero(here)
    if not found.size:
        raise UsageError(f"the run has no cell from {src} to {dst} on {wanted} in {family}")
    return _only(run, found, src, dst)


def _means(wanted: str, port: Port) -> bool:
    """Say whether a word names a port, or a port of a range."""
    protocol, _, number = wanted.partition("/")
    inside = number.isdigit() and protocol == port.protocol and int(number) in port
    return inside or wanted == str(port)


def _only(run: Run, found: NDArray[np.int64], src: str, dst: str) -> int:
    """Return the one cell, or say how to tell the found ones apart."""
    if len(found) == 1:
        return int(found[0])
    families = {FAMILIES[f] for f in run.matrix.family[found].tolist()}
    pairs = {
        (run.matrix.endpoints[s].key, run.matrix.endpoints[d].key)
        for s, d in zip(run.matrix.src[found].tolist(), run.matrix.dst[found].tolist(), strict=True)
    }
    if len(pairs) == 1 and len(families) > 1:
        raise UsageError(f"{src} to {dst} has a cell per address family; add --family")
    named = "; ".join(sorted(f"{a!r} to {b!r}" for a, b in pairs))
    raise UsageError(f"{src} to {dst} means several cells: {named}")


def _endpoints(run: Run, text: str) -> Sequence[int]:
    """Return the endpoints a word names: a key, namespace/name, kind/…, a name or an address."""
    endpoints = run.matrix.endpoints
    word = _canonical(text)
    found = [i for i, endpoint in enumerate(endpoints) if word in _names(endpoint)]
    if any(word in _addresses(endpoints[i]) for i in found):
        # A headless Service has no address but its pods': an address means the pod.
        own = [i for i in found if endpoints[i].kind is not EndpointKind.SERVICE]
        found = own or found
    found = found or _holding(run, word)
    if found:
        return found
    known = sorted({name for endpoint in endpoints for name in _names(endpoint)})
    near = difflib.get_close_matches(text, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"the run has no endpoint {text}{hint}")


def _holding(run: Run, text: str) -> list[int]:
    """Return the ranges outside that hold an address, if the word is one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return []
    return [
        place
        for place, endpoint in enumerate(run.matrix.endpoints)
        if any(
            version == address.version and first <= int(address) <= last
            for version, first, last in spans(run.manifest, endpoint)
        )
    ]


def _names(endpoint: Endpoint) -> tuple[str, ...]:
    """Return everything an endpoint may be called."""
    name = f"{endpoint.namespace}/{endpoint.name}" if endpoint.namespace else endpoint.name
    spelled = (endpoint.key, name, f"{endpoint.kind}/{name}", f"{name}@{endpoint.node}")
    return (*spelled, *_addresses(endpoint))


def _addresses(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the addresses that mean an endpoint, in their usual spelling."""
    # A host-network pod shares its node's address, which is the node's name here.
    own = () if endpoint.host_network and endpoint.namespace else endpoint.addresses
    return tuple(map(_canonical, own))


def _canonical(text: str) -> str:
    """Return an address in its usual spelling, and anything else as it is."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
