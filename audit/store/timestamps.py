"""Timestamps (RFC 3161) over a run's signature, by `rfc3161-client`: when it was there already.

A server that the user names gets the signature's SHA-256 and nothing else. Its answer is kept as it
came, in a file beside, so that `openssl ts -verify` reads it too.
"""

import datetime as dt
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from audit.errors import AuditError, UsageError
from audit.store import plain
from audit.store.files import replacing
from audit.store.layout import SIGNATURE, TIMESTAMP

Roots = list[x509.Certificate]
_TIMEOUT_S = 30.0
_LARGEST = 1 << 20
"""Bytes of an answer: with a chain of certificates it has some thousands."""


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: who was named is who is asked."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as it is called
        """Return nothing, which makes the redirection an error."""


def require_url(url: str) -> str:
    """Return the address of a server; UsageError when it is none of HTTP's, or has a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"{url!r} is no address of a timestamp server, as https://HOST/PATH")
    if parts.username or parts.password:
        raise UsageError("the address of a timestamp server is recorded: leave out its password")
    return url


def stamp(run: Path, url: str) -> None:
    """Have the server at `url` say that the signature of a finished run is there by now.

    AuditError when it does not answer, or answers something else.
    """
    message = plain.read(run, SIGNATURE)
    request = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = _asked(url, request.as_bytes())
    response = _decoded(answer)
    if response is None or PKIStatus(response.status) not in (
        PKIStatus.GRANTED,
        PKIStatus.GRANTED_WITH_MODS,
    ):
        raise AuditError(f"the timestamp server {url} refused, or its answer is no timestamp")
    token = response.tst_info
    if token.nonce != request.nonce or (
        token.message_imprint.message != request.message_imprint.message
    ):
        raise AuditError(f"the timestamp server {url} answered another question")
    with replacing(run / TIMESTAMP) as file:
        file.write(answer)


def _asked(url: str, query: bytes) -> bytes:
    headers = {"Content-Type": "application/timestamp-query"}
    request = urllib.request.Request(require_url(url), data=query, headers=headers)  # noqa: S310 - HTTP, as was looked at
    try:
        with urllib.request.build_opener(_SameServer).open(request, timeout=_TIMEOUT_S) as answer:
            if answer.status != HTTPStatus.OK:
                raise AuditError(f"the timestamp server {url} answered with HTTP {answer.status}")
            content: bytes = answer.read(_LARGEST)
    except urllib.error.HTTPError as error:
        raise AuditError(f"the timestamp server {url} answered with HTTP {error.code}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise AuditError(f"the timestamp server {url} cannot be asked: {why}") from error
    return content


def _decoded(answer: bytes) -> TimeStampResponse | None:
    try:
        return decode_timestamp_response(answer)
    except ValueError:
        return None


def load_roots(path: Path) -> Roots:
    """Return the certificates of a PEM file; UsageError when it has none."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} has no certificate in PEM") from error


def stamped(run: Path, roots: Roots) -> dt.datetime | str:
    """Return when a server that one of the roots vouches for saw the signature, or why not."""
    try:
        response = _decoded(plain.read(run, TIMESTAMP))
        message = plain.read(run, SIGNATURE)
        if response is None:
            return f"{TIMESTAMP} is no timestamp"
        VerifierBuilder(roots=list(roots)).build().verify_message(response, message)
    except OSError as error:
        return f"{TIMESTAMP} or {SIGNATURE} cannot be read: {error.strerror or error}"
    except (VerificationError, ValueError) as error:
        return f"{TIMESTAMP} is no timestamp of {SIGNATURE} by who was named: {error}"
    return response.tst_info.gen_time
