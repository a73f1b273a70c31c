"""PyYAML's safe loader, and the same with Kubernetes' idea of what a scalar is.

Go's YAML (sigs.k8s.io/yaml) has booleans as in YAML 1.1, numbers with an exponent and no point,
and `0o17`; it has no numbers of base 60, no dates, and no value of a lone `=`. A lone `y` or `n` is
a boolean to kubectl and a string to kustomize, Helm and PyYAML: here it is a string, as meant.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import yaml

# libyaml reads the same text eight times faster.
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


class Plain(_SAFE):  # type: ignore[misc]  # which base it is depends on the machine
    """The safe loader; `=` and `<<` as values are what they look like."""

    repeats = False
    """Whether a key is in some object twice; only `Kubernetes` looks."""


class Kubernetes(Plain):
    """The safe loader, with Kubernetes' idea of scalars and keys."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as it is called
        """Make an object, its keys strings, and see whether one is there twice."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if key.tag in _AS_KEYS:
                key.value, key.tag = _AS_KEYS[key.tag](self, key), _TAG + "str"
        self.repeats = self.repeats or len({key.value for key in keys}) < len(keys)
        return dict(super().construct_mapping(node, deep))


def _resolved(name: str, pattern: str, first: str) -> None:
    Kubernetes.add_implicit_resolver(_TAG + name, re.compile(pattern), list(first))


_resolved("bool", "^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$", "yYnNoO")
_resolved("bool", "^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolved("null", "^(?:~|null|Null|NULL|)$", "~nN")
Kubernetes.add_implicit_resolver(_TAG + "null", re.compile("^$"), [""])
_resolved("merge", "^<<$", "<")
_resolved(
    "int",
    r"^[-+]?(?:0_*x[0-9a-fA-F_]+|0_*b[01_]+|0_*o[0-7_]+|0[0-7_]*|[1-9][0-9_]*)$",
    "-+0123456789",
)
_resolved(
    "float",
    r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+.0123456789",
)


def _integer(loader: Any, node: yaml.ScalarNode) -> int:  # noqa: ANN401 - PyYAML's loader
    text = str(loader.construct_scalar(node)).replace("_", "")
    octal = re.fullmatch(r"([-+]?)0o?([0-7]+)", text)
    return int(octal[1] + octal[2], 8) if octal else int(text, 0)


def _number(loader: Any, node: yaml.ScalarNode) -> float:  # noqa: ANN401 - PyYAML's loader
    value = float(loader.construct_yaml_float(node))
    return int(value) if value.is_integer() else value


_AS_KEYS: Mapping[str, Callable[[Any, yaml.ScalarNode], str]] = {
    _TAG + "int": lambda loader, node: str(_integer(loader, node)),
    _TAG + "float": lambda loader, node: str(_number(loader, node)),
    _TAG + "bool": lambda loader, node: str(loader.construct_yaml_bool(node)).lower(),
}

for _tag in ("value", "merge"):
    Plain.add_constructor(_TAG + _tag, lambda loader, node: loader.construct_scalar(node))


def _untagged(loader: Any, _tag: str, node: yaml.Node) -> Any:  # noqa: ANN401 - PyYAML's loader
    """Make what a tag of somebody else's is about, without it, as Go's YAML does."""
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


Kubernetes.add_multi_constructor("!", _untagged)
Kubernetes.add_constructor(_TAG + "int", _integer)
Kubernetes.add_constructor(_TAG + "float", _number)
