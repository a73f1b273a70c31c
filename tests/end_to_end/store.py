"""An S3 server of the tests' own: moto's, a process, which checks users, rights and signatures.

The audit talks to it with pyarrow's own S3 client, over HTTP, through a forwarder that knows what
was asked and can cut the line.
"""

import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import boto3

BUCKET = "audits"
RIGHTS = {
    "writer": ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
    "reader": ["s3:ListBucket", "s3:GetObject"],
}
_CALLS = 1 + 3 * len(RIGHTS)
"""What is called below before the server begins to ask who calls."""


@dataclass(slots=True, kw_only=True)
class Forwarder:
    """Hands bytes on to `port`; `asked` are the request lines.

    `cut_at` is part of the one that it does not survive, `cut_after` how many bytes for the store;
    while `down` nobody is answered.
    """

    port: int
    asked: list[str] = field(default_factory=list)
    cut_at: str = ""
    cut_after: float = math.inf
    sent: int = 0
    """Bytes for the store so far."""
    down: bool = False
    listener: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.port))
            Thread(target=self._hand_on, args=(client, server), daemon=True).start()
            Thread(target=self._pipe, args=(server, client), daemon=True).start()

    def _hand_on(self, client: socket.socket, server: socket.socket) -> None:
        while not self.down and (part := _received(client)):
            lines = re.findall(rb"^(?:GET|PUT|POST|HEAD|DELETE) [^\r]* HTTP", part, re.MULTILINE)
            self.asked += [line.decode() for line in lines]
            if self.cut_at and any(self.cut_at in line.decode() for line in lines):
                self.down = True
                break
            left = max(self.cut_after - self.sent, 0)
            self.sent += len(part)
            with suppress(OSError):
                server.sendall(part[: int(min(left, len(part)))])
            if left < len(part):
                self.down = True
        _close(client, server)

    def _pipe(self, server: socket.socket, client: socket.socket) -> None:
        while not self.down and (part := _received(server)):
            with suppress(OSError):
                client.sendall(part)
        _close(client, server)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A running server with a bucket and users."""

    line: Forwarder
    keys: Mapping[str, tuple[str, str]]
    client: Any
    """boto3's, for what a test wants to see or to spoil."""

    def environment(self, user: str = "writer", secret: str = "") -> dict[str, str]:
        """Return what a process needs to be that user; `secret` in place of the true one."""
        key, true = self.keys[user]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret or true,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.line.listener.getsockname()[1]}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def names(self, prefix: str = "") -> list[str]:
        """Return the objects below a prefix."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", ())]

    def content(self, name: str) -> bytes:
        """Return an object's content."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def put(self, name: str, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=BUCKET, Key=name, Body=content)

    def delete(self, name: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=BUCKET, Key=name)


@contextmanager
def running(log: Path) -> Iterator[Store]:
    """Serve S3 as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_CALLS)}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server,
    ):
        try:
            _wait_for(port, log)
            yield _set_up(port)
        finally:
            server.kill()


def _wait_for(port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def _set_up(port: int) -> Store:
    access: dict[str, Any] = {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "region_name": "us-east-1",
    }
    nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
    boto3.client("s3", **access, **nobody).create_bucket(Bucket=BUCKET)
    iam = boto3.client("iam", **access, **nobody)
    keys = {}
    for name, actions in RIGHTS.items():
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = (key["AccessKeyId"], key["SecretAccessKey"])
    writer = {
        "aws_access_key_id": keys["writer"][0],
        "aws_secret_access_key": keys["writer"][1],
    }
    client = boto3.client("s3", **access, **writer)
    return Store(line=Forwarder(port=port), keys=keys, client=client)
