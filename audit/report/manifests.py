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

Lines = tuple[int, int]
"""A half-open range of line numbers, counted from zero."""


def marks(manifest: str, kind: str) -> dict[str, tuple[Lines, ...]]:
    """Return every range of a policy's manifest a cell may point to.

    Of `ingress` and `egress` the lines of each rule, in order; of `selector` those that make a
    policy deny by default: whom it selects, in which direction.
    """
    lines = manifest.splitlines()
    keys = _spec(lines)
    selecting = ("podSelector", "policyTypes") if kind == "NetworkPolicy" else ("subject",)
    return {
        "ingress": _items(lines, keys.get("ingress")),
        "egress": _items(lines, keys.get("egress")),
        "selector": tuple(keys[key] for key in selecting if key in keys),
    }


def _spec(lines: list[str]) -> dict[str, Lines]:
    """Return the lines of each key of `spec`: its own and everything that belongs to it."""
    first = next((n for n, line in enumerate(lines) if line.rstrip() == "spec:"), len(lines)) + 1
    after = (n for n, line in enumerate(lines[first:], first) if line.strip() and line[0] != " ")
    end = next(after, len(lines))
    # A list's `- ` may stand at the indent of its key.
    starts = [n for n in range(first, end) if lines[n][:2] == "  " and lines[n][2:3] not in " -"]
    names = (lines[number][2:].partition(":")[0] for number in starts)
    return dict(zip(names, zip(starts, [*starts[1:], end], strict=False), strict=True))


def _items(lines: list[str], block: Lines | None) -> tuple[Lines, ...]:
    """Return the lines of each item of a list, given the lines of its key."""
    first, end = (block[0] + 1, block[1]) if block else (0, 0)
    if first >= end or not lines[first].lstrip().startswith("- "):
        return ()
    dash = lines[first].partition("-")[0] + "- "
    starts = [number for number in range(first, end) if lines[number].startswith(dash)]
    return tuple(zip(starts, [*starts[1:], end], strict=True))
