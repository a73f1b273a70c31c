"""Kubernetes label selectors: what they match, and how OVN-Kubernetes writes them into names."""

from collections.abc import Mapping
from typing import Any

Selector = Mapping[str, Any]


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches labels; the empty one matches everything."""
    wanted = selector.get("matchLabels", {}).items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        _holds(term, labels) for term in selector.get("matchExpressions", ())
    )


def _holds(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    found = labels.get(term["key"])
    match term["operator"]:
        case "In":
            return found in term["values"]
        case "NotIn":
            return found not in term["values"]
        case "Exists":
            return found is not None
        case _:
            return found is None


def text(selector: Selector) -> str:
    """Return the selector as it stands in the name of an address set: `LS{ML:{app: web,},}`."""
    labels = "".join(f"{key}: {value}," for key, value in sorted(_labels(selector).items()))
    terms = ",".join(
        f"LSR{{Key:{term['key']},Operator:{term['operator']},"
        f"Values:[{' '.join(sorted(term.get('values', ())))}],}}"
        for term in selector.get("matchExpressions", ())
    )
    parts = (f"ML:{{{labels}}}," if labels else "") + (f"ME:{{{terms}}}," if terms else "")
    return f"LS{{{parts}}}"


def _labels(selector: Selector) -> Mapping[str, str]:
    found: Mapping[str, str] = selector.get("matchLabels", {})
    return found
