"""Text as XML 1.0 takes it: https://www.w3.org/TR/xml/#charsets. What is printable, it takes."""

from xml.sax.saxutils import escape, quoteattr

from audit.report import printing


def line(value: str) -> str:
    """Return a text for a line of an element's content."""
    return escape(printing.line(value))


def attribute(value: str) -> str:
    """Return a text for an attribute, quoted."""
    return quoteattr(printing.line(value))
