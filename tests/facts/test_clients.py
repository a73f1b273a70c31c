"""What other people's programs print of a connection, and what is read of it."""

import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from audit.facts.live.clients import CLIENTS, Client, Ended
from audit.model.probes import Response

CLIENT = {client.name: client for client in CLIENTS}
CONNECTED, REFUSED, LATE = Response.CONNECTED, Response.REFUSED, Response.UNANSWERED

# As netcat-openbsd 1.219, netcat-traditional 1.10, busybox 1.35, toybox 0.8.9 and GNU Wget 1.21
# (Debian 12), and curl 7.88 and 8.5 printed it.
WORDS = [
    ("nc", 0, "Connection to 10.0.0.1 80 port [tcp/*] succeeded!", CONNECTED),
    ("nc", 1, "nc: connect to 10.0.0.1 port 80 (tcp) failed: Connection refused", REFUSED),
    ("nc", 1, "nc: connect to 10.0.0.1 port 80 (tcp) timed out: Operation now in progress", LATE),
    ("nc", 0, "(UNKNOWN) [10.0.0.1] 80 (?) open", CONNECTED),
    ("nc", 1, "(UNKNOWN) [10.0.0.1] 80 (?) : Connection timed out", LATE),
    ("nc", 1, "Can't parse ::1 as an IP address", None),
    (
        "nc",
        1,
        "nc: invalid option -- 'z'\nUsage: nc [OPTIONS] HOST PORT\n-w SEC Connect timeout",
        None,
    ),
    ("nc", 1, "nc: Unknown option 'v' (see \"nc --help\")", None),
    ("nc", 0, "", None),
    ("nc", None, "", None),
    ("wget", 4, "Connecting to 10.0.0.1:80... failed: Connection refused.", REFUSED),
    (
        "wget",
        4,
        "Connecting to 10.0.0.1:80... connected.\nRead error (Connection timed out)",
        CONNECTED,
    ),
    ("wget", 4, "Connecting to 10.0.0.1:80... failed: No route to host.", Response.UNREACHABLE),
    (
        "wget",
        1,
        "wget: unrecognized option '--no-proxy'\nUsage: wget [-T SEC] timeout is SEC",
        None,
    ),
    ("busybox wget", 0, "Connecting to 10.0.0.1 (10.0.0.1:80)\nremote file exists", CONNECTED),
    ("busybox wget", 1, "wget: server returned error: HTTP/1.0 404 Not Found", CONNECTED),
    (
        "busybox wget",
        1,
        "Connecting to 10.0.0.1\nConnecting to 10.0.0.9\nwget: can't connect: Connection refused",
        CONNECTED,
    ),
    (
        "busybox wget",
        1,
        "wget: can't connect to remote host (10.0.0.1): Connection refused",
        REFUSED,
    ),
    ("busybox wget", 4, "Spider mode enabled. Check if remote file exists.\nrefused.", REFUSED),
    ("busybox wget", 124, "Connecting to 10.0.0.1 (10.0.0.1:80)", LATE),
    ("busybox wget", 143, "Connecting to 10.0.0.1 (10.0.0.1:80)", LATE),
    ("busybox wget", 139, "", None),
    ("curl", 7, "0.000000\ncurl: (7) Failed to connect: Connection refused", REFUSED),
    (
        "curl",
        7,
        "000\ncurl: (7) Failed to connect: Couldn't connect to server",
        Response.UNREACHABLE,
    ),
    ("curl", 28, "0.000109\ncurl: (28) Operation timed out with 0 bytes received", CONNECTED),
    ("curl", 28, "0.000000\ncurl: (28) Connection timed out after 1002 milliseconds", LATE),
]


@pytest.mark.parametrize(("name", "code", "text", "response"), WORDS)
def test_a_program_is_read_by_its_words_and_not_believed_without(
    name: str, code: int | None, text: str, response: Response | None
) -> None:
    output, _, errors = text.partition("\n") if name == "curl" else ("", "", text)
    assert CLIENT[name].read(Ended(code=code, output=output, errors=errors)) is response


def test_what_a_cluster_names_is_an_argument_of_its_own_and_no_part_of_a_program() -> None:
    for client in CLIENTS:
        one, other = client.argv("10.0.0.1", 80, 3), client.argv("fd00::7", 443, 3)
        differing = {
            word for pair in zip(one, other, strict=True) if len({*pair}) > 1 for word in pair
        }
        assert differing <= {
            "10.0.0.1",
            "80",
            "fd00::7",
            "443",
            "http://10.0.0.1:80/",
            "http://[fd00::7]:443/",
        }


@pytest.fixture(scope="module")
def sockets() -> Iterator[dict[Response, int]]:
    """Return ports of this machine by what a connection to each comes to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            closed = gone.getsockname()[1]
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.settimeout(0)
                one.connect_ex(full.getsockname())
            yield {CONNECTED: server.getsockname()[1], REFUSED: closed, LATE: full.getsockname()[1]}
            for one in waiting:
                one.close()


@pytest.mark.parametrize("name", ["bash", "python3"])
@pytest.mark.parametrize("response", [CONNECTED, REFUSED, LATE])
def test_the_programs_of_ours_say_what_became_of_a_connection(
    sockets: dict[Response, int], name: str, response: Response
) -> None:
    client: Client = CLIENT[name]
    assert shutil.which(name) is not None
    done = subprocess.run(
        client.argv("127.0.0.1", sockets[response], 1), capture_output=True, text=True, check=False
    )
    ended = Ended(code=done.returncode, output=done.stdout, errors=done.stderr)
    assert client.read(ended) is response
