"""YAML → plain values, by the safe loader; whatever is wrong with it is one kind of error."""

from typing import Any

import yaml

# libyaml reads the same text eight times faster.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ValueError):
    """A text that is no YAML, or holds a value that its tag does not allow."""


def documents(text: str | bytes) -> list[Any]:
    """Return every document of a text. DocumentError with what is wrong and where, in a line."""
    try:
        return list(yaml.load_all(text, Loader=LOADER))
    # What a tag promises and a value does not keep (`!!timestamp web`, the 30th of February) fails
    # in the loader in whatever way it happens to.
    except (
        *(yaml.YAMLError, RecursionError, ValueError, LookupError),
        *(TypeError, AttributeError, OverflowError),
    ) as error:
        raise DocumentError(" ".join(str(error).split())) from error
