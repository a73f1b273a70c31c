"""A command in a pod, its output streamed to a file: argv, no shell, nothing left behind.

One that is talked to while it runs is `audit.facts.live.streams`' matter.

Each stream has a connection of its own (`kubernetes.stream.stream()` swaps a method of the client
it is given and is not safe in threads, so it is not used). Only the transport is tried again: what
the command itself says is its answer.
"""

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import websocket
from kubernetes.client.exceptions import ApiException
from kubernetes.stream.ws_client import (
    ERROR_CHANNEL,
    STDERR_CHANNEL,
    STDOUT_CHANNEL,
    WSClient,
    get_websocket_url,
)

from audit.errors import ClusterError
from audit.facts.live.access import Access
from audit.facts.live.api import connect
from audit.facts.live.clients import Ended

AT_ONCE = 8
"""Pods in which a command runs at the same time, one stream each."""

_ATTEMPTS = 3
_POLL_S = 1.0
_CONNECT_TIMEOUT_S = 15.0
_KEPT_STDERR = 4096
_SHOWN = 300


_T = TypeVar("_T")


class ExecError(ClusterError):
    """A command in a pod could not be run to its end, or it failed."""


class _TransportError(Exception):
    """The stream broke; the command did not say how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Where a command runs."""

    namespace: str
    pod: str
    name: str

    def __str__(self) -> str:
        return f"container {self.name} of pod {self.namespace}/{self.pod}"


def run(
    access: Access, where: Container, argv: Sequence[str], target: Path, *, timeout_s: float
) -> None:
    """Run `argv` and leave its standard output in `target`; ExecError says why it is not there."""

    def once() -> None:
        with target.open("wb") as sink:
            _judge(where, argv, *_once(access, where, argv, sink, timeout_s))

    _tried(where, once)


def ended(access: Access, where: Container, argv: Sequence[str], *, timeout_s: float) -> Ended:
    """Run `argv` and return how it ended, also when that was badly; ExecError when it did not."""

    def once() -> Ended:
        sink = io.BytesIO()
        errors, status = _once(access, where, argv, sink, timeout_s)
        output, said = (
            text.decode("utf-8", errors="replace") for text in (sink.getvalue(), errors)
        )
        return Ended(code=_code(status), output=output, errors=said)

    return _tried(where, once)


def connected(
    access: Access, where: Container, argv: Sequence[str], *, stdin: bool = False
) -> WSClient:
    """Run `argv` and return the stream to it; ExecError when it cannot be opened."""
    return _tried(where, lambda: _connect(access, where, argv, stdin=stdin))


def _tried(where: Container, attempt: Callable[[], _T]) -> _T:
    """Try something again while the transport fails; ExecError when it still does."""
    reason = ""
    for number in range(_ATTEMPTS):
        try:
            return attempt()
        except _TransportError as error:
            reason = str(error)
            time.sleep(0.2 * 2**number)
    raise ExecError(f"{where}: {reason[:_SHOWN]} (tried {_ATTEMPTS} times)")


def _once(
    access: Access, where: Container, argv: Sequence[str], sink: IO[bytes], timeout_s: float
) -> tuple[bytes, bytes]:
    """Run a command once, to the end of its stream; return its errors and the exec's status."""
    deadline = time.monotonic() + timeout_s
    stream = _connect(access, where, argv)
    errors, status = b"", b""
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ExecError(
                    f"{where}: {argv[0]} did not finish in {timeout_s:g} s; the pod may "
                    "be overloaded: look at it, and try again"
                )
            stream.update(timeout=min(left, _POLL_S))
            sink.write(stream._channels.pop(STDOUT_CHANNEL, b""))  # noqa: SLF001 - read without waiting
            errors = (errors + stream._channels.pop(STDERR_CHANNEL, b""))[-_KEPT_STDERR:]  # noqa: SLF001
            status += stream._channels.pop(ERROR_CHANNEL, b"")  # noqa: SLF001
            if not stream.is_open() or _is_whole(status):
                break
    except (OSError, websocket.WebSocketException) as error:
        raise _TransportError(f"the stream broke: {error}") from error
    finally:
        close(stream)
    return errors, status


def _connect(
    access: Access, where: Container, argv: Sequence[str], *, stdin: bool = False
) -> WSClient:
    """Open a WebSocket to a pod's exec; with the credentials of an API client of its own."""
    websocket.setdefaulttimeout(_CONNECT_TIMEOUT_S)  # WSClient hands on no timeout of its own
    with connect(access) as api:
        query = [
            ("container", where.name),
            *(("command", word) for word in argv),
            *(("stdout", "true"), ("stderr", "true"), ("tty", "false")),
            ("stdin", "true" if stdin else "false"),
        ]
        path = f"/api/v1/namespaces/{where.namespace}/pods/{where.pod}/exec"
        _, url, headers, *_ = api.param_serialize(
            "GET", path, query_params=query, auth_settings=["BearerToken"]
        )
        bearer = {name.lower(): value for name, value in headers.items()}
        try:
            return WSClient(
                api.configuration, get_websocket_url(url), bearer, capture_all=False, binary=True
            )
        except websocket.WebSocketBadStatusException as error:
            raise _refused(where, error) from error
        except (OSError, websocket.WebSocketException, ApiException) as error:
            raise _TransportError(f"cannot be connected to: {error}") from error


def _refused(where: Container, error: websocket.WebSocketBadStatusException) -> Exception:
    """Return what an HTTP status instead of a WebSocket means."""
    meaning = {
        401: "the credentials are not accepted; log in again",
        403: "exec is forbidden; grant get and create on pods/exec in this namespace",
        404: "the pod or its container is gone",
    }
    if error.status_code in meaning:
        return ExecError(f"{where}: {meaning[error.status_code]} ({error.status_code})")
    return _TransportError(f"the API server answers {error.status_code}")


_NOT_STARTED = frozenset({126, 127, 128})
"""What shells and container runtimes say of a program that is not there, or cannot be run."""


def _code(status: bytes) -> int | None:
    """Return a command's exit code; None when it could not be started, or the status is none."""
    try:
        whole: dict[str, Any] = json.loads(status)
    except ValueError as error:
        raise _TransportError("the stream ended before the command did") from error
    if whole.get("status") == "Success":
        return 0
    causes = (whole.get("details") or {}).get("causes") or ()
    codes = [cause.get("message") for cause in causes if cause.get("reason") == "ExitCode"]
    code = int(codes[0]) if codes and str(codes[0]).isdecimal() else None
    return None if code in _NOT_STARTED else code


def _is_whole(status: bytes) -> bool:
    try:
        json.loads(status or b"-")
    except ValueError:
        return False
    return True


def _judge(where: Container, argv: Sequence[str], errors: bytes, status: bytes) -> None:
    """Raise unless the command ended well; a stream without an end says nothing of it."""
    try:
        ended: dict[str, Any] = json.loads(status)
    except ValueError as error:
        raise _TransportError("the stream ended before the command did") from error
    if ended.get("status") != "Success":
        message = " ".join(errors.decode("utf-8", errors="replace").split())[-_SHOWN:]
        raise ExecError(
            f"{where}: `{argv[0]}` failed: {message or ended.get('message', 'no reason')}"
        )


def close(stream: WSClient) -> None:
    """Close a stream without waiting for the other side: the exec ends with it."""
    try:
        stream.close(timeout=1)
    except (OSError, websocket.WebSocketException):
        return
