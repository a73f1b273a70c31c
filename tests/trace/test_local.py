"""Waiting for what starts a daemon, with and without a kernel that tells of a process's end."""

import errno
import os
import subprocess
from typing import NoReturn

import pytest

from audit.trace import local


@pytest.fixture(params=["told", "forbidden"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_pid: int) -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if request.param == "forbidden":
        monkeypatch.setattr(os, "pidfd_open", forbidden)


@pytest.mark.usefixtures("_kernel")
def test_the_exit_code_of_a_child_that_ends_is_there() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 0.05; exit 3"])
    local.await_end(child, 60)
    assert child.returncode == 3


@pytest.mark.usefixtures("_kernel")
def test_a_child_that_does_not_end_is_given_up_in_time() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                local.await_end(child, 0.05)
            assert child.poll() is None
        finally:
            child.kill()
