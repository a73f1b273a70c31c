"""Text as XML 1.0 takes it: https://www.w3.org/TR/xml/#charsets."""

from xml.sax.saxutils import escape, quoteattr


def text(value: str) -> str:
    """Return a text for an element's content."""
    return escape(_allowed(value))


def attribute(value: str) -> str:
    """Return a text for an attribute, quoted."""
    return quoteattr(_allowed(value))


def _allowed(value: str) -> str:
    """Replace what XML forbids, which nothing printable is, and what would not be seen."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in value)
