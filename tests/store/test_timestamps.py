"""Timestamps by a server of OpenSSL's own, and OpenSSL's word on them."""

import datetime as dt
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audit.errors import AuditError, UsageError
from audit.store import timestamps
from audit.store.layout import SIGNATURE, TIMESTAMP

CONFIG = """
[tsa]
serial = DIR/serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha512
ess_cert_id_alg = sha256
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
"""


def openssl(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    argv = ["openssl", *map(str, words)]
    return subprocess.run(argv, check=check, capture_output=True, timeout=60)


class Authority:
    """A timestamp authority in a directory: a root, a leaf, and a server with what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root.pem"
        self.queries: list[bytes] = []
        self.answer: bytes | int | None = None
        """What is answered instead: a body, or a status."""
        self.url = ""
        self.metrics = b""
        """What was put to the same server, in place of a Pushgateway."""
        config = directory / "c.cnf"
        config.write_text(CONFIG.replace("DIR", str(directory)))
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        for name, extra in (
            ("root", ("-extensions", "root")),
            ("leaf", ("-extensions", "leaf", "-CA", self.root, "-CAkey", directory / "root.key")),
        ):
            files = ("-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem")
            openssl("req", "-x509", "-config", config, *key, *files, "-subj", f"/CN={name}", *extra)

    def reply(self, query: bytes) -> bytes:
        self.queries.append(query)
        (self.directory / "query").write_bytes(query)
        leaf = ("-signer", self.directory / "leaf.pem", "-inkey", self.directory / "leaf.key")
        config = ("-config", self.directory / "c.cnf", "-section", "tsa")
        return openssl(
            "ts", "-reply", "-queryfile", self.directory / "query", *leaf, *config
        ).stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    made = Authority(tmp_path_factory.mktemp("tsa"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            instead = made.answer
            self.send_response(instead if isinstance(instead, int) else 200)
            if instead == 302:
                self.send_header("Location", f"{made.url}/elsewhere")
            self.end_headers()
            if not isinstance(instead, int):
                self.wfile.write(made.reply(query) if instead is None else instead)

        def do_PUT(self) -> None:
            assert self.path == "/metrics/job/a"
            assert self.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            made.metrics = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path, authority: Authority) -> Path:
    authority.answer = None
    (tmp_path / SIGNATURE).write_bytes(b"s" * 64)
    return tmp_path


def test_openssl_and_we_agree_on_a_timestamp(run: Path, authority: Authority) -> None:
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    timestamps.stamp(run, authority.url)
    moment = timestamps.stamped(run, timestamps.load_roots(authority.root))
    assert isinstance(moment, dt.datetime)
    assert before <= moment <= dt.datetime.now(dt.UTC)
    check = ("ts", "-verify", "-data", run / SIGNATURE, "-in", run / TIMESTAMP)
    assert openssl(*check, "-CAfile", authority.root, check=False).returncode == 0
    assert b"s" * 8 not in authority.queries[-1], "the hash is sent, not the signature"

    (run / SIGNATURE).write_bytes(b"t" * 64)
    assert openssl(*check, "-CAfile", authority.root, check=False).returncode != 0
    bad = timestamps.stamped(run, timestamps.load_roots(authority.root))
    assert isinstance(bad, str)
    assert "is no timestamp of" in bad


def test_another_authority_vouches_for_nothing(
    run: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    timestamps.stamp(run, authority.url)
    other = Authority(tmp_path_factory.mktemp("other"))
    assert isinstance(timestamps.stamped(run, timestamps.load_roots(other.root)), str)
    content = bytearray((run / TIMESTAMP).read_bytes())
    content[len(content) // 2] ^= 1
    (run / TIMESTAMP).write_bytes(content)
    assert isinstance(timestamps.stamped(run, timestamps.load_roots(authority.root)), str)
    (run / TIMESTAMP).write_bytes(b"no timestamp")
    assert timestamps.stamped(run, timestamps.load_roots(authority.root)) == (
        f"{TIMESTAMP} is no timestamp"
    )


def test_another_answer_is_refused_and_not_kept(run: Path, authority: Authority) -> None:
    timestamps.stamp(run, authority.url)
    old = (run / TIMESTAMP).read_bytes()
    (run / TIMESTAMP).unlink()
    for answer, words in (
        (old, "answered another question"),  # a recorded one: its nonce is another
        (b"<html>", "its answer is no timestamp"),
        (b"", "its answer is no timestamp"),
        (503, "answered with HTTP 503"),
        (204, "answered with HTTP 204"),
        (302, "answered with HTTP 302"),
    ):
        authority.answer = answer
        with pytest.raises(AuditError, match=words):
            timestamps.stamp(run, authority.url)
        assert not (run / TIMESTAMP).exists()
    with pytest.raises(AuditError, match="cannot be asked"):
        timestamps.stamp(run, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "tsa.example", "http://", "http://a:b@tsa.example", "http://[a"]
)
def test_what_is_no_server_is_said(url: str) -> None:
    with pytest.raises(UsageError):
        timestamps.require_url(url)


def test_what_has_no_certificate_is_said(run: Path) -> None:
    with pytest.raises(UsageError, match="has no certificate"):
        timestamps.load_roots(run / SIGNATURE)
    with pytest.raises(UsageError, match="cannot be read"):
        timestamps.load_roots(run / "none")


def test_a_run_is_signed_stamped_and_verified(tmp_path: Path, authority: Authority) -> None:
    """And where the server is lost, the run is whole, and a resume has it stamped."""

    def audit(*words: str | Path, code: int = 0) -> str:
        argv = [sys.executable, "-m", "audit", *map(str, words)]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)  # noqa: PLW1510
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr + done.stdout

    (tmp_path / "pod.yaml").write_text(MANIFESTS)
    audit("run", "--manifests", "pod.yaml", "--push-metrics", "pushgateway", code=2)
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    authority.answer = 503
    output = audit(
        *("run", "--manifests", "pod.yaml", "-q", "--sign-key", key),
        *("--timestamp-url", authority.url),
        code=4,
    )
    assert "the run is whole but for its timestamp" in output
    (run,) = (tmp_path / "runs").iterdir()
    checks = ("verify", run, "--key", public, "--timestamp-ca", authority.root)
    assert "The run has no timestamp." in audit(*checks, code=1)
    authority.answer = None
    audit("run", "--resume", run, "--sign-key", key, code=2)
    again = ("run", "--resume", run, "--sign-key", key, "--timestamp-url", authority.url)
    pushed = ("--push-metrics", f"{authority.url}/metrics/job/a")
    audit(*again, "-q", "-o", "json", *pushed, "--pack", "default-deny", "--exit-zero")
    metrics = authority.metrics.decode()
    assert 'audit_info{version="' in metrics
    assert 'expectation="default-deny"' in metrics
    assert metrics.endswith("\n")
    verified = json.loads(audit(*checks, "-o", "json"))
    assert (verified["signature"], verified["problems"]) == ("good", [])
    assert dt.datetime.fromisoformat(verified["timestamp"]).utcoffset() == dt.timedelta(0)
    assert "The timestamp was not checked (give --timestamp-ca)." in audit("verify", run)
    audit("run", "--manifests", "pod.yaml", "--timestamp-url", authority.url, code=2)
