"""A place with manifests → its files, and what is known of them before they are read.

A directory of a repository has more in it than objects: patches that only a kustomization makes
something of, and the templates of Helm charts, which are no YAML.
"""

import functools
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audit.errors import ManifestError
from audit.facts.documents import DocumentError, decoded, documents
from audit.facts.fields import Field, FieldError

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""The names that kustomize looks for."""
_CHART = "Chart.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files that manifests are read from."""

    files: tuple[Path, ...]
    root: Path | None = None
    """The directory that files are named from, if a directory was named."""
    kustomizations: tuple[Path, ...] = ()
    patches: frozenset[Path] = field(default_factory=frozenset)
    """Files that a kustomization lists as patches: parts of objects, and none themselves."""

    def shown(self, file: Path) -> str:
        """Return a file's name as messages have it."""
        return str(file.relative_to(self.root) if self.root is not None else file)

    def path(self, shown: str) -> Path | None:
        """Return the file of a name that messages have; None where it was no file that was read."""
        file = self.root / shown if self.root is not None else Path(shown)
        return file if self.files and file.is_file() else None

    def chart(self, file: Path) -> Path | None:
        """Return the directory of the Helm chart whose template a file is, if it is one."""
        return next(
            (
                parent.parent
                for parent in file.absolute().parents
                if parent.name == "templates" and (parent.parent / _CHART).is_file()
            ),
            None,
        )


def of(source: str) -> Tree:
    """Return what is at a directory or a file. ManifestError where there is nothing."""
    path = Path(source)
    if not path.exists():
        raise ManifestError(f"{source} does not exist; name a directory, a file or -")
    if not path.is_dir():
        return Tree(files=(path,))
    files = tuple(sorted(f for f in path.rglob("*") if f.suffix in _SUFFIXES and f.is_file()))
    if not files:
        raise ManifestError(f"{source} has no file that ends in .yaml, .yml or .json")
    kustomizations = tuple(f for f in files if f.name in KUSTOMIZATIONS)
    patches = frozenset(patch for file in kustomizations for patch in _patches(file))
    return Tree(files=files, root=path, kustomizations=kustomizations, patches=patches)


def in_repository(file: Path) -> str:
    """Return a file's path from the top of its repository, else from the working directory.

    It is absolute where the file is in neither.
    """
    absolute = Path(os.path.normpath(file.absolute()))
    top = _repository(absolute.parent) or Path.cwd()
    return (absolute.relative_to(top) if absolute.is_relative_to(top) else absolute).as_posix()


@functools.lru_cache
def _repository(directory: Path) -> Path | None:
    """Return the directory above that has a `.git`; of a work tree that is a file."""
    return next((d for d in (directory, *directory.parents) if (d / ".git").exists()), None)


def contents(file: Path) -> bytes:
    """Return what is in a file. ManifestError where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ManifestError(f"{file} cannot be read: {error.strerror}") from error


def standard_input() -> bytes:
    """Return what is piped in."""
    piped = getattr(sys.stdin, "buffer", None)
    return piped.read() if piped is not None else sys.stdin.read().encode()


def has_actions(data: bytes) -> bool:
    """Return whether a text has what a template engine replaces: {{ … }}."""
    return b"{{" in data.replace(b"\0", b"")


_KIND = re.compile(r"""(?:^|[\s{,])["']?kind["']?\s*:""")


def has_a_kind(data: bytes) -> bool:
    """Return whether a text that is no YAML may be meant for an object: it has a key `kind`."""
    try:
        text = decoded(data)
    except DocumentError:
        text = data.replace(b"\0", b"").decode("latin-1")
    return _KIND.search(text) is not None


def _patches(kustomization: Path) -> Iterator[Path]:
    """Yield the files that a kustomization patches with, as far as it can be read."""
    try:
        for content in documents(contents(kustomization)):
            root = Field(content)
            listed = [*root["patchesStrategicMerge"].each()]
            for key in ("patches", "patchesJson6902"):
                listed += [patch["path"] for patch in root[key].each()]
            for path in listed:
                # A patch may be written out in place of its file's name.
                if path.text() and "\n" not in path.text():
                    yield (kustomization.parent / path.text()).resolve()
    except (DocumentError, FieldError):
        return  # it is read again as any other file
