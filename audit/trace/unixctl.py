"""A client for OVS's `unixctl` sockets: JSON-RPC 1.0 over a Unix stream (ovs-appctl(8)).

The stream may also be another that leads to such a socket (`audit.trace.pods`).

The `ovs` package has one, but its pure-Python JSON parser takes 6 ms for a trace's 9 kB, ten
times what the trace itself takes; the standard library's takes 0.03 ms.
"""

import itertools
import json
import socket
import time
from pathlib import Path
from typing import Protocol, Self

_RECEIVE = 1 << 18
_LARGEST_REPLY = 64 << 20
"""An `nd_ns` action can make a trace print megabytes; beyond this the daemon has gone mad."""


class UnixctlError(Exception):
    """The server is gone, silent, or speaks something else."""


class UnixctlTimeoutError(UnixctlError):
    """The server did not answer in time; the connection is of no further use."""


class RefusedError(Exception):
    """The server answered that it will not."""


class Channel(Protocol):
    """What a connection needs of a socket; it raises OSError, and TimeoutError, as one does."""

    def settimeout(self, value: float, /) -> None:
        """Say how long anything may take from now on."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send bytes."""
        ...

    def recv(self, bufsize: int, /) -> bytes:
        """Return some bytes, none at the end."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def connect(path: Path, timeout_s: float) -> Channel:
    """Connect to a Unix socket; UnixctlError when nobody listens."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout_s)
    try:
        made.connect(str(path))
    except OSError as error:
        made.close()
        # A path too long for a socket's address has no strerror.
        raise UnixctlError(f"{path}: {error.strerror or error}") from error
    return made


class Unixctl:
    """One connection; requests are answered in order. To a socket, unless a channel is given."""

    def __init__(self, path: Path, *, timeout_s: float, channel: Channel | None = None) -> None:
        self._socket = channel or connect(path, timeout_s)
        self._timeout_s = timeout_s
        self._path = path
        self._numbers = itertools.count(1)
        self.answers = 0
        """How many commands were answered."""

    def greeting(self, timeout_s: float) -> str:
        """Return what the server sends before the first command; errors as of `transact`."""
        return self._reply(0, time.monotonic() + timeout_s)

    def transact(self, method: str, *arguments: str) -> str:
        """Send one command and return its reply.

        RefusedError when the server replies with an error; UnixctlTimeoutError when the whole
        reply is not there in time; UnixctlError when the connection ends or the reply is not to
        this command, as after a call that was interrupted.
        """
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": list(arguments)}
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(json.dumps(request).encode())
        except TimeoutError as error:
            raise UnixctlTimeoutError(f"{self._path}: not taken in time") from error
        except OSError as error:
            raise UnixctlError(f"{self._path}: {error.strerror or error}") from error
        reply = self._reply(number, deadline)
        self.answers += 1
        return reply

    def _reply(self, number: int, deadline: float) -> str:
        try:
            reply = self._receive(deadline)
        except TimeoutError as error:
            raise UnixctlTimeoutError(f"{self._path}: no answer in time") from error
        except OSError as error:
            raise UnixctlError(f"{self._path}: {error.strerror or error}") from error
        if reply.get("id") != number:
            raise UnixctlError(f"{self._path}: an answer to another command")
        if reply.get("error") is not None:
            raise RefusedError(str(reply["error"]).strip())
        return str(reply.get("result") or "")

    def _receive(self, deadline: float) -> dict[str, object]:
        """Read one JSON object. A reply's end is where the object ends: nothing frames it."""
        received = bytearray()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            block = self._socket.recv(_RECEIVE)
            if not block:
                raise UnixctlError(f"{self._path}: the connection was closed")
            received += block
            if len(received) > _LARGEST_REPLY:
                raise UnixctlError(f"{self._path}: a reply of more than {_LARGEST_REPLY} bytes")
            # Only a block that ends an object can complete the reply: parse no other.
            if received.endswith((b"}", b"}\n")):
                try:
                    reply = json.loads(received.decode(errors="replace"))
                except ValueError:
                    continue
                except RecursionError as error:
                    raise UnixctlError(f"{self._path}: a reply that is nested too deep") from error
                if isinstance(reply, dict):
                    return reply

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
