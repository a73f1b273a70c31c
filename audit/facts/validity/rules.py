"""Rules in CEL, as the schemas of an API have them under `x-kubernetes-validations`.

A server asks them of what its schema accepts, so a rule that cannot be evaluated is one not kept.
Functions are those of Kubernetes' CEL library that the policies' APIs use, and one of our own.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import cel

KEYWORD = "x-kubernetes-validations"


class Rules:
    """The rules of one value in a schema: a keyword of jsonschema-rs."""

    def __init__(
        self, _schema: Mapping[str, Any], rules: Sequence[Mapping[str, str]], _path: object
    ) -> None:
        self._rules = [(_program(rule["rule"]), rule["message"]) for rule in rules]

    def validate(self, instance: object) -> None:
        """Raise ValueError with the message of the first rule that `instance` does not keep."""
        context = cel.Context(variables={"self": instance}, functions=_FUNCTIONS)
        for program, message in self._rules:
            try:
                kept = program.execute(context)
            except (ValueError, TypeError, RuntimeError) as error:
                raise ValueError(message) from error
            if kept is not True:
                raise ValueError(message)


@cache
def _program(rule: str) -> cel.Program:
    return cel.compile(rule)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network that an address and the length of its prefix are; None for other text."""
    _, _, length = text.partition("/")
    if not (length.isascii() and length.isdigit()):
        return None  # Python's own would read a mask too, and an address alone
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_cidr(text: str) -> bool:
    return network(text) is not None


def _is_strictly_inside(part: str, whole: str) -> bool:
    inner, outer = network(part), network(whole)
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer) and inner != outer
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer) and inner != outer
    return False


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isCIDR": _is_cidr,
    "isStrictlyInside": _is_strictly_inside,
}
