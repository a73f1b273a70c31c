"""TCP connections from the pods of a live cluster, by programs that their images have.

Nothing is installed in a pod. Where no image of a pod has a client, and the user names an image, an
ephemeral container of it is added: Kubernetes keeps its record in the pod until the pod is gone.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from audit.errors import ClusterError
from audit.facts.live import execs
from audit.facts.live.access import Access
from audit.facts.live.api import ForbiddenError, NoSuchKindError, Server
from audit.facts.live.clients import CLIENTS, Client
from audit.facts.live.execs import Container
from audit.model.packets import Family
from audit.model.probes import Connection, Response

UNROUTED = {Family.IP4: "192.0.2.1", Family.IP6: "2001:db8::1"}
"""Addresses that nobody has (RFC 5737, RFC 3849): whatever answers there is something between."""

_SLACK_S = 10.0
"""What an exec takes besides the connection itself."""
_EPHEMERAL_S = 900
_READY_S = 60.0
_POLL_S = 0.5
_SHOWN = 200
_MESHES = {
    "sidecar.istio.io/status": "Istio's sidecar",
    "ambient.istio.io/redirection": "Istio's ztunnel",
    "linkerd.io/proxy-version": "Linkerd's proxy",
    "kuma.io/sidecar-injected": "Kuma's sidecar",
    "consul.hashicorp.com/connect-inject-status": "Consul's sidecar",
}
"""Annotations of pods whose connections a proxy accepts in the pod, whoever they are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePod:
    """A pod as it is now."""

    namespace: str
    name: str
    running: bool
    addresses: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    containers: tuple[tuple[str, str], ...]
    """Name and image of each that runs; ephemeral ones last."""
    proxy: str
    """What accepts its connections before they leave it; empty when nothing is known to."""


def _read(server: Server, namespace: str, name: str) -> LivePod:
    """Return a pod as it is now. ClusterError when it cannot be asked, or is gone."""
    return _live(server.ask("GET", _path(namespace, name), []))


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _live(pod: Mapping[str, Any]) -> LivePod:
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    addresses = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    states = [*(status.get("containerStatuses") or ())]
    states += status.get("ephemeralContainerStatuses") or ()
    return LivePod(
        namespace=str(metadata.get("namespace")),
        name=str(metadata.get("name")),
        running=status.get("phase") == "Running" and not metadata.get("deletionTimestamp"),
        addresses=tuple(str(address) for address in addresses if address),
        labels=tuple(sorted((metadata.get("labels") or {}).items())),
        containers=tuple(
            (str(state["name"]), str(state.get("image")))
            for state in states
            if (state.get("state") or {}).get("running") is not None
        ),
        proxy=next((name for key, name in _MESHES.items() if key in annotations), ""),
    )


_Place = tuple[Container, str, Client]
"""Where a connection is tried: a container, its image, and a program of it."""


@dataclass(slots=True, kw_only=True)
class Prober:
    """Tries connections; threads share it. `timeout_s` is how long an answer may take.

    With `image`, a pod without a client gets an ephemeral container of it.
    """

    access: Access
    timeout_s: int
    image: str = ""
    _good: dict[tuple[str, str, Family], _Place] = field(default_factory=dict)
    _unfit: set[tuple[str, str, Family]] = field(default_factory=set)
    _between: dict[tuple[str, str, Family, int], str] = field(default_factory=dict)

    def pod(self, named: tuple[str, str]) -> LivePod | str:
        """Return the pod of a namespace and a name as it is now, or why that is not known."""
        with Server(self.access) as server:
            try:
                return _read(server, *named)
            except NoSuchKindError:
                return f"pod {'/'.join(named)} is gone"
            except ForbiddenError as error:
                return f"{error}; the role in jobs/probe grants it"

    def between(self, pod: LivePod, family: Family, port: int) -> str:
        """Return what answers in a pod's network for whoever is asked; empty when nothing does."""
        if pod.proxy:
            return f"{pod.proxy} accepts connections in the pod"
        key = (pod.namespace, pod.name, family, port)
        if key not in self._between:
            self._between[key] = self._control(pod, UNROUTED[family], port)
        return self._between[key]

    def _control(self, pod: LivePod, address: str, port: int) -> str:
        connection = self.connect(pod, address, port)
        if connection.response in (Response.CONNECTED, Response.REFUSED):
            return f"a connection to {address}, which nobody has, is {connection.response} too"
        if connection.response is Response.NOT_SENT:
            return f"whether something else answers is not known ({connection.detail})"
        return ""

    def connect(self, pod: LivePod, address: str, port: int) -> Connection:
        """Try a connection from a pod to an address and a port."""
        family = Family.of(address)
        try:
            for container, image, client in self._tried(pod, family):
                response, words = self._once(container, client, address, port)
                if response is not None:
                    self._good[pod.namespace, pod.name, family] = container, image, client
                    return Connection(response=response, client=client.name, detail=words)
                self._unfit.add((image, client.name, family))
        except ClusterError as error:
            return Connection(response=Response.NOT_SENT, detail=str(error))
        names = ", ".join(client.name for client in CLIENTS)
        advice = "in the image that --image names" if self.image else "name one with --image"
        detail = f"no container has a client that says what it sees ({names}): {advice}"
        return Connection(response=Response.NOT_SENT, detail=detail)

    def _tried(self, pod: LivePod, family: Family) -> Iterator[_Place]:
        """Yield where to try with what: first what was good before, at last a container anew."""
        if (good := self._good.get((pod.namespace, pod.name, family))) is not None:
            yield good
        for name, image in pod.containers:
            yield from self._untried(pod, name, image, family)
        if self.image:
            yield from self._untried(pod, self._add_container(pod), self.image, family)

    def _untried(self, pod: LivePod, name: str, image: str, family: Family) -> Iterator[_Place]:
        container = Container(namespace=pod.namespace, pod=pod.name, name=name)
        for client in CLIENTS:
            if (image, client.name, family) not in self._unfit:
                yield container, image, client

    def _once(
        self, container: Container, client: Client, address: str, port: int
    ) -> tuple[Response | None, str]:
        """Return what a client says, and its words."""
        argv = client.argv(address, port, self.timeout_s)
        within = self.timeout_s + _SLACK_S
        ended = execs.ended(self.access, container, argv, timeout_s=within)
        return client.read(ended), " ".join(ended.text.split())[-_SHOWN:]

    def _add_container(self, pod: LivePod) -> str:
        """Add an ephemeral container that sleeps, unless it is there; return its name.

        ClusterError when it does not run in time.
        """
        name = f"ovn-audit-probe-{sha256(self.image.encode()).hexdigest()[:8]}"
        if any(container == name for container, _ in pod.containers):
            return name
        deadline = time.monotonic() + _READY_S
        with Server(self.access) as server:
            path = f"{_path(pod.namespace, pod.name)}/ephemeralcontainers"
            server.ask("PATCH", path, [], {"spec": {"ephemeralContainers": [self._spec(name)]}})
            while time.monotonic() < deadline:
                now = _read(server, pod.namespace, pod.name)
                if any(container == name for container, _ in now.containers):
                    return name
                time.sleep(_POLL_S)
        raise ClusterError(
            f"the ephemeral container {name} of pod {pod.namespace}/{pod.name} does not run after "
            f"{_READY_S:g} s; can its node pull {self.image}?"
        )

    def _spec(self, name: str) -> Mapping[str, Any]:
        """Return a container that the restricted pod security standard admits."""
        return {
            "name": name,
            "image": self.image,
            "command": ["sleep", str(_EPHEMERAL_S)],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
