"""The words an API server takes for names, labels and ports: each `format` of policies.yaml.

Sources: apimachinery's pkg/util/validation (DNS-1123, qualified names, label values, port names)
and the patterns of the policies' own APIs. A format is named as a sentence has it: "is 'Web_1', not
a DNS label".
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUALIFIED = rf"(?=[^/]{{1,253}}/|[^/]*$)(?:{_SUBDOMAIN}/)?{_WORD}"
# `A-z` holds more than letters; so it is in policy.networking.k8s.io.
_PART = r"[a-zA-z0-9](?:[-a-zA-Z0-9_]*[a-zA-Z0-9])?"

_PATTERNS = {
    "a DNS label": rf"(?=.{{1,63}}$){_LABEL}",
    "a DNS subdomain": rf"(?=.{{1,253}}$){_SUBDOMAIN}",
    "the beginning of a DNS subdomain": rf"(?=.{{1,253}}$){_SUBDOMAIN}-?",
    "a label's key": _QUALIFIED,
    "a label's value": rf"(?:{_WORD})?",
    "an annotation's key": rf"(?i:{_QUALIFIED})",
    "a port's name (a number stands without quotes)": rf"(?=.{{1,15}}$)(?!.*--)(?=.*[a-z]){_LABEL}",
    "a domain name of a policy": rf"(?:\*\.)?(?:{_PART}\.)+{_PART}\.?",
    "a DNS name of an EgressFirewall": r"(?:\*\.)?(?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+\.?",
}


def _is(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


FORMATS: Mapping[str, Callable[[str], bool]] = {
    name: partial(_is, re.compile(pattern)) for name, pattern in _PATTERNS.items()
}
