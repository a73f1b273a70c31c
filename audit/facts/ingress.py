"""Ingress, Route and Gateway API objects → the pods, and ports of them, that they lead to. Pure.

Such an object names Services, and controllers send what comes from outside to the pods behind
them: at the Service's target ports, not by its address. What it names and is not there leads
nowhere, which is told in a sentence.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.facts.fields import Field, FieldError
from audit.facts.kube import PodFacts, port_number, protocol_of
from audit.model.endpoints import Port
from audit.model.facts import Ingress, Lead
from audit.model.packets import Protocol
from audit.model.selectors import Operator, Requirement, Selector

GATEWAY_API = "gateway.networking.k8s.io"
ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")
"""Of the Gateway API. What they say of backends is the same in every version."""
LEADING = frozenset({"Ingress", "Route", *ROUTES})
"""Kinds that lead to pods."""
KINDS = LEADING | {"Service", "ReferenceGrant"}
"""All that is read for it."""
OLD_INGRESS = frozenset({"extensions/v1beta1", "networking.k8s.io/v1beta1"})
"""Versions in which an Ingress names a backend by serviceName and servicePort."""

_DIGITS = re.compile(r"[0-9]{1,9}")

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServicePort:
    name: str
    protocol: Protocol | None
    number: int
    target: int | str
    """A port's number, or the name that a container gives to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a Service says about the pods behind it; `nowhere` why there are none."""

    selector: Selector
    ports: tuple[_ServicePort, ...]
    nowhere: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which ports of a Service a backend means: all where neither is said.

    `number` is a Service's port, or with `of_pods` a port of the pods behind it.
    """

    number: int = 0
    name: str = ""
    of_pods: bool = False
    protocol: Protocol = Protocol.TCP

    def means(self, port: _ServicePort) -> bool:
        """Tell whether it is this port, as far as the Service says it."""
        if port.protocol is not self.protocol:
            return False
        if self.name:
            return port.name == self.name
        return self.of_pods or port.number == self.number

    def __str__(self) -> str:
        return self.name or str(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backend:
    """A Service that an object names; `other` what it is, where it is none."""

    namespace: str
    name: str
    wanted: _Wanted = _Wanted()
    other: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """An object with the Services that it names."""

    kind: str
    namespace: str
    name: str
    backends: tuple[_Backend, ...]
    gateways: tuple[str, ...] = ()
    nowhere: str = ""
    """Why it leads nowhere, whatever it names."""

    @property
    def shown(self) -> str:
        """The object in a sentence."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A ReferenceGrant: which kinds of which namespaces may name which Services of its own."""

    namespace: str
    senders: frozenset[tuple[str, str]]
    """Kind and namespace."""
    services: frozenset[str]
    """Names; an empty one is all Services."""

    def permits(self, leading: Leading, backend: _Backend) -> bool:
        """Tell whether a route may name a Service of another namespace."""
        return (
            backend.namespace == self.namespace
            and (leading.kind, leading.namespace) in self.senders
            and bool({"", backend.name} & self.services)
        )


def read(item: Object) -> Leading | None:
    """Read an object of one of LEADING; None where it leads nothing in from outside.

    FieldError where it is not what its kind is.
    """
    root = Field(item)
    kind = root["kind"].text()
    space, name = (root["metadata"][key].required() for key in ("namespace", "name"))
    spec = root["spec"]
    if kind in ROUTES:
        parents = [*spec["parentRefs"].each()]
        gateways = [p for p in parents if p["kind"].text("Gateway") != "Service"]
        if parents and not gateways:
            return None  # a mesh's, for what goes from pod to pod
        return Leading(
            kind=kind,
            namespace=space,
            name=name,
            backends=tuple(dict.fromkeys(_of_route(spec, kind, space))),
            gateways=tuple(sorted({p["namespace"].text(space) for p in gateways})),
            nowhere="" if gateways else "it has no parentRefs, so it is attached to no Gateway",
        )
    if kind == "Route":
        backends = _of_openshift(spec, space)
    elif root["apiVersion"].text() in OLD_INGRESS:
        backends = _of_old_ingress(spec, space)
    else:
        backends = _of_ingress(spec, space)
    distinct = tuple(dict.fromkeys(backends))
    return Leading(kind=kind, namespace=space, name=name, backends=distinct)


def _of_ingress(spec: Field, space: str) -> Iterator[_Backend]:
    fallback = spec["defaultBackend"]
    if fallback.value is None and not any(spec["rules"].each()):
        raise FieldError("spec has neither defaultBackend nor rules")
    if fallback.value is not None:
        yield _ingress_backend(fallback, space)
    for path in _paths(spec):
        yield _ingress_backend(path["backend"], space)


def _paths(spec: Field) -> Iterator[Field]:
    for rule in spec["rules"].each():
        yield from rule["http"]["paths"].each()


def _ingress_backend(backend: Field, space: str) -> _Backend:
    service, resource = backend["service"], backend["resource"]
    if service.value is None:
        if resource.value is None:
            raise FieldError(f"{backend.path} has neither service nor resource")
        what = f"{resource['kind'].required()} {space}/{resource['name'].required()}"
        return _Backend(namespace=space, name="", other=what)
    if resource.value is not None:
        raise FieldError(f"{backend.path} has both service and resource; leave one of them out")
    port = service["port"]
    number, name = port["number"], port["name"]
    if bool(number.value) == bool(name.value):
        amount = "both name and number" if name.value else "neither name nor number"
        raise FieldError(f"{port.path} has {amount}; write one of them")
    wanted = _Wanted(name=_port_name(name)) if name.value else _Wanted(number=port_number(number))
    return _Backend(namespace=space, name=service["name"].required(), wanted=wanted)


def _of_old_ingress(spec: Field, space: str) -> Iterator[_Backend]:
    for backend in (spec["backend"], *(path["backend"] for path in _paths(spec))):
        if backend.value is None:
            continue
        port = backend["servicePort"]
        if isinstance(port.value, str):
            wanted = _Wanted(name=_port_name(port))
        else:
            wanted = _Wanted(number=port_number(port))
        yield _Backend(namespace=space, name=backend["serviceName"].required(), wanted=wanted)


def _of_openshift(spec: Field, space: str) -> Iterator[_Backend]:
    """Yield what a Route sends to: its router asks for ports at the pods, by what they are there.

    The names are those of the Service's ports; a number in quotes is a number to it.
    """
    port = spec["port"]["targetPort"]
    if port.value is None:
        wanted = _Wanted(of_pods=True)
    elif isinstance(port.value, str) and _DIGITS.fullmatch(port.value):
        wanted = _Wanted(number=port_number(Field(int(port.value), port.path)), of_pods=True)
    elif isinstance(port.value, str):
        wanted = _Wanted(name=_port_name(port), of_pods=True)
    else:
        wanted = _Wanted(number=port_number(port), of_pods=True)
    if spec["to"].value is None:
        raise FieldError("spec.to is missing")
    for backend in (spec["to"], *spec["alternateBackends"].each()):
        kind, name = backend["kind"].text("Service"), backend["name"].required()
        if kind != "Service":
            raise FieldError(f"{backend.path}.kind is {kind}, not Service")
        if _has_weight(backend):
            yield _Backend(namespace=space, name=name, wanted=wanted)


def _of_route(spec: Field, kind: str, space: str) -> Iterator[_Backend]:
    protocol = Protocol.UDP if kind == "UDPRoute" else Protocol.TCP
    for rule in spec["rules"].each():
        yield from _mirrors(rule, protocol, space)
        for backend in rule["backendRefs"].each():
            reference = _reference(backend, protocol, space)
            if _has_weight(backend):
                yield reference
                yield from _mirrors(backend, protocol, space)


def _mirrors(holder: Field, protocol: Protocol, space: str) -> Iterator[_Backend]:
    """Yield what gets copies of requests."""
    for wanted in holder["filters"].each():
        if wanted["type"].text() == "RequestMirror":
            yield _reference(wanted["requestMirror"]["backendRef"], protocol, space)


def _reference(backend: Field, protocol: Protocol, space: str) -> _Backend:
    name, where = backend["name"].required(), backend["namespace"].text(space)
    group, kind = backend["group"].text(), backend["kind"].text("Service")
    if (group, kind) != ("", "Service"):
        return _Backend(namespace=where, name="", other=f"{kind} {where}/{name}")
    wanted = _Wanted(number=port_number(backend["port"]), protocol=protocol)
    return _Backend(namespace=where, name=name, wanted=wanted)


def _has_weight(backend: Field) -> bool:
    """Tell whether a backend gets any share of the requests."""
    weight = backend["weight"]
    return weight.value is None or weight.number() > 0


def _port_name(field: Field) -> str:
    """Return a port's name; a number in quotes is none."""
    name = field.required()
    if not any(map(str.isalpha, name)):
        raise FieldError(f"{field.path} is {name!r}, and a port's name has a letter; {_UNQUOTED}")
    return name


_UNQUOTED = "a number is written without quotes"


def grant(item: Object) -> Grant:
    """Read a ReferenceGrant."""
    root = Field(item)
    spec = root["spec"]
    return Grant(
        namespace=root["metadata"]["namespace"].required(),
        senders=frozenset(
            (sender["kind"].required(), sender["namespace"].required())
            for sender in spec["from"].each()
            if sender["group"].text() == GATEWAY_API
        ),
        services=frozenset(
            target["name"].text()
            for target in spec["to"].each()
            if (target["group"].text(), target["kind"].required()) == ("", "Service")
        ),
    )


def service(item: Object) -> Service:
    """Read which pods a Service stands for, and their ports."""
    spec = Field(item)["spec"]
    ports = tuple(map(_service_port, spec["ports"].each()))
    if spec["type"].text() == "ExternalName":
        return Service(selector=Selector(), ports=ports, nowhere="is a name outside (ExternalName)")
    labels = spec["selector"].texts()
    if not labels:
        return Service(selector=Selector(), ports=ports, nowhere="has no selector, so no pods")
    try:
        requirements = tuple(
            Requirement(key=key, operator=Operator.IN, values=(value,))
            for key, value in sorted(labels.items())
        )
    except ValueError as error:
        raise FieldError(f"spec.selector: {error}") from error
    return Service(selector=Selector(requirements=requirements), ports=ports)


def _service_port(port: Field) -> _ServicePort:
    number, target = port_number(port["port"]), port["targetPort"]
    meant: int | str = number
    if isinstance(target.value, str) and target.value:
        meant = _port_name(target)
    elif target.value not in (None, "", 0):
        meant = port_number(target)
    return _ServicePort(
        name=port["name"].text(),
        protocol=protocol_of(port),
        number=number,
        target=meant,
    )


class Resolver:
    """Follows objects to the pods behind their Services.

    `services` returns a Service by namespace and name, a sentence that begins with "is" or "has"
    where it cannot be followed, or None where it is not there. `nowhere` collects what leads to no
    pod, an object and a reason each.
    """

    def __init__(
        self,
        pods: Sequence[PodFacts],
        grants: Sequence[Grant],
        services: Callable[[str, str], Service | str | None],
    ) -> None:
        """Sort the pods by their namespace."""
        self._pods: dict[str, list[PodFacts]] = defaultdict(list)
        for pod in pods:
            self._pods[pod.namespace].append(pod)
        self._grants = grants
        self._services = services
        self._selected: dict[tuple[str, str], tuple[list[PodFacts], bool]] = {}
        self.nowhere: list[tuple[str, str]] = []

    def follow(self, leading: Leading) -> Ingress:
        """Return what an object leads to."""
        leads = set[Lead]()
        if leading.nowhere:
            self.nowhere.append((leading.shown, leading.nowhere))
        else:
            for backend in leading.backends:
                reached, why = self._behind(leading, backend)
                leads |= reached
                if why and (leading.shown, why) not in self.nowhere:
                    self.nowhere.append((leading.shown, why))
        return Ingress(
            kind=leading.kind,
            namespace=leading.namespace,
            name=leading.name,
            leads=tuple(sorted(leads)),
            gateways=leading.gateways,
        )

    def _behind(self, leading: Leading, backend: _Backend) -> tuple[set[Lead], str]:
        """Return the pods behind a backend, and why none, or not all, of them are known."""
        backing = self._backing(leading, backend)
        if isinstance(backing, str):
            return set(), backing
        shown = f"Service {backend.namespace}/{backend.name}"
        ports = [port for port in backing.ports if backend.wanted.means(port)]
        if not ports:
            return set(), f"{shown} has no {_port_words(backend.wanted)}"
        pods, certain = self._pods_of(backend, backing)
        if not pods:
            doubt = "" if certain else " surely"
            return set(), f"{shown} selects no pod that is there{doubt}"
        leads = {
            Lead(pod.namespace, pod.name, port)
            for pod in pods
            for port in _targets(pod, ports, backend.wanted)
        }
        served = {lead.pod for lead in leads}
        without = [pod for pod in pods if pod.name not in served]
        if without:
            return leads, f"{shown}: {_without(without[0], ports, backend.wanted)}"
        return leads, "" if certain else f"{shown} perhaps selects more pods than are known"

    def _backing(self, leading: Leading, backend: _Backend) -> Service | str:
        """Return the Service of a backend, or why it leads to no pod."""
        if backend.other:
            return f"{backend.other} is no Service"
        shown = f"Service {backend.namespace}/{backend.name}"
        away = backend.namespace != leading.namespace
        if away and not any(
            reference_grant.permits(leading, backend) for reference_grant in self._grants
        ):
            return f"{shown} is in another namespace, and no ReferenceGrant there permits it"
        backing = self._services(backend.namespace, backend.name)
        if backing is None:
            return f"{shown} is not in the manifests"
        if isinstance(backing, str) or backing.nowhere:
            return f"{shown} {backing if isinstance(backing, str) else backing.nowhere}"
        return backing

    def _pods_of(self, backend: _Backend, backing: Service) -> tuple[list[PodFacts], bool]:
        """Return the pods that a Service surely selects, and whether these are all."""
        key = (backend.namespace, backend.name)
        if key not in self._selected:
            answers = [
                (backing.selector.judge(dict(pod.labels)), pod)
                for pod in self._pods[backend.namespace]
            ]
            pods = [pod for answer, pod in answers if answer]
            self._selected[key] = pods, all(answer is not None for answer, _ in answers)
        return self._selected[key]


def _targets(pod: PodFacts, ports: Sequence[_ServicePort], wanted: _Wanted) -> Iterator[Port]:
    """Yield where a pod serves a Service's ports; a name is looked for among its containers'."""
    for port in ports:
        numbers = (
            [
                declared.port.number
                for declared in pod.declared
                if declared.name == port.target and declared.port.protocol is port.protocol
            ]
            if isinstance(port.target, str)
            else [port.target]
        )
        for number in numbers:
            if not (wanted.of_pods and wanted.number) or number == wanted.number:
                yield Port(protocol=wanted.protocol, number=number)


def _without(pod: PodFacts, ports: Sequence[_ServicePort], wanted: _Wanted) -> str:
    """Say why a pod has none of these ports."""
    shown = f"pod {pod.namespace}/{pod.name}"
    names = sorted({port.target for port in ports if isinstance(port.target, str)})
    if names and not (wanted.of_pods and wanted.number):
        return f"no container of {shown} has a port named {' or '.join(names)}"
    return f"none of its target ports at {shown} is {wanted.number}"


def _port_words(wanted: _Wanted) -> str:
    if wanted.name:
        return f"port named {wanted.name}"
    if wanted.number and not wanted.of_pods:
        return f"{wanted.protocol.upper()} port {wanted.number}"
    return f"{wanted.protocol.upper()} port"
