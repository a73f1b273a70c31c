"""Text of anyone's making, made harmless for what shows it: one function per medium.

Names, labels and file names may hold newlines, escape sequences, marks that turn the direction of
writing, and halves of characters. Nothing that is shown obeys them: each becomes `�`, or in JSON
its escape.
"""

import json
import re
import textwrap
from collections.abc import Iterable
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
COLUMNS = 80
"""Of a paragraph on a terminal."""


def line(text: str) -> str:
    """Return a text for one line: it neither ends the line nor begins another."""
    return "".join(char if char.isprintable() else REPLACEMENT for char in text)


def lines(texts: Iterable[str]) -> str:
    """Return a text of these lines."""
    return "".join(f"{line(text)}\n" for text in texts)


def wrap(text: str, *, indent: int = 0, hang: int = 0, columns: int = COLUMNS) -> list[str]:
    """Fold text at spaces only; continuation lines start at column `hang` or at the indent."""
    return textwrap.wrap(
        text,
        columns,
        initial_indent=" " * indent,
        subsequent_indent=" " * max(indent, hang),
        break_long_words=False,
        break_on_hyphens=False,
    )


def strings(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Return a value whose strings are each made for one line."""
    match value:
        case str():
            return line(value)
        case dict():
            return {key: strings(member) for key, member in value.items()}
        case list() | tuple():
            return [strings(member) for member in value]
        case _:
            return value


def printable(text: str) -> str:
    """Return a text of several lines, made of lines that were harmless before."""
    return "".join(char if char.isprintable() or char == "\n" else REPLACEMENT for char in text)


def json_text(value: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    """Return JSON that reads as it is and that a terminal obeys in nothing."""
    return _UNSEEN.sub(_escaped, json.dumps(value, indent=2, ensure_ascii=False))


_UNSEEN = re.compile(r"[^\n -~]")


def _escaped(match: re.Match[str]) -> str:
    """Return JSON's escape of a character that is not shown as itself."""
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]
