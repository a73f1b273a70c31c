"""What a live cluster lets these credentials do, and the commands that grant what is missing."""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from audit import scratch
from audit.errors import ClusterError
from audit.facts.live import execs, ovn_pods, streams
from audit.facts.live.access import Access
from audit.facts.live.api import Server
from audit.facts.live.resources import EXEC, LISTED, Right, rights

_PROBE_TIMEOUT_S = 20.0
_ROLE = "ovn-audit"

Examined = tuple[bool, str]
"""Whether it is good, and a sentence."""


def examine(access: Access, tracing: Sequence[str], switching: Sequence[str]) -> Iterator[Examined]:
    """Look at everything a run of this cluster needs. ClusterError when it cannot be asked.

    `tracing` is the command that says, in a pod, with what traces would run there; `switching` the
    one that is asked about a node's switch, which says first whether it can be.
    """
    with Server(access) as server:
        yield True, f"{server.host} is Kubernetes {server.version()}"
        located, why, switches = _places(server, access)
        namespace = located.namespace if located else access.namespace or ovn_pods.NAMESPACES[0]
        missing = [right for right in rights() if not _allowed(server, right, namespace)]
    if missing:
        yield from _grants(missing, namespace)
    else:
        yield True, f"every kind may be listed, and pods/exec used in namespace {namespace}"
    if located is None:
        yield False, why
        return
    yield True, f"{len(located.zones)} pairs of databases in {namespace}: {located.mode}"
    yield from ((False, f"the pod of node {node} does not run") for node in located.silent)
    if not any(right.subresource for right in missing):
        probing = replace(access, exec_timeout_s=_PROBE_TIMEOUT_S)
        yield from _sockets(probing, located.zones)
        yield _tracers(probing, located.zones, tracing)
        yield _switches(probing, switches, switching)


def _allowed(server: Server, right: Right, namespace: str) -> bool:
    """Say whether a right is there, or of no use because the kind does not exist."""
    if server.allows(right, namespace):
        return True
    listed = [
        kind for kind in LISTED if (kind.resource, kind.group) == (right.resource, right.group)
    ]
    return not right.subresource and not any(server.serves(kind) for kind in listed)


def _places(
    server: Server, access: Access
) -> tuple[ovn_pods.Databases | None, str, Mapping[str, execs.Container]]:
    """Return where the databases are, or why they are not found, and where the switches are."""
    try:
        pods = server.items(ovn_pods.PODS)[1]
        located = ovn_pods.find(pods, access.namespace)
        return located, "", ovn_pods.switches(pods, located.namespace)
    except ClusterError as error:
        return None, str(error), {}


def _grants(missing: Iterable[Right], namespace: str) -> Iterator[Examined]:
    """Yield a sentence for each verb that is missing, with the command that grants it."""
    named: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for right in missing:
        named[right.verb, right.namespaced].append(right.name)
    for (verb, namespaced), names in sorted(named.items()):
        role: tuple[str, ...]
        if namespaced:
            role = ("kubectl", "-n", namespace, "create", "role", f"{_ROLE}-exec")
            verbs = ",".join(EXEC)
        else:
            role, verbs = ("kubectl", "create", "clusterrole", _ROLE), verb
        argv = (*role, f"--verb={verbs}", f"--resource={','.join(names)}")
        where = f" in namespace {namespace}" if namespaced else ""
        text = (
            f"may not {verb} {', '.join(names)}{where}; an administrator grants it with "
            f"`{shlex.join(argv)}` and a binding to you"
        )
        yield False, text


def _sockets(access: Access, pairs: Iterable[ovn_pods.ZoneDatabases]) -> Iterator[Examined]:
    """Ask each pair of databases, in its pod, whether it is served."""
    wanted = [
        (container, schema)
        for pair in pairs
        for container, schema in zip(pair.members[0], ovn_pods.SOCKETS, strict=True)
    ]
    with ThreadPoolExecutor(max_workers=execs.AT_ONCE) as pool:
        answers = list(pool.map(lambda target: _probe(access, *target), wanted))
    bad = [answer for answer in answers if answer]
    yield from ((False, answer) for answer in bad)
    if not bad:
        yield True, f"{len(wanted)} databases answer in their pods"


def _tracers(
    access: Access, pairs: Iterable[ovn_pods.ZoneDatabases], argv: Sequence[str]
) -> Examined:
    """Say whether traces can run in the pods, which is a choice: copies are traced elsewhere."""
    containers = {pair.name: tuple(south for _, south in pair.members) for pair in pairs}
    answers = streams.Opener(access=access, containers=containers).outputs(argv)
    bad = {
        name: str(answer) for name, answer in answers.items() if isinstance(answer, ClusterError)
    }
    versions = sorted(
        {str(answer).partition("\n")[0] for name, answer in answers.items() if name not in bad}
    )
    if not bad:
        return (
            True,
            f"traces can run in all {len(answers)} pods (--traces exec): {', '.join(versions)}",
        )
    name, why = next(iter(bad.items()))
    return True, (
        f"traces cannot run in {len(bad)} of {len(answers)} pods (--traces exec), of {name}: {why}"
        "; copies can be traced all the same"
    )


def _switches(
    access: Access, where: Mapping[str, execs.Container], argv: Sequence[str]
) -> Examined:
    """Say whether the nodes' own switches can be asked, which is a choice too."""
    containers = {node: (container,) for node, container in where.items()}
    answers = streams.Opener(access=access, containers=containers).outputs(argv)
    bad = {node: why for node, answer in answers.items() if (why := _unwilling(answer))}
    if not bad:
        return True, f"the switches of {len(answers)} nodes can be asked (--traces exec, datapath)"
    node, why = next(iter(bad.items()))
    return True, (
        f"{len(bad)} of {len(answers)} nodes' switches cannot be asked (--traces exec, datapath), "
        f"that of {node}: {why}; copies can be replayed all the same"
    )


def _unwilling(answer: str | ClusterError) -> str:
    """Return why a switch cannot be asked; empty when it can."""
    if isinstance(answer, ClusterError):
        return str(answer)
    try:
        return str(json.loads(answer)["error"] or "")
    except (ValueError, LookupError, TypeError):
        return f"{answer[:100]!r} is no answer"


def _probe(access: Access, container: execs.Container, schema: str) -> str:
    """Return what is wrong with a database, empty when it is served."""
    argv = ("ovsdb-client", "list-dbs", ovn_pods.SOCKETS[schema])
    with scratch.directory("probe") as space:
        try:
            execs.run(access, container, argv, space / "probe", timeout_s=access.exec_timeout_s)
        except ClusterError as error:
            return str(error)
        served = (space / "probe").read_text(errors="replace").split()
    return "" if schema in served else f"{container} does not serve {schema}"
