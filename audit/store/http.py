"""What is sent to a server that the user names, and to no other: no redirection is followed."""

import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Any

from audit.errors import AuditError, UsageError

_TIMEOUT_S = 30.0
_LARGEST = 1 << 20
"""Bytes of an answer that are read: a timestamp with its certificates has some thousands."""


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: who was named is who is asked."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as it is called
        """Return nothing, which makes the redirection an error."""


def require_url(url: str, what: str) -> str:
    """Return the address of `what`; UsageError when it is none of HTTP's, or has a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"{url!r} is no address of a {what}, as https://HOST/PATH")
    if parts.username or parts.password:
        raise UsageError(f"the address of a {what} is recorded: leave out its password")
    return url


def sent(url: str, content: bytes, media_type: str, *, method: str, what: str) -> bytes:
    """Send `content` to the server at `url` and return its answer; AuditError without one."""
    headers = {"Content-Type": media_type}
    request = urllib.request.Request(  # noqa: S310 - HTTP, as is looked at
        require_url(url, what), data=content, headers=headers, method=method
    )
    try:
        with urllib.request.build_opener(_SameServer).open(request, timeout=_TIMEOUT_S) as answer:
            status, body = answer.status, answer.read(_LARGEST)
    except urllib.error.HTTPError as error:
        error.close()
        raise AuditError(f"the {what} {url} answered with HTTP {error.code}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise AuditError(f"the {what} {url} cannot be asked: {why}") from error
    if status not in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
        raise AuditError(f"the {what} {url} answered with HTTP {status}")
    return bytes(body)
