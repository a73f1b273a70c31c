"""An archive of anyone's making → the plain files in it, and never more than is allowed.

It is read to its end: the checksum and the length that stand there say nothing until the end was
read. It is read no further than its limit: a few bytes may unpack to more than a disk has. What is
damaged, cut short, or not over where it says is refused as a whole.
"""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Self, cast

LARGEST = 16 << 30
"""Bytes that a snapshot may unpack to, unless more is allowed."""
UNREADABLE = (
    *(tarfile.TarError, EOFError, OSError, ValueError, RecursionError),
    *(zlib.error, lzma.LZMAError),
)
"""What a damaged archive raises: its decompressor's own error, which is not always an OSError."""

_BLOCK = 1 << 20
_HEADERS = 4 << 20
"""Bytes that may precede one member: names and attributes, whose length nothing else bounds."""
_MOST_MEMBERS = 100_000
_EXPANDERS: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": partial(lzma.LZMAFile, format=lzma.FORMAT_XZ),
}
"""What expands a file, by how it begins. (`.lzma` is not among them: it has no checksum.)"""


class TooLargeError(ValueError):
    """An archive unpacks to more than is allowed, or than there is room for."""


@dataclass(slots=True)
class Limit:
    """How many bytes may be unpacked, over all archives of one snapshot."""

    most: int = LARGEST
    taken: int = 0

    def take(self, size: int) -> None:
        """Count bytes that were unpacked."""
        self.taken += size
        self.check(0)

    def check(self, size: int) -> None:
        """Raise TooLargeError when `size` bytes more are too many."""
        if self.taken + size > self.most:
            raise TooLargeError(
                f"it unpacks to more than {self.most:,} bytes; if it is to be trusted, allow more "
                "with --max-snapshot-size"
            )


class Expanded:
    """The bytes of a file, expanded and read forward only, each counted against a limit.

    `allowed` is how many may be read until it is set again. What is skipped is not among these.
    """

    def __init__(self, stream: IO[bytes], limit: Limit) -> None:
        self._stream = stream
        self._limit = limit
        self._position = 0
        self.allowed = _HEADERS

    def tell(self) -> int:
        """Return how many bytes were read or skipped."""
        return self._position

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer than `size` only at the end."""
        if not 0 <= size <= self.allowed:
            raise tarfile.ReadError("a header in it is longer than any name or attribute")
        self.allowed -= size
        return self._next(size)

    def seek(self, position: int) -> None:
        """Skip what lies before a place."""
        if position < self._position:
            raise tarfile.ReadError("members of it overlap")
        while self._position < position and self._next(min(_BLOCK, position - self._position)):
            pass

    def blocks(self) -> Iterator[bytes]:
        """Yield what is left, to the end, where the checksum is compared."""
        while block := self._next(_BLOCK):
            yield block

    def _next(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._position += len(block)
        self._limit.take(len(block))
        return block


@contextmanager
def expanded(file: Path, limit: Limit) -> Iterator[Expanded]:
    """Open a file, expanded where it is compressed."""
    with file.open("rb") as packed:
        start = packed.read(max(map(len, _EXPANDERS)))
        packed.seek(0)
        for magic, expander in _EXPANDERS.items():
            if start.startswith(magic):
                with expander(packed) as stream:
                    yield Expanded(stream, limit)
                return
        yield Expanded(packed, limit)


class _Header(tarfile.TarInfo):
    """A header that, where it is damaged or missing, is an error and not the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)  # which says that this is the end
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.TarError as error:
            raise tarfile.ReadError(f"it is damaged, cut short or no archive ({error})") from error


def members(archive: Path, limit: Limit) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, size and content of each plain file; the content lasts until the next is asked.

    Whatever is wrong with the archive is an error of UNREADABLE, some only after the last member.
    """
    with expanded(archive, limit) as stream:
        tar = tarfile.TarFile(fileobj=cast("IO[bytes]", stream), tarinfo=_Header)
        for count, member in enumerate(tar, start=1):
            if count > _MOST_MEMBERS:
                raise TooLargeError(f"it has more than {_MOST_MEMBERS:,} members")
            if member.issparse():
                raise tarfile.ReadError(f"{member.name} is packed as a sparse file; pack it whole")
            limit.check(member.size)
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                stream.allowed = member.size + tarfile.BLOCKSIZE
                with content:
                    yield member.name, member.size, content
            stream.allowed = _HEADERS
        if any(any(block) for block in stream.blocks()):
            raise tarfile.ReadError("something follows where it ends")


def keep(blocks: Iterator[bytes], file: Path, *, size: int = 0) -> None:
    """Write a file of whose content at least the size may be known; there must be room for that."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if size > (room := shutil.disk_usage(file.parent).free):
        raise TooLargeError(
            f"{size:,} bytes are to be unpacked and {room:,} are free; name a directory with more "
            "room in TMPDIR"
        )
    with file.open("wb") as sink:
        for block in blocks:
            sink.write(block)


def blocks_of(content: IO[bytes]) -> Iterator[bytes]:
    """Yield a member's content."""
    while block := content.read(_BLOCK):
        yield block
