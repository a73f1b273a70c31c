"""One writer below a directory at a time, whatever becomes of it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.errors import OutputError
from audit.store.files import writing

_BUSY = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def exclusively(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, which exists; OutputError when another process has it.

    The kernel lets go of it when the process ends in whatever way, and no file is left that would
    have to be removed by hand. A file system that cannot lock directories (some that are mounted
    from elsewhere) is written without.
    """
    with writing(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                raise OutputError(
                    f"another audit is writing a run below {directory}; wait for it to end, or "
                    "give another --out"
                ) from None
        yield
    finally:
        os.close(descriptor)
