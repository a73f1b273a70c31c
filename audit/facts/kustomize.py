"""A kustomization → the objects it makes, by the machine's own kubectl, oc or kustomize.

And the files that these were made from, as kustomize's own annotation says.
"""

import json
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from audit import scratch
from audit.errors import ManifestError, SnapshotError
from audit.facts import apis, trees
from audit.facts.documents import DocumentError, documents, read
from audit.facts.fields import Field, FieldError
from audit.facts.items import items
from audit.facts.trees import KUSTOMIZATIONS
from audit.model.facts import SourceLine

Origins = Mapping[tuple[str, str, str], Path]
"""The file that each object was made from, by its kind, namespace and name."""
NO_ORIGINS: Origins = MappingProxyType({})

_PROGRAMS = (("kubectl", "kustomize"), ("oc", "kustomize"), ("kustomize", "build"))
_TIMEOUT_S = 300.0
"""A kustomization may name others by URL, which are fetched."""
_ORIGINS_TIMEOUT_S = 20.0
_LONGEST_MESSAGE = 600
_ORIGIN = "config.kubernetes.io/origin"


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


def origins(directory: Path) -> Origins:
    """Return the local files that a kustomization's objects are made from, as far as it says so.

    It is built once more, below a kustomization that asks for kustomize's annotation of them.
    """
    try:
        with scratch.directory("origins") as around:
            base = Path(os.path.realpath(around))
            inner = os.path.relpath(os.path.realpath(directory), base)
            text = f"resources: [{json.dumps(inner)}]\nbuildMetadata: [originAnnotations]\n"
            (base / KUSTOMIZATIONS[0]).write_text(text)
            made = documents(build(base, timeout_s=_ORIGINS_TIMEOUT_S))
            return dict(_origins(base, made))
    except (ManifestError, SnapshotError, DocumentError, FieldError, OSError):
        return NO_ORIGINS


def _origins(base: Path, made: Iterable[object]) -> Iterator[tuple[tuple[str, str, str], Path]]:
    for value in made:
        root = Field(value)
        metadata = root["metadata"]
        annotation = metadata["annotations"][_ORIGIN].text()
        origin = Field(next(iter(documents(annotation)), {}))
        path = origin["path"].text()
        if path and not origin["repo"].text():
            kind, space = root["kind"].text(), metadata["namespace"].text()
            if not space and kind not in apis.CLUSTER_SCOPED:
                space = "default"
            yield (kind, space, metadata["name"].text()), Path(os.path.normpath(base / path))


def origin_line(file: Path, kind: str, name: str) -> SourceLine:
    """Return where an object is in the file it was made from, whatever it was renamed to.

    The line is 0 unless one object of its kind alone can be it.
    """
    lines: dict[str, int] = {}
    try:
        for document in read(file.read_bytes()):
            for path, item in items(document.value, ()):
                written = str(Field(item)["metadata"]["name"].value)
                if item["kind"] == kind and written in name:
                    lines[written] = document.quick_line(path)
    except (DocumentError, FieldError, OSError):
        lines = {}
    [line] = lines.values() if len(lines) == 1 else [lines.get(name, 0)]
    return SourceLine(file=trees.in_repository(file), line=line)
