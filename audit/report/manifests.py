"""Where a policy's rule stands in its YAML, so that a reader's eye lands on it.

The manifests were written by this program in block style:

    spec:
      podSelector: {}
      ingress:
      - from:
        - podSelector: {}
      - ports:

The layout is all that is looked at; what cannot be found is not marked.
"""

from audit.model.facts import Policy

Lines = tuple[int, int]
"""A half-open range of line numbers, counted from zero."""


def rule_lines(manifest: str, direction: str) -> tuple[Lines, ...]:
    """Return the lines of each item of `spec.<direction>`, in order."""
    lines = manifest.splitlines()
    block = _key_lines(lines, direction)
    if block is None:
        return ()
    first, end = block[0] + 1, block[1]
    if first >= end or not lines[first].lstrip().startswith("- "):
        return ()
    dash = _indent(lines[first]) * " " + "- "
    starts = [number for number in range(first, end) if lines[number].startswith(dash)]
    return tuple(zip(starts, [*starts[1:], end], strict=True))


def selector_lines(manifest: str, kind: str) -> tuple[Lines, ...]:
    """Return the lines that make a policy deny by default: whom it selects, in which direction."""
    keys = ("podSelector", "policyTypes") if kind == "NetworkPolicy" else ("subject",)
    lines = manifest.splitlines()
    found = (_key_lines(lines, key) for key in keys)
    return tuple(block for block in found if block is not None)


def marks(policy: Policy) -> dict[str, tuple[Lines, ...]]:
    """Return every range of a policy's manifest a cell may point to."""
    return {
        "ingress": rule_lines(policy.manifest, "ingress"),
        "egress": rule_lines(policy.manifest, "egress"),
        "selector": selector_lines(policy.manifest, policy.ref.kind),
    }


def _key_lines(lines: list[str], key: str) -> Lines | None:
    """Return the lines of `spec.<key>`: its own and everything that belongs to it."""
    spec = next((n for n, line in enumerate(lines) if line.rstrip() == "spec:"), None)
    if spec is None:
        return None
    for number in range(spec + 1, len(lines)):
        if not lines[number].startswith(" "):
            break
        if lines[number].startswith(f"  {key}:"):
            return number, _end_of_key(lines, number)
    return None


def _end_of_key(lines: list[str], number: int) -> int:
    """Return the line after the value of the key at `number`; `- ` may stand at its own indent."""
    indent = _indent(lines[number])
    end = number + 1
    while end < len(lines):
        line = lines[end]
        item = _indent(line) == indent and line.lstrip().startswith("- ")
        if line.strip() and _indent(line) <= indent and not item:
            break
        end += 1
    return end


def _indent(line: str) -> int:
    """Return how many spaces a line starts with."""
    return len(line) - len(line.lstrip(" "))
