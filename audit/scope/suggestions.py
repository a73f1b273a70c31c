"""What somebody who mistyped a name probably meant."""

import difflib
from collections.abc import Iterable


def nearest(given: str, names: Iterable[str]) -> str | None:
    """Return the name in `names` that looks most like `given`, None when none does."""
    matches = difflib.get_close_matches(given, sorted(set(names)), n=1)
    return matches[0] if matches else None


def did_you_mean(given: str, names: Iterable[str], before: str = "") -> str:
    """Return `; did you mean x?` for the end of a message, empty when nothing looks like it.

    `before` stands before what was given and is suggested: its kind.
    """
    suggestion = nearest(given, names)
    return f"; did you mean {before}{suggestion}?" if suggestion else ""
