"""Options that say of a cluster what manifests do not have."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from audit.errors import UsageError
from audit.facts import manifests as manifest_files
from audit.model.facts import AddressRanges, Controller
from audit.model.selectors import UNSAID, key_problem, value_problem

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "--namespace-labels",
        "NAME:[KEY=VALUE,…]",
        "Of --manifests: the labels of a namespace, besides that of its name. Repeatable.",
    ),
    (
        "--pod-cidr",
        "CIDR",
        (
            "Of --manifests: the addresses of pods, and those from which nodes send to pods. "
            "Repeatable."
        ),
    ),
    ("--node-cidr", "CIDR", "Of --manifests: nodes' addresses. Repeatable."),
    (
        "--service-cidr",
        "CIDR",
        "Of --manifests: Services' addresses, so no pod's or node's. Repeatable.",
    ),
    (
        "--ingress-controller",
        "NAMESPACE[:KEY=VALUE,…]",
        "Of --manifests: the pods that send what an Ingress, Route or HTTPRoute leads in.",
    ),
)


def surroundings_options(command: _Command) -> _Command:
    """Add them; the command receives `around: Surroundings`, empty without any."""

    @functools.wraps(command)
    def with_surroundings(**given: Any) -> Any:  # noqa: ANN401 - click hands on any option
        around = manifest_files.Surroundings(
            ranges=AddressRanges(
                pods=_cidrs("--pod-cidr", given.pop("pod_cidr")),
                nodes=_cidrs("--node-cidr", given.pop("node_cidr")),
                services=_cidrs("--service-cidr", given.pop("service_cidr")),
            ),
            namespaces=_namespaces(given.pop("namespace_labels")),
            controller=_controller(given.pop("ingress_controller")),
        )
        _check_apart(around.ranges)
        return command(around=around, **given)

    wrapped: Any = with_surroundings
    for name, metavar, text in reversed(_OPTIONS):
        wrapped = click.option(name, metavar=metavar, multiple=True, help=text)(wrapped)
    return wrapped  # type: ignore[no-any-return]  # functools.wraps keeps the signature


def require_manifests(around: manifest_files.Surroundings, *, manifests: bool) -> None:
    """Refuse them where there are no manifests to add to."""
    if around != manifest_files.Surroundings() and not manifests:
        names = ", ".join(name for name, _, _ in _OPTIONS)
        raise UsageError(f"{names} say what manifests do not have; they go with manifests only")


def _cidrs(option: str, texts: Sequence[str]) -> tuple[str, ...]:
    cidrs = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise UsageError(f"{option} {text!r}: {error}; write it as 10.128.0.0/14") from None
        cidrs.append(str(network))
    return tuple(cidrs)


def _check_apart(ranges: AddressRanges) -> None:
    """Refuse ranges of which one lies in another: then they do not say whose an address is."""
    named = [
        (option, ipaddress.ip_network(cidr))
        for option, cidrs in (
            ("--pod-cidr", ranges.pods),
            ("--node-cidr", ranges.nodes),
            ("--service-cidr", ranges.services),
        )
        for cidr in cidrs
    ]
    for index, (option, network) in enumerate(named):
        for other, beside in named[index + 1 :]:
            if other != option and network.overlaps(beside):
                raise UsageError(
                    f"{option} {network} and {other} {beside} overlap; no address is in both"
                )


def _controller(texts: Sequence[str]) -> Controller | None:
    """Return the pods that are controllers; that they have other labels too is not ruled out."""
    if not texts:
        return None
    if len(texts) > 1:
        raise UsageError("--ingress-controller is given twice; name the pods of one controller")
    name, labels = _labelled("--ingress-controller", texts[0])
    if not name:
        raise UsageError(f"--ingress-controller {texts[0]!r} is not NAMESPACE:KEY=VALUE,…")
    return Controller(namespace=name, labels=(*sorted(labels.items()), (UNSAID, UNSAID)))


def _namespaces(texts: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    namespaces: dict[str, Mapping[str, str]] = {}
    for name, labels in map(_namespace, texts):
        if name in namespaces:
            raise UsageError(
                f"--namespace-labels {name}: is given twice; give all its labels at once"
            )
        namespaces[name] = labels
    return namespaces


def _namespace(text: str) -> tuple[str, Mapping[str, str]]:
    name, labels = _labelled("--namespace-labels", text)
    if not name or ":" not in text:
        raise UsageError(
            f"--namespace-labels {text!r} is not NAME:KEY=VALUE,…; a namespace without labels is "
            f"{(name or 'NAME')}:"
        )
    return name, labels


def _labelled(option: str, text: str) -> tuple[str, Mapping[str, str]]:
    """Return a name, and the labels behind its colon."""
    name, _, listed = text.partition(":")
    labels = {}
    for pair in filter(None, listed.split(",")):
        key, equals, value = pair.partition("=")
        problem = key_problem(key) or value_problem(value)
        if not equals or problem:
            raise UsageError(f"{option} {text!r}: {problem or f'{pair!r} is not KEY=VALUE'}")
        labels[key] = value
    return name, labels
