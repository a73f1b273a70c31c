"""Timestamps (RFC 3161) over a run's signature, by `rfc3161-client`: when it was there already.

A server that the user names gets the signature's SHA-256 and nothing else. Its answer is kept as it
came, in a file beside, so that `openssl ts -verify` reads it too.
"""

import datetime as dt
from pathlib import Path

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
from audit.store import http, plain
from audit.store.files import replacing
from audit.store.layout import SIGNATURE, TIMESTAMP

Roots = list[x509.Certificate]
_SERVER = "timestamp server"


def require_url(url: str) -> str:
    """Return the address of a server; UsageError when it is none."""
    return http.require_url(url, _SERVER)


def stamp(run: Path, url: str) -> None:
    """Have the server at `url` say that the signature of a finished run is there by now.

    AuditError when it does not answer, or answers something else.
    """
    message = plain.read(run, SIGNATURE)
    request = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = http.sent(
        url, request.as_bytes(), "application/timestamp-query", method="POST", what=_SERVER
    )
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
