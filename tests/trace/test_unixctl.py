"""The unixctl client against a server that misbehaves."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit.trace.unixctl import RefusedError, Unixctl, UnixctlError, UnixctlTimeoutError

Behaviour = Callable[[socket.socket], None]


@contextmanager
def _server(path: Path, behave: Behaviour) -> Iterator[Path]:
    """Listen on `path` and let `behave` handle one connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)

        def handle() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(ConnectionError):  # the client may give up
                behave(connection)

        thread = threading.Thread(target=handle)
        thread.start()
        try:
            yield path
        finally:
            thread.join(timeout=10)
            assert not thread.is_alive()


def _request(connection: socket.socket) -> dict[str, object]:
    request: dict[str, object] = json.loads(connection.recv(1 << 16))
    return request


def _reply(request: dict[str, object], result: str | None, error: str | None = None) -> bytes:
    return json.dumps({"error": error, "id": request["id"], "result": result}).encode()


def _answer(blocks: Callable[[bytes], list[bytes]], result: str) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        for block in blocks(_reply(_request(connection), result)):
            connection.sendall(block)
            time.sleep(0.01)
        connection.recv(1)  # until the client closes

    return behave


def _ask(path: Path, timeout_s: float = 5.0) -> str:
    with Unixctl(path, timeout_s=timeout_s) as connection:
        return connection.transact("trace", "--detailed", 'inport == "p1"')


def test_a_command_is_a_json_rpc_request(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []

    def behave(connection: socket.socket) -> None:
        seen.append(_request(connection))
        connection.sendall(_reply(seen[0], "fine\n"))

    with _server(tmp_path / "ctl", behave) as path:
        assert _ask(path) == "fine\n"
    assert seen[0]["method"] == "trace"
    assert seen[0]["params"] == ["--detailed", 'inport == "p1"']


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param(lambda reply: [reply], id="whole"),
        pytest.param(lambda reply: [reply + b"\n"], id="with a newline"),
        pytest.param(lambda reply: [reply[:9], reply[9:]], id="two blocks"),
        pytest.param(lambda reply: [reply[i : i + 1] for i in range(len(reply))], id="bytes"),
        pytest.param(
            lambda reply: [reply[: reply.index(b"}") + 1], reply[reply.index(b"}") + 1 :]],
            id="a block that ends in a brace inside a string",
        ),
    ],
)
def test_a_reply_is_whole_however_it_is_cut(
    tmp_path: Path, blocks: Callable[[bytes], list[bytes]]
) -> None:
    result = 'arp { output; };\n{"id": 1}\n}} "é" \\'
    with _server(tmp_path / "ctl", _answer(blocks, result)) as path:
        assert _ask(path) == result


def test_several_commands_share_a_connection(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        for number in range(3):
            connection.sendall(_reply(_request(connection), str(number)))

    with (
        _server(tmp_path / "ctl", behave) as path,
        Unixctl(path, timeout_s=5) as connection,
    ):
        assert [connection.transact("trace") for _ in range(3)] == ["0", "1", "2"]


def test_an_error_is_a_refusal_and_the_connection_goes_on(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(_reply(_request(connection), None, "unknown option\n"))
        connection.sendall(_reply(_request(connection), "fine"))

    with (
        _server(tmp_path / "ctl", behave) as path,
        Unixctl(path, timeout_s=5) as connection,
    ):
        with pytest.raises(RefusedError, match=r"^unknown option$"):
            connection.transact("trace", "--ct=new")
        assert connection.transact("trace") == "fine"


def test_no_result_is_empty(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(_reply(_request(connection), None))

    with _server(tmp_path / "ctl", behave) as path:
        assert _ask(path) == ""


def test_an_answer_to_another_command_is_not_taken(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        request = _request(connection)
        connection.sendall(_reply({**request, "id": 7}, "another packet's trace"))
        connection.recv(1)

    with (
        _server(tmp_path / "ctl", behave) as path,
        pytest.raises(UnixctlError, match="another command"),
    ):
        _ask(path)


@pytest.mark.parametrize("sent", [b"", b'{"error": null, "id": 1, "resu'])
def test_a_connection_closed_before_the_end_of_a_reply_is_an_error(
    tmp_path: Path, sent: bytes
) -> None:
    def behave(connection: socket.socket) -> None:
        _request(connection)
        connection.sendall(sent)

    with _server(tmp_path / "ctl", behave) as path, pytest.raises(UnixctlError) as caught:
        _ask(path)
    assert not isinstance(caught.value, UnixctlTimeoutError)


def test_silence_is_a_timeout(tmp_path: Path) -> None:
    with (
        _server(tmp_path / "ctl", _answer(lambda _: [], "")) as path,
        pytest.raises(UnixctlTimeoutError),
    ):
        _ask(path, timeout_s=0.1)


def test_a_reply_that_drips_is_a_timeout_too(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        _request(connection)
        try:
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.02)
        except OSError:
            return  # the client gave up
        pytest.fail("the client waited for all of it")

    began = time.monotonic()
    with (
        _server(tmp_path / "ctl", behave) as path,
        pytest.raises(UnixctlTimeoutError),
    ):
        _ask(path, timeout_s=0.2)
    assert time.monotonic() - began < 1.5


def test_the_time_is_the_whole_replys(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        _request(connection)
        time.sleep(0.5)
        connection.sendall(b" ")
        connection.recv(1)

    began = time.monotonic()
    with (
        _server(tmp_path / "ctl", behave) as path,
        pytest.raises(UnixctlTimeoutError),
    ):
        _ask(path, timeout_s=1)
    assert time.monotonic() - began < 1.4


def test_a_reply_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.trace.unixctl._LARGEST_REPLY", 1 << 16)
    result = "x" * (1 << 18)
    with (
        _server(tmp_path / "ctl", _answer(lambda reply: [reply[:-1]], result)) as path,
        pytest.raises(UnixctlError, match="a reply of more than"),
    ):
        _ask(path)


def test_nobody_listening_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnixctlError, match="No such file"):
        Unixctl(tmp_path / "nothing", timeout_s=1)
    with pytest.raises(UnixctlError, match="too long"):
        Unixctl(tmp_path / ("x" * 200), timeout_s=1)
