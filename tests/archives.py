"""The tests' own archives, unpacked by every Python that the product runs on."""

import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def extract(
    archive: tarfile.TarFile, target: Path, members: Iterable[tarfile.TarInfo] | None = None
) -> None:
    """Unpack an archive that lies in this repository, or was made by a test.

    Debian 12's Python (3.11.2) has no extraction filters; newer ones warn where none is named.
    """
    filtered: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(target, members, **filtered)  # noqa: S202 - nobody else's
