"""Signatures over `run.json`, which has the hash of every other file: Ed25519, by `cryptography`.

The signature is the 64 bytes that `openssl pkeyutl -rawin` makes and checks, in a file beside.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import UsageError
from audit.store import plain
from audit.store.files import replacing
from audit.store.layout import MANIFEST, SIGNATURE

PrivateKey = Ed25519PrivateKey
_OPENSSH = b"-----BEGIN OPENSSH"


def load_private(path: Path) -> Ed25519PrivateKey:
    """Return the key in a PEM or OpenSSH file without a passphrase; UsageError when it is none."""

    def read(content: bytes) -> object:
        if content.startswith(_OPENSSH):
            return serialization.load_ssh_private_key(content, password=None)
        return serialization.load_pem_private_key(content, password=None)

    key = _loaded(path, read)
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 private key; make one with `{MAKE_COMMAND}`")
    return key


MAKE_COMMAND = "openssl genpkey -algorithm ed25519 -out key.pem"


def load_public(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM or OpenSSH file; UsageError when it is none."""

    def read(content: bytes) -> object:
        if content.startswith(b"ssh-"):
            return serialization.load_ssh_public_key(content)
        return serialization.load_pem_public_key(content)

    key = _loaded(path, read)
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is no Ed25519 public key")
    return key


def _loaded(path: Path, read: Callable[[bytes], object]) -> object:
    try:
        return read(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} cannot be read as a key without a passphrase: {error}") from error


def sign(run: Path, key: Ed25519PrivateKey) -> None:
    """Sign `run.json` of a finished run."""
    content = plain.read(run, MANIFEST)
    with replacing(run / SIGNATURE) as file:
        file.write(key.sign(content))


def signed_by(run: Path, key: Ed25519PublicKey) -> bool:
    """Say whether `run.json` is what the owner of this key signed."""
    try:
        key.verify(plain.read(run, SIGNATURE), plain.read(run, MANIFEST))
    except (InvalidSignature, OSError):
        return False
    return True
