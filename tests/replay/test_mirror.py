"""A mirror on loopback, and the real apt: what is not signed as it should be is never unpacked.

`tests/data/apt` is a repository of one package, signed by a key made for it (`genuine.gpg`), and
the same lists signed by another key. Each deviation is tried with the machine's apt as it is, and
with an apt whose configuration allows everything.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from audit.errors import EngineError
from audit.replay import apt

DATA = Path(__file__).resolve().parent.parent / "data" / "apt"
PACKAGE = "audit-sample"
RELEASE, LISTS, POOL = "InRelease", "Packages", f"pool/{PACKAGE}.deb"

ALLOWING = """
APT::Get::AllowUnauthenticated "true";
APT::Get::Force-Yes "true";
Acquire::AllowInsecureRepositories "true";
Acquire::AllowWeakRepositories "true";
Acquire::AllowDowngradeToInsecureRepositories "true";
Binary::apt-get::APT::Get::AllowUnauthenticated "true";
Binary::apt-get::Acquire::AllowInsecureRepositories "true";
Acquire::gpgv::Options { "--ignore-time-conflict"; };
APT::Key::GPGVCommand "/bin/true";
Dir::Bin::gpg "/bin/true";
Dir::Bin::apt-key "/bin/true";
APT::Update::Pre-Invoke { "touch MARK"; };
APT::Update::Post-Invoke { "touch MARK"; };
"""

Served = dict[str, bytes]


def genuine() -> Served:
    lists = {f"binary-{machine}/{LISTS}": "Packages" for machine in ("amd64", "arm64")}
    names = {RELEASE: "InRelease", POOL: "audit-sample.deb", **lists}
    return {place: (DATA / name).read_bytes() for place, name in names.items()}


def unsigned(files: Served) -> None:
    del files[RELEASE]
    files["Release"] = (DATA / "Release").read_bytes()


def signed_by_another(files: Served) -> None:
    files[RELEASE] = (DATA / "InRelease.foreign").read_bytes()


def release_changed(files: Served) -> None:
    files[RELEASE] = files[RELEASE].replace(b"Origin: Test", b"Origin: Tost")


def lists_changed(files: Served) -> None:
    for name in files:
        if name.endswith(LISTS):
            files[name] = files[name].replace(b"Version: 1.0", b"Version: 2.0")


def package_changed(files: Served) -> None:
    files[POOL] = files[POOL][:-1] + bytes([files[POOL][-1] ^ 1])


def release_and_all_below_changed(files: Served) -> None:
    """Another's package with right sums up to the release, whose signature is of other text."""
    package_changed(files)
    lists_changed(files)
    release_changed(files)


def signature_taken_off(files: Served) -> None:
    text = files[RELEASE].split(b"\n\n", 1)[1]
    files[RELEASE] = text.split(b"-----BEGIN PGP SIGNATURE")[0]


@contextmanager
def mirror(files: Served) -> Iterator[str]:
    """Serve `files` as apt looks for them; yields the mirror's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = next((files[n] for n in files if self.path.endswith(f"/{n}")), None)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/debian"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def allowing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the machine's apt be configured to allow everything; returns what its hooks would make.

    The machine's files stay: the programs see others in their place, in a mount namespace.
    """
    mark = tmp_path / "mark"
    parts = tmp_path / "apt.conf.d"
    parts.mkdir()
    (parts / "99allow").write_text(ALLOWING.replace("MARK", str(mark)))
    monkeypatch.setenv("APT_CONFIG", str(parts / "99allow"))
    programs = tmp_path / "bin"
    programs.mkdir()
    entering = "unshare --mount" if os.geteuid() == 0 else "unshare --map-root-user --mount"
    for name in ("apt-get", "apt-cache", "apt-config"):
        script = f'mount --bind {parts} /etc/apt/apt.conf.d && exec {shutil.which(name)} "$@"'
        (programs / name).write_text(f"#!/bin/sh\nexec {entering} sh -c '{script}' sh \"$@\"\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return mark


def install(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install the package from the mirror at `uri`; returns what its program prints."""
    source = apt.Source(uri=uri, suite="sample", components=("main",))
    monkeypatch.setattr(apt, "configured_sources", lambda: [source])
    apt.fetch(
        [PACKAGE],
        tmp_path / "root",
        tmp_path / "work",
        wanted=apt.Distribution(
            release="sample",
            suites=("sample",),
            components=("main",),
            keyring=DATA / "genuine.gpg",
        ),
        suite="sample",
        check=lambda _: None,
        progress=lambda _: None,
    )
    program = [tmp_path / "root/usr/bin" / PACKAGE]
    return subprocess.run(program, capture_output=True, text=True, check=True, timeout=20).stdout


REFUSED = [
    pytest.param(unsigned, "is not signed|no longer signed", id="unsigned"),
    pytest.param(signed_by_another, "is not signed|NO_PUBKEY|Missing key", id="another's key"),
    pytest.param(release_changed, "invalid|BADSIG|not signed|not valid", id="InRelease"),
    pytest.param(release_and_all_below_changed, "invalid|BADSIG|not signed", id="all of it"),
    pytest.param(signature_taken_off, "Clearsigned|not signed|NOSPLIT", id="signature gone"),
    pytest.param(lists_changed, "Hash Sum mismatch|unexpected size", id="Packages"),
    pytest.param(package_changed, "Hash Sum mismatch", id="package"),
]


def test_a_genuine_package_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(genuine()) as uri:
        assert install(uri, tmp_path, monkeypatch) == "genuine\n"


@pytest.mark.parametrize(("deviate", "refusal"), REFUSED)
def test_what_is_not_as_signed_is_refused(
    deviate: object, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(deviate)
    deviate(files := genuine())
    with mirror(files) as uri, pytest.raises(EngineError, match=refusal):
        install(uri, tmp_path, monkeypatch)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("deviate", "refusal"), REFUSED)
def test_it_is_refused_where_the_machines_apt_would_take_it(
    deviate: object,
    refusal: str,
    allowing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert callable(deviate)
    deviate(files := genuine())
    with mirror(files) as uri, pytest.raises(EngineError, match=refusal):
        install(uri, tmp_path, monkeypatch)
    assert not (tmp_path / "root").exists()
    assert not allowing.exists(), "a hook of the machine's apt was run"


def test_the_machines_apt_would_take_it(
    allowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused above is let in, and hooks run, by the same apt without our settings."""
    monkeypatch.setattr(apt, "OWN_SETTINGS", "")
    monkeypatch.setattr(apt, "VERIFYING", {})
    files = genuine()
    unsigned(files)
    with mirror(files) as uri:
        assert install(uri, tmp_path, monkeypatch) == "genuine\n"
    assert allowing.exists()


def test_a_proxy_of_the_machines_apt_is_used(
    allowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirror(genuine()) as proxy:
        setting = f'Acquire::http::Proxy "{proxy.removesuffix("/debian")}/";\n'
        (tmp_path / "apt.conf.d/50proxy").write_text(setting)
        assert install("http://mirror.invalid/debian", tmp_path, monkeypatch) == "genuine\n"
    assert not allowing.exists()
