"""Runs on an object store: put there whole, and fetched to be read.

They are reached by pyarrow's file systems: credentials come from where every AWS
client looks for them (the environment, `~/.aws`, the machine), an S3-compatible store's endpoint
from AWS_ENDPOINT_URL or the URI's `endpoint_override`. `run.json` is put there last, as on a
disk, and what is fetched is compared with it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from audit.errors import OutputError, RunReadError, UsageError
from audit.model.options import Part
from audit.store import plain
from audit.store.evidence import REPORT, listed
from audit.store.files import PARTIAL, replacing, writing
from audit.store.layout import MANIFEST, newest
from audit.store.schema import TRACES

MARK = ".audit-runs"
"""An object beside the runs of a directory: written before each run, to see that it can be."""
_MARKED = b"Runs of `audit`, a directory each; one with run.json is whole.\n"
_OPTIONS = frozenset({"endpoint_override", "region", "scheme", "tls_ca_file_path"})
"""What a URI may say of how to get there; pyarrow's words. The rest of them is none of it."""
_AT_ONCE = 8
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDirectory:
    """A directory of an object store, as `s3://bucket/prefix`; `options` are the URI's query."""

    url: str
    options: str = ""

    def __truediv__(self, name: str) -> "RemoteDirectory":
        """Return what is called `name` in it."""
        return RemoteDirectory(url=f"{self.url}/{name}", options=self.options)

    def __str__(self) -> str:
        return self.url

    @property
    def uri(self) -> str:
        """The directory as it is typed."""
        return f"{self.url}?{self.options}" if self.options else self.url

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "RemoteDirectory":
        """The directory it is in."""
        return RemoteDirectory(url=self.url.rpartition("/")[0], options=self.options)


def located(text: str) -> Path | RemoteDirectory:
    """Return where `text` leads: a path of this machine (also as `file://`), or an object store.

    UsageError for any other kind of URI, and for one with a credential in it: logs and
    run.json name it.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme is None:
        return Path(text)
    kind = scheme[1].lower()
    if kind == "file":
        return _local(text)
    if kind == "s3":
        return _object_store(text)
    raise UsageError(
        f"{kind}:// is not supported: name a directory, or s3://BUCKET/PREFIX of an "
        "S3-compatible object store"
    )


def _local(text: str) -> Path:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UsageError(f"{text} is no file of this machine: write file:///PATH, or the path")
    return Path(unquote(parts.path))


def _object_store(text: str) -> RemoteDirectory:
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise UsageError(
            "a place must not hold credentials, which would be in logs and in run.json: write "
            "s3://BUCKET/PREFIX and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    unknown = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - _OPTIONS
    names = [part for part in parts.path.split("/") if part]
    if unknown or not parts.netloc or parts.fragment or {".", ".."} & set(names):
        raise UsageError(
            "an object store is written s3://BUCKET/PREFIX, and may end with "
            f"?{'=…&'.join(sorted(_OPTIONS))}=…"
        )
    return RemoteDirectory(url="/".join([f"s3://{parts.netloc}", *names]), options=parts.query)


def require_writable(root: RemoteDirectory) -> None:
    """Write the mark of a directory; OutputError when runs cannot be put there."""
    with _putting(root):
        system, path = _reach(root)
        _put(system, f"{path}/{MARK}", _MARKED)


def put(run: Path, root: RemoteDirectory) -> None:
    """Put the finished run at `run` below `root`, `run.json` last; OutputError when it cannot be.

    Without `run.json` what is there is no run: one that was cut short can be put there again.
    """
    listed(run)  # it is a run
    plain.require_all(run)
    with writing(run):
        files = {
            name: (run / name).stat().st_size
            for name, _ in plain.entries(run)
            if not PurePosixPath(name).match(PARTIAL)
        }
    target = root / run.name
    with _putting(target):
        system, base = _reach(target)

        def send(name: str) -> None:
            with plain.opened(run, name) as source, _sink(system, f"{base}/{name}") as sink:
                while part := source.read(_CHUNK):
                    sink.write(part)

        others = [name for name in files if name != MANIFEST]
        _each(send, others)
        there = _sizes(system, base)
        missing = [name for name in others if there.get(name) != files[name]]
        if missing:
            raise OSError(f"{missing[0]} is not there as it was sent")
        send(MANIFEST)


def _belongs(name: str, part: Part) -> bool:
    """Say whether a file of a run belongs to a part of it."""
    if part is Part.PAGE:
        return name == REPORT
    traces = PurePosixPath(name).parts[0] == TRACES.directory
    return part is Part.EVERYTHING or (name != REPORT and not (traces and part is Part.CELLS))


def fetch(remote: RemoteDirectory, into: Path, part: Part = Part.TABLES) -> Path:
    """Fetch a finished run, or part of one, into the directory `into`; return where it is.

    Every file is compared with its SHA-256 in `run.json`, unless everything is asked for.

    RunReadError when it is no run, or a file is not as the audit wrote it.
    """
    target = into / remote.name
    with _getting(remote):
        system, base = _reach(remote)
        manifest = _read(system, f"{base}/{MANIFEST}")
        if manifest is None:
            raise RunReadError(_without_manifest(remote, _sizes(system, base)))
        _save(target / MANIFEST, manifest)
        with _named(target, remote):
            files = listed(target)
        whole = part is Part.EVERYTHING
        names = [name for name in (_sizes(system, base) if whole else files) if name != MANIFEST]
        for name in names:
            if PurePosixPath(name).is_absolute() or {"..", ""} & set(name.split("/")):
                raise RunReadError(f"{remote} has a file {name!r}, which is not in the run")

        def take(name: str) -> None:
            digest = _copy(system, f"{base}/{name}", target / name)
            if not whole and digest != files[name]["sha256"]:
                raise RunReadError(
                    f"{remote}/{name} is missing or has other content than run.json says "
                    f"(SHA-256 {digest or 'of nothing'}): restore it, or run again"
                )

        _each(take, [name for name in names if _belongs(name, part)])
    return target


def fetch_report(run: RemoteDirectory, into: Path, most: int) -> Path:
    """Fetch the page of a finished run into the directory `into`; return where the run is.

    RunReadError when it has none, or it has more than `most` bytes or is not as the audit wrote it.
    """
    with _getting(run):
        system, base = _reach(run)
        [page] = system.get_file_info([f"{base}/{REPORT}"])
        if page.type is not fs.FileType.File or page.size > most:
            raise RunReadError(f"{run} has no {REPORT}, or one of more than {most:,} bytes")
    return fetch(run, into, Part.PAGE)


def fetch_manifests(root: RemoteDirectory, into: Path) -> None:
    """Fetch `run.json` of every finished run right below `root`, each into its own directory."""
    with _getting(root):
        system, path = _reach(root)
        entries = system.get_file_info(fs.FileSelector(path))

        def take(name: str) -> None:
            manifest = _read(system, f"{path}/{name}/{MANIFEST}")
            if manifest is not None:
                _save(into / name / MANIFEST, manifest)

        _each(take, [entry.base_name for entry in entries if entry.type is fs.FileType.Directory])


def finished(root: RemoteDirectory, prefix: str = "") -> Iterator[RemoteDirectory]:
    """Yield the finished runs right below `root` whose names begin so, as `layout.newest` orders.

    The store is asked of each only when it is its turn. RunReadError when it cannot be asked.
    """
    with _getting(root):
        system, path = _reach(root)
        entries = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        directories = (e.base_name for e in entries if e.type is fs.FileType.Directory)
        for name in newest(name for name in directories if name.startswith(prefix)):
            [manifest] = system.get_file_info([f"{path}/{name}/{MANIFEST}"])
            if manifest.type is fs.FileType.File:
                yield root / name


def remove(run: RemoteDirectory) -> None:
    """Delete a run: first what makes it one, so that half of one is never taken for one."""
    with _putting(run):
        system, base = _reach(run)
        system.delete_file(f"{base}/{MANIFEST}")
        system.delete_dir(base)


def _reach(remote: RemoteDirectory) -> tuple[fs.FileSystem, str]:
    """Return the file system of a directory, and its path there; nothing is read yet."""
    system, path = fs.FileSystem.from_uri(remote.uri)
    return system, path.rstrip("/")


def _sink(system: fs.FileSystem, path: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    return system.open_output_stream(path, buffer_size=0)


def _put(system: fs.FileSystem, path: str, content: bytes) -> None:
    with _sink(system, path) as sink:
        sink.write(content)


def _read(system: fs.FileSystem, path: str) -> bytes | None:
    """Return a small object's content; None when there is none."""
    try:
        with system.open_input_stream(path) as source:
            content: bytes = source.read()
    except FileNotFoundError:
        return None
    return content


def _copy(system: fs.FileSystem, path: str, target: Path) -> str:
    """Fetch an object; return its SHA-256, empty when there is none."""
    digest = hashlib.sha256()
    try:
        source = system.open_input_stream(path)
    except FileNotFoundError:
        return ""
    with source, _replacing(target) as sink:
        while part := source.read(_CHUNK):
            digest.update(part)
            sink.write(part)
    return digest.hexdigest()


def _sizes(system: fs.FileSystem, base: str) -> dict[str, int]:
    """Return the size of every object below `base`, by its name there."""
    selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
    return {
        entry.path.removeprefix(f"{base}/"): entry.size
        for entry in system.get_file_info(selector)
        if entry.type is fs.FileType.File
    }


def _each(work: Any, names: list[str]) -> None:  # noqa: ANN401 - called with a name
    """Do something with every name, some at once; the first error ends it."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        tasks = [pool.submit(partial(work, name)) for name in names]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _save(target: Path, content: bytes) -> None:
    with _replacing(target) as sink:
        sink.write(content)


@contextmanager
def _replacing(target: Path) -> Iterator[Any]:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as sink:
        yield sink


@contextmanager
def _named(local: Path, remote: RemoteDirectory) -> Iterator[None]:
    """Have errors about a copy name what it is a copy of."""
    try:
        yield
    except RunReadError as error:
        raise RunReadError(str(error).replace(str(local), str(remote))) from error


def _without_manifest(remote: RemoteDirectory, there: Mapping[str, int]) -> str:
    if there:
        return (
            f"{remote} is an unfinished run: it has no {MANIFEST}, which is put there last; wait "
            "for its audit to end, or run again"
        )
    return f"{remote} is not a run: there is nothing; name what `audit run` printed"


@contextmanager
def _putting(remote: RemoteDirectory) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot write {remote}: {_sentence(error)}") from error


@contextmanager
def _getting(remote: RemoteDirectory) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise RunReadError(f"{remote} cannot be read: {_sentence(error)}") from error


_ADVICE = (
    ("NO_SUCH_BUCKET", "there is no such bucket; make it, or name another"),
    ("ACCESS_DENIED", "the credentials do not allow it (docs/operations.md says what is needed)"),
    ("INVALID_ACCESS_KEY_ID", "the store does not know the credentials (AWS_ACCESS_KEY_ID)"),
    ("SIGNATURE_DOES_NOT_MATCH", "the credentials are wrong (AWS_SECRET_ACCESS_KEY)"),
    (
        "NETWORK_CONNECTION",
        "the store cannot be reached; is the endpoint right (AWS_ENDPOINT_URL)?",
    ),
)
_DETAILS = re.compile(r"curlCode: .*?, (?:.*Details: )?(.*)")
"""What libcurl says of a connection: an unknown name, a certificate that is not trusted."""


def _sentence(error: Exception) -> str:
    """Return a store's error in one sentence, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return "there is nothing"
    text = " ".join(str(error).split())
    for code, advice in _ADVICE:
        if f"AWS Error {code} " in text:
            details = _DETAILS.search(text)
            return f"{advice} ({details[1]})" if details else advice
    return re.sub(r" \(Request ID: [^)]*\)", "", text)
