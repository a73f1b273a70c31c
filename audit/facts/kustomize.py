"""A kustomization → the objects it makes, by the machine's own kubectl, oc or kustomize."""

import shutil
import subprocess
import textwrap
from pathlib import Path

from audit.errors import ManifestError, SnapshotError
from audit.facts.trees import KUSTOMIZATIONS

_PROGRAMS = (("kubectl", "kustomize"), ("oc", "kustomize"), ("kustomize", "build"))
_TIMEOUT_S = 300.0
"""A kustomization may name others by URL, which are fetched."""
_LONGEST_MESSAGE = 600


def build(directory: Path, *, timeout_s: float = _TIMEOUT_S) -> bytes:
    """Return the YAML that a kustomization makes.

    ManifestError where there is none or it cannot be built, SnapshotError where nothing here can.
    """
    if not directory.is_dir():
        raise ManifestError(f"{directory} is no directory; -k takes one with a kustomization")
    if not any((directory / name).is_file() for name in KUSTOMIZATIONS):
        raise ManifestError(
            f"{directory} has no {KUSTOMIZATIONS[0]}; --manifests reads a directory without one"
        )
    program = next((p for p in _PROGRAMS if shutil.which(p[0])), None)
    if program is None:
        raise SnapshotError(
            "-k needs kubectl, oc or kustomize, and none is on the PATH; build it elsewhere and "
            "pipe it in: kubectl kustomize DIR | audit run --manifests -"
        )
    command = [*program, str(directory.absolute())]
    shown = " ".join([*program, str(directory)])
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=timeout_s)  # noqa: S603 - argv of our own
    except subprocess.TimeoutExpired:
        raise SnapshotError(
            f"`{shown}` did not end within {timeout_s:g} s; does it fetch what cannot be reached?"
        ) from None
    except OSError as error:
        raise SnapshotError(f"`{shown}` cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        message = textwrap.shorten(
            done.stderr.decode(errors="replace"), _LONGEST_MESSAGE, placeholder=" …"
        )
        raise ManifestError(f"{directory} cannot be built: `{shown}` says: {message or 'nothing'}")
    return done.stdout
