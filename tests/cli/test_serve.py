"""`audit serve`: pages and an index for browsers, and nothing else of this machine."""

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest

from audit.commands import serve
from audit.commands.serve import Request, Site
from audit.store.layout import manifest_text
from tests.cli.conftest import Inside
from tests.end_to_end.conftest import Audit


@pytest.fixture
def root(small_run: Path, tmp_path: Path) -> Path:
    """Return a directory of two runs, one with a name of its own, beside what is none."""
    root = tmp_path / "runs"
    for name in ("first", "a run & more"):
        shutil.copytree(small_run, root / name)
    (root / "linked").symlink_to("first")
    (root / "half").mkdir()
    (root / "half" / "report.html").write_text("unfinished")
    (root / "secret.html").write_text("not a run")
    return root


def got(site: Site, path: str, method: str = "GET", host: str = "localhost:8080") -> HTTPStatus:
    return site.answer(Request(path=path, method=method, host=host)).status


def test_pages_and_their_index_and_nothing_else(root: Path) -> None:
    site = Site(root)
    index = site.answer(Request())
    assert index.status is HTTPStatus.OK
    assert b'href="first/report.html"' in index.body
    assert b'href="a%20run%20%26%20more/report.html"' in index.body
    page = site.answer(Request(path="/first/report.html"))
    assert page.body == (root / "first" / "report.html").read_bytes()
    assert site.answer(Request(path="/a run & more/report.html")).body == page.body
    assert site.answer(Request(path="/first/report.html", known=page.tag)).body == b""
    moved = site.answer(Request(path="/a run & more"))
    assert dict(moved.headers)["Location"] == "/a%20run%20%26%20more/report.html"
    for path in (
        "/first/run.json",
        "/first/report.html/",
        "/first/../first/report.html",
        "/../runs/first/report.html",
        "//first/report.html",
        "/half/report.html",
        "/secret.html",
        "/.",
        "/..",
        "/etc/passwd",
        "/first/\0",
        str(root / "first" / "report.html"),
    ):
        assert got(site, path) is HTTPStatus.NOT_FOUND, path


def test_no_link_is_followed(root: Path) -> None:
    assert got(Site(root), "/linked/report.html") is HTTPStatus.NOT_FOUND
    page = root / "first" / "report.html"
    page.rename(root / "elsewhere.html")
    page.symlink_to("../elsewhere.html")
    answer = Site(root).answer(Request(path="/first/report.html"))
    assert answer.status is HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"a link" in answer.body


def test_a_page_that_was_changed_is_not_shown(root: Path) -> None:
    page = root / "first" / "report.html"
    page.write_bytes(page.read_bytes() + b"<script>alert(1)</script>")
    answer = Site(root).answer(Request(path="/first/report.html"))
    assert answer.status is HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"alert" not in answer.body


def test_a_page_of_too_many_bytes_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MOST_BYTES", 1000)
    assert got(Site(root), "/first/report.html") is HTTPStatus.INTERNAL_SERVER_ERROR


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", HTTPStatus.OK),
        ("LOCALHOST:8080", HTTPStatus.OK),
        ("127.0.0.1:8080", HTTPStatus.OK),
        ("[::1]:8080", HTTPStatus.OK),
        ("10.1.2.3", HTTPStatus.OK),
        ("audits.example.com", HTTPStatus.OK),
        ("evil.example", HTTPStatus.MISDIRECTED_REQUEST),
        ("127.0.0.1.evil.example:80", HTTPStatus.MISDIRECTED_REQUEST),
        ("localhost.evil.example", HTTPStatus.MISDIRECTED_REQUEST),
        ("", HTTPStatus.MISDIRECTED_REQUEST),
    ],
)
def test_a_name_that_leads_here_by_another_hand_is_refused(
    root: Path, host: str, status: HTTPStatus
) -> None:
    site = Site(root, frozenset({"audits.example.com"}))
    assert got(site, "/", host=host) is status
    assert got(site, serve.HEALTH, host=host) is HTTPStatus.OK


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_only_reading(root: Path, method: str) -> None:
    assert got(Site(root), "/", method) is HTTPStatus.METHOD_NOT_ALLOWED


def test_the_index_is_made_anew_when_it_is_old(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(root)
    assert b"third" not in site.answer(Request()).body
    shutil.copytree(root / "first", root / "third")
    assert b"third" not in site.answer(Request()).body
    monkeypatch.setattr(serve, "LISTED_FOR", -1.0)
    assert b"third" in site.answer(Request()).body


def test_what_cannot_be_listened_on_is_said(root: Path, inside: Inside, audit: Audit) -> None:
    for listen in ("8080", "nowhere:80", "127.0.0.1:x", "127.0.0.1:70000", "/run/socket:1"):
        done = inside("serve", root, "--listen", listen)
        assert (done.code, "write 127.0.0.1:8080" in done.err) == (2, True), done.err
    assert inside("serve", root / "gone").code == 4
    # No address of this machine (RFC 5737).
    refused = audit("serve", root, "--listen", "192.0.2.1:1")
    assert (refused.code, "name another with --listen" in refused.err) == (4, True)


def test_it_serves_until_it_is_stopped(root: Path) -> None:
    manifest = json.loads((root / "first" / "run.json").read_text())
    (root / "first" / "run.json").write_bytes(manifest_text({**manifest, "source": "<b>x</b>"}))
    command = [sys.executable, "-m", "audit", "serve", str(root), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - ours
            body = answer.read().decode()
            policy = answer.headers["Content-Security-Policy"]
            assert "Server" not in answer.headers
        assert "&lt;b&gt;x&lt;/b&gt;" in body
        assert "frame-ancestors 'none'" in policy
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
