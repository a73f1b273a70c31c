"""A command in a pod whose standard input and output are read and written like a socket.

The stream is the command's life: when it ends, in whatever way, the command's input does.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import websocket
from kubernetes.stream.ws_client import (
    ERROR_CHANNEL,
    STDERR_CHANNEL,
    STDIN_CHANNEL,
    STDOUT_CHANNEL,
    WSClient,
)

from audit import scratch
from audit.errors import ClusterError
from audit.facts.live import execs
from audit.facts.live.access import Access
from audit.facts.live.execs import Container

_POLL_S = 1.0
_KEPT_STDERR = 4096
_SHOWN = 300


class ExecStream:
    """One command; of one thread at a time."""

    def __init__(self, client: WSClient, where: Container) -> None:
        self._client = client
        self._where = where
        self._timeout_s = 30.0
        self._errors = b""

    def settimeout(self, value: float, /) -> None:
        """Say how long anything may take from now on."""
        self._timeout_s = value

    def sendall(self, data: bytes, /) -> None:
        """Write to the command's standard input; OSError when the stream is broken."""
        try:
            self._client.write_channel(STDIN_CHANNEL, data)
        except websocket.WebSocketException as error:
            raise ConnectionError(f"{self._where}: the stream broke: {error}") from error

    def recv(self, _bufsize: int, /) -> bytes:
        """Return what the command wrote, at the latest after the timeout; nothing at its end.

        ConnectionError, with what it said, when it ended saying something is wrong.
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._client.update(timeout=min(max(deadline - time.monotonic(), 0), _POLL_S))
            except (OSError, websocket.WebSocketException) as error:
                raise ConnectionError(f"{self._where}: the stream broke: {error}") from error
            channels = self._client._channels  # noqa: SLF001 - read without waiting
            self._errors = (self._errors + channels.pop(STDERR_CHANNEL, b""))[-_KEPT_STDERR:]
            data: bytes = channels.pop(STDOUT_CHANNEL, b"")
            if data:
                return data
            if channels.get(ERROR_CHANNEL) or not self._client.is_open():
                reason = " ".join(self._errors.decode("utf-8", errors="replace").split())[-_SHOWN:]
                reason = reason or channels.get(ERROR_CHANNEL, b"").decode(
                    "utf-8", errors="replace"
                )
                raise ConnectionError(f"{self._where}: the command ended: {reason or 'unheard'}")
            if time.monotonic() >= deadline:
                raise TimeoutError

    def close(self) -> None:
        """Close the stream, without waiting for the other side."""
        execs.close(self._client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Opens streams to the containers of places; of several members of one, any will do."""

    access: Access
    containers: Mapping[str, tuple[Container, ...]]

    def __call__(self, name: str, argv: Sequence[str]) -> ExecStream:
        """Run `argv` in a container of `place`; ClusterError when none takes it."""
        last: ClusterError | None = None
        for where in self.containers[name]:
            try:
                return ExecStream(execs.connected(self.access, where, argv, stdin=True), where)
            except ClusterError as error:
                last = error
        assert last is not None  # noqa: S101 - a place has a container
        raise last

    def outputs(self, argv: Sequence[str]) -> Mapping[str, str | ClusterError]:
        """Return what a command prints at each place, or why it does not run there."""
        with ThreadPoolExecutor(max_workers=execs.AT_ONCE) as pool:
            answers = pool.map(lambda name: self._output(name, argv), self.containers)
            return dict(zip(self.containers, answers, strict=True))

    def _output(self, name: str, argv: Sequence[str]) -> str | ClusterError:
        last: ClusterError | None = None
        for where in self.containers[name]:
            with scratch.directory("said") as space:
                within = self.access.exec_timeout_s
                try:
                    execs.run(self.access, where, argv, space / "said", timeout_s=within)
                except ClusterError as error:
                    last = error
                else:
                    return (space / "said").read_text(errors="replace")
        assert last is not None  # noqa: S101 - a place has a container
        return last
