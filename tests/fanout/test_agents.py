"""What agents and runs refuse before Ray is even loaded."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from audit import scratch
from audit.errors import EngineError, UsageError
from audit.fanout import agents
from audit.fanout.ray import run_node
from audit.tracing.agents import AgentOptions
from audit.tracing.agents import serve as serve_agent


def no_worker() -> None:
    pytest.fail("no worker is made")


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "made-up")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # set by what is tested: put back afterwards


@pytest.mark.usefixtures("no_token")
def test_without_a_token_neither_side_starts(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match="RAY_AUTH_TOKEN_PATH"),
        agents.AgentFanout(no_worker, zones=["a"], listen="6379"),  # type: ignore[arg-type]
    ):
        pass
    options = AgentOptions(address="head:6379", node="n", ovn_rundir=tmp_path)
    with pytest.raises(EngineError, match="RAY_AUTH_TOKEN_PATH"):
        serve_agent(options)


@pytest.mark.usefixtures("token")
def test_what_an_agent_is_told_is_checked(tmp_path: Path) -> None:
    options = AgentOptions(address="head:6379", node="n", ovn_rundir=tmp_path)
    with pytest.raises(EngineError, match=r"ovnsb_db\.sock is no socket: mount"):
        serve_agent(options)
    with pytest.raises(UsageError, match="HOST:PORT"):
        agents.join("head", node="n", zone="z", workers=1, wait_s=0)
    with pytest.raises(EngineError, match=r"no run listens at 127\.0\.0\.1:1"):
        agents.join("127.0.0.1:1", node="n", zone="z", workers=1, wait_s=0)
    with (
        pytest.raises(UsageError, match=r"\[IP:\]PORT"),
        agents.AgentFanout(no_worker, zones=["a"], listen="here"),  # type: ignore[arg-type]
    ):
        pass


def test_a_node_that_does_not_come_up_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "SHORT", tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(EngineError, match="did not join the run: Ray ended with exit code 1"):
        run_node("--address=127.0.0.1:1")
    assert not any(tmp_path.iterdir())
