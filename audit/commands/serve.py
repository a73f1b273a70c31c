"""`audit serve`: the pages of the runs below a root, for browsers; it only reads.

A request is answered from the list of runs: nothing of it ever becomes a path. A page is sent as
the audit wrote it, by its SHA-256 in `run.json`, or not at all.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

from audit import scratch
from audit.commands.copy import RemoteDirectory
from audit.commands.history import History, past
from audit.errors import AuditError, RunReadError
from audit.model.options import LOOPBACK
from audit.store import evidence, plain, remote

MOST_BYTES = 16_000_000
"""Of a page; `audit` writes none of more than 10 MB."""
LISTED_FOR = 10.0
"""Seconds that a list of runs is good for: it costs a file per run, on a store a request."""
HEALTH = "/-/healthz"

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Beside the stricter one in each page, by hashes: a browser keeps both."""
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Cache-Control", "private, no-cache"),
)
_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What of a request is looked at: `path` is decoded, `host` is what the browser asked for."""

    method: str = "GET"
    path: str = "/"
    host: str = LOOPBACK
    known: str = ""
    """The ETag of what the browser has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; `tag` names the content, so that a browser need not fetch it twice."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = _TEXT
    tag: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def _said(status: HTTPStatus, text: str = "", *headers: tuple[str, str]) -> Answer:
    body = f"{status.value} {status.phrase}{f': {text}' if text else ''}\n".encode()
    return Answer(status=status, body=body, headers=headers)


@dataclass(slots=True)
class Site:
    """The pages of a root, as a WSGI application. `names` are host names that are answered.

    Addresses and `localhost` always are. Any other name is refused unless it is told, so that no
    page of elsewhere can have its own name lead here and read what it must not (DNS rebinding).
    """

    root: Path | RemoteDirectory
    names: frozenset[str] = frozenset()
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listed: tuple[float, History] | None = None

    def __call__(
        self, environ: Mapping[str, Any], start: Callable[[str, list[tuple[str, str]]], Any]
    ) -> Iterable[bytes]:
        """Answer a request as WSGI hands it over."""
        request = Request(
            method=environ["REQUEST_METHOD"],
            path=environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace"),
            host=environ.get("HTTP_HOST", ""),
            known=environ.get("HTTP_IF_NONE_MATCH", ""),
        )
        answer = self.answer(request)
        headers = [*_HEADERS, *answer.headers, ("Content-Type", answer.kind)]
        headers.append(("Content-Length", str(len(answer.body))))
        if answer.tag:
            headers.append(("ETag", answer.tag))
        start(f"{answer.status.value} {answer.status.phrase}", headers)
        return [b"" if request.method == "HEAD" else answer.body]

    def answer(self, request: Request) -> Answer:
        """Return what a request is answered with; an error is a sentence, never a traceback."""
        if request.method not in ("GET", "HEAD"):
            return _said(HTTPStatus.METHOD_NOT_ALLOWED, "", ("Allow", "GET, HEAD"))
        if request.path == HEALTH:
            return _said(HTTPStatus.OK)
        if not self._is_named(request.host):
            text = f"this server is not called {request.host!r}; name it with --host-name"
            return _said(HTTPStatus.MISDIRECTED_REQUEST, text)
        try:
            content = self._page(request.path)
        except AuditError as error:
            return _said(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        if isinstance(content, Answer):
            return content
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        if request.known == tag:
            return Answer(status=HTTPStatus.NOT_MODIFIED, kind=_HTML, tag=tag)
        return Answer(status=HTTPStatus.OK, body=content, kind=_HTML, tag=tag)

    def _is_named(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() in self.names | {LOOPBACK}
        return True

    def _page(self, path: str) -> bytes | Answer:
        """Return the index, a run's page, or why there is none."""
        listing = self._history()
        if path == "/":
            return listing.page(str(self.root)).encode()
        name, slash, file = path.removeprefix("/").partition("/")
        run = next((run for run in listing.runs if run.report and run.name == name), None)
        if run is None or file not in ("", evidence.REPORT):
            return _said(HTTPStatus.NOT_FOUND)
        if not slash or not file:
            location = ("Location", f"/{quote(name, safe='')}/{evidence.REPORT}")
            return _said(HTTPStatus.FOUND, "", location)
        return self._report(name)

    def _history(self) -> History:
        """Return the runs of the root, listed anew when the list is old."""
        with self._lock:
            if self._listed is None or time.monotonic() - self._listed[0] > LISTED_FOR:
                self._listed = (time.monotonic(), past(self.root))
            return self._listed[1]

    def _report(self, name: str) -> bytes | Answer:
        if not isinstance(self.root, Path):
            with scratch.directory("page") as space:
                return _read(remote.fetch_report(self.root / name, space, MOST_BYTES))
        if (self.root / name).is_symlink():
            return _said(HTTPStatus.NOT_FOUND, "links are not followed")
        return _read(self.root / name)


def _read(run: Path) -> bytes:
    """Return a run's page; RunReadError when it is not as the audit wrote it, or too large."""
    written = evidence.listed(run).get(evidence.REPORT, {}).get("sha256")
    try:
        with plain.opened(run, evidence.REPORT) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        text = f"{evidence.REPORT} of {run.name} cannot be read: {error.strerror or error}"
        raise RunReadError(text) from error
    if len(content) > MOST_BYTES or hashlib.sha256(content).hexdigest() != written:
        text = f"{evidence.REPORT} of {run.name} is not as the audit wrote it; render it again"
        raise RunReadError(text)
    return content
