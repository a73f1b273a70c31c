"""Programs of other people's images that can open a TCP connection, and what their words mean.

Nothing is made of cluster data but two arguments, an address and a number: no shell reads them. A
program whose words are not understood is not believed: the next is tried. None looks a name up, and
none goes through a proxy that a pod's environment names, which would answer for the destination.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from audit.model.probes import Response

_REFUSED = re.compile(r"refused", re.IGNORECASE)
_LATE = re.compile(r"timed out|^ncat: timeout", re.IGNORECASE | re.MULTILINE)
_NO_WAY = re.compile(r"unreachable|no route to host|could(n't| not) connect", re.IGNORECASE)

_NOT_TAKEN = re.compile(r"usage:|(invalid|unknown|unrecognized) option", re.IGNORECASE)
"""A program of the name that is not the one meant: its help speaks of timeouts, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command in a pod ended; `code` is None when it could not be started."""

    code: int | None
    output: str
    errors: str

    @property
    def text(self) -> str:
        """Everything it printed."""
        return f"{self.output}\n{self.errors}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program. `argv` takes an address, a port and seconds; `connected` reads a success."""

    name: str
    argv: Callable[[str, int, int], tuple[str, ...]]
    connected: Callable[[Ended], bool]
    late: frozenset[int] = frozenset()
    """Exit codes that say that the time was over."""

    def read(self, ended: Ended) -> Response | None:
        """Return what came of a connection; None when the program does not say."""
        if ended.code is None or _NOT_TAKEN.search(ended.text):
            return None
        if self.connected(ended):
            return Response.CONNECTED
        for pattern, response in _FAILURES.items():
            if pattern.search(ended.text):
                return response
        return Response.UNANSWERED if ended.code in self.late else None


_FAILURES: Mapping[re.Pattern[str], Response] = {
    _REFUSED: Response.REFUSED,
    _LATE: Response.UNANSWERED,
    _NO_WAY: Response.UNREACHABLE,
}

_BASH = (
    'LC_ALL=C; read -r -t "$3" word < <(exec 3<>"/dev/tcp/$1/$2" && echo connected); '
    '[ $? -gt 128 ] && echo "timed out"; kill -9 $! 2>/dev/null; echo "$word"'
)
_PYTHON = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
    print("connected")
except OSError as error:
    print(error)
"""
_TIMEOUT = frozenset({124, 143})
"""What `timeout` ends with: coreutils', and busybox' (the signal it sent)."""
_NO_PROXY = ("http_proxy=", "HTTP_PROXY=", "all_proxy=", "ALL_PROXY=")


def _url(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/"


def _says(*words: str) -> Callable[[Ended], bool]:
    """Return whether one of these words is printed."""
    pattern = re.compile("|".join(words), re.IGNORECASE | re.MULTILINE)
    return lambda ended: pattern.search(ended.text) is not None


def _nc(address: str, port: int, seconds: int) -> tuple[str, ...]:
    return ("nc", "-n", "-v", "-z", "-w", str(seconds), address, str(port))


def _bash(address: str, port: int, seconds: int) -> tuple[str, ...]:
    return ("bash", "-c", _BASH, "ovn-audit-probe", address, str(port), str(seconds))


def _gnu_wget(address: str, port: int, seconds: int) -> tuple[str, ...]:
    options = ("--no-proxy", "--spider", "-T", str(seconds), "-t", "1", "--max-redirect", "0")
    return ("env", "LC_ALL=C", "wget", *options, _url(address, port))


def _busybox_wget(address: str, port: int, seconds: int) -> tuple[str, ...]:
    # Its own limit, -T, ends some builds of 1.35 with a segmentation fault.
    limited = ("timeout", str(seconds), "wget", "--spider", _url(address, port))
    return ("env", *_NO_PROXY, *limited)


def _curl(address: str, port: int, seconds: int) -> tuple[str, ...]:
    options = ("-q", "--noproxy", "*", "-sS", "-o", "/dev/null", "-w", "%{time_connect}")
    limits = ("--connect-timeout", str(seconds), "--max-time", str(seconds))
    return ("curl", *options, *limits, _url(address, port))


def _python(address: str, port: int, seconds: int) -> tuple[str, ...]:
    return ("python3", "-I", "-S", "-c", _PYTHON, address, str(port), str(seconds))


def _curl_connected(ended: Ended) -> bool:
    """Say whether the time that the handshake took is not none."""
    return re.search(r"[1-9]", ended.output) is not None


CLIENTS: tuple[Client, ...] = (
    Client(name="nc", argv=_nc, connected=_says(r"succeeded", r"\bopen$", "connected to")),
    Client(name="bash", argv=_bash, connected=_says("^connected$")),
    Client(name="wget", argv=_gnu_wget, connected=_says(r"\.\.\. connected\.")),
    Client(
        name="busybox wget",
        argv=_busybox_wget,
        connected=_says(
            *("^remote file exists", "server returned error", "error getting response"),
            r"connecting to [\s\S]*connecting to",  # who redirects was connected to
        ),
        late=_TIMEOUT,
    ),
    Client(name="python3", argv=_python, connected=_says("^connected$")),
    Client(name="curl", argv=_curl, connected=_curl_connected),
)
"""In the order in which they are tried: those of small images first, and last the one
that does not say of every failure what it was."""
