"""What the names of address sets of type PodSelector select.

`<namespace or LS{…}>_<LS{…}>`, with `_nodeSel` and `_LNM` behind it where nodes' addresses are
in the set too: OVN-Kubernetes writes label selectors as `LS{ML:{key: value,},ME:{LSR{Key:…,
Operator:…,Values:[…],}},}` (getPodSelectorKey, shortLabelSelectorString).
"""

import re
from dataclasses import dataclass

from audit.model.selectors import Operator, Requirement, Selector

_OPERATORS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.NOT_EXISTS,
}
_REQUIREMENT = r"LSR\{Key:[^,{}]+,Operator:\w+,Values:\[[^\]]*\],\}"
_LABELS = r"ML:\{(?P<labels>(?:[^:{},]+: [^,{}]*,)*)\},"
_SELECTOR = re.compile(
    rf"LS\{{(?:{_LABELS})?(?:ME:\{{(?P<met>{_REQUIREMENT}(?:,{_REQUIREMENT})*)\}},)?\}}"
)
_LABEL = re.compile(r"([^:{},]+): ([^,{}]*),")
_MET = re.compile(r"LSR\{Key:([^,{}]+),Operator:(\w+),Values:\[([^\]]*)\],\}")
_SUFFIXES = re.compile(r"(?:_nodeSel|_LNM)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """`namespaces` is None where the set is of a single `namespace`."""

    namespaces: Selector | None
    namespace: str
    pods: Selector

    def __str__(self) -> str:
        where = (
            f"namespace {self.namespace}"
            if self.namespaces is None
            else f"namespaces {self.namespaces}"
            if str(self.namespaces)
            else "all namespaces"
        )
        return f"{f'pods {self.pods}' if str(self.pods) else 'all pods'} of {where}"


def selection(name: str) -> Selection | None:
    """Return what a set's name selects; None for one that is not understood."""
    spaces: Selector | None = None
    namespace, at = "", 0
    if name.startswith("LS{"):
        spaces_match = _SELECTOR.match(name)
        if spaces_match is None:
            return None
        spaces, at = _read(spaces_match), spaces_match.end()
    else:
        at = name.find("_")
        namespace = name[:at]
    pods = _SELECTOR.match(name, at + 1) if at > 0 and name[at : at + 1] == "_" else None
    if pods is None or not _SUFFIXES.fullmatch(name, pods.end()):
        return None
    selected = _read(pods)
    if selected is None or (spaces is None and not namespace):
        return None
    return Selection(namespaces=spaces, namespace=namespace, pods=selected)


def _read(match: re.Match[str]) -> Selector | None:
    try:
        labels = [
            Requirement(key=key, operator=Operator.IN, values=(value,))
            for key, value in _LABEL.findall(match["labels"] or "")
        ]
        met = [
            Requirement(key=key, operator=_OPERATORS[operator], values=tuple(values.split()))
            for key, operator, values in _MET.findall(match["met"] or "")
        ]
    except (ValueError, KeyError):
        return None
    return Selector(requirements=(*labels, *met))
