"""Batches on the nodes they are of: Ray actors where the agents are, each with its zone's sockets.

This process is the head of a Ray cluster that lasts as long as the run; the agents (`audit agent`)
look for it and join, and each says by Ray's node labels which node it is on and which zone's
databases it has. An actor is bound to the Ray node it was made for and is given batches of that
zone alone, on the datapath of that node alone: nothing of one is asked of another's agent.

A batch whose actor dies is run once more, by another agent of the zone if there is one. When the
last agent of a zone is gone, what is left of the zone comes back as failures that say so, and the
other zones go on.
"""

import logging
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from audit.errors import AuditError, EngineError, UsageError
from audit.fanout.backlog import Backlog
from audit.fanout.base import Finished, MakeWorker
from audit.fanout.ray import (
    ATTEMPTS,
    GRACE_S,
    IN_FLIGHT,
    Actor,
    close,
    home,
    leave,
    listens,
    lost,
    require_listening,
    run_node,
    start,
)
from audit.model.traces import TraceBatch

NODE_LABEL = "ovn-audit/node"
ZONE_LABEL = "ovn-audit/zone"
"""Ray's labels of an agent: the Kubernetes node it is on, the zone whose databases it has."""

_POLL_S = 1.0
_SETTLE_S = 3.0
"""The head listens before its own node is registered; who joins in between can wait in vain."""
_HEAD_GONE_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_HEAD_GONE_S = "10"
"""After so long without the head, which ends with its run, an agent's Ray ends too."""


def require_token() -> None:
    """Raise EngineError unless Ray will ask everyone for a token: whoever joins runs our code."""
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        raise EngineError(
            "agents and the run authenticate each other with a token, and there is none; set "
            "RAY_AUTH_TOKEN_PATH to a file that holds the same one on both sides"
        )


class _Agent(NamedTuple):
    """An agent that has joined; `ray_id` is Ray's name of its node."""

    ray_id: str
    node: str
    zone: str
    slots: int


@dataclass(slots=True, kw_only=True)
class _Member:
    """An actor at an agent, and how many batches it has."""

    handle: Any
    agent: _Agent
    running: int = 0


@dataclass(slots=True, kw_only=True)
class _Work:
    """One call of `run`: what is in flight, and what came back from actors that died."""

    backlog: Backlog
    running: dict[Any, tuple[_Member, TraceBatch]] = field(default_factory=dict)
    returned: dict[str, deque[TraceBatch]] = field(default_factory=lambda: defaultdict(deque))
    attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def zones(self) -> list[str]:
        """Return the zones that have something to begin, sorted."""
        waiting = {zone for zone, batches in self.returned.items() if batches}
        return sorted(waiting | set(self.backlog.zones()))

    def take(self, zone: str) -> TraceBatch | None:
        """Return the next batch of a zone."""
        if self.returned[zone]:
            return self.returned[zone].popleft()
        return self.backlog.take_of(zone)


@dataclass(slots=True)
class AgentFanout:
    """Runs batches at the agents. Use as a context; it waits up to `wait_s` for `zones`.

    `make_worker` says how one is made at a node. `address` names a Ray cluster to join instead of
    heading one, as a RayJob's driver does. From `until` on, by the monotonic clock, no batch is
    begun any more.
    """

    make_worker: Callable[[str], MakeWorker]
    zones: Collection[str]
    listen: str
    """[IP:]PORT."""
    wait_s: float = 120.0
    address: str = ""
    until: float = math.inf
    retraced: int = 0
    _ray: Any = None
    _head: str = ""
    _open: ExitStack = field(default_factory=ExitStack)
    _members: list[_Member] = field(default_factory=list)
    _last_words: dict[str, str] = field(default_factory=dict)
    """How the last actor of a zone ended."""

    def __enter__(self) -> Self:
        require_token()
        os.environ["RAY_AUTH_MODE"] = "token"
        how = self._how()
        try:
            if not self.address:
                how["_temp_dir"] = str(self._open.enter_context(home()))
            self._ray, self._head = start(**how)
            self._await_agents()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, AuditError) or not isinstance(error, Exception):
                raise
            raise EngineError(f"Ray did not start: {error}") from error
        return self

    def turn(self, make_worker: Callable[[str], MakeWorker]) -> None:
        """Leave the workers that were made; from now on others are."""
        close(self._ray, [member.handle for member in self._members])
        self._members.clear()  # with its last handle an actor ends
        self.make_worker = make_worker

    def _how(self) -> dict[str, Any]:
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.address:
            return {"address": self.address, **quiet}
        ip, _, port = self.listen.rpartition(":")
        if not port.isdigit():
            raise UsageError(f"{self.listen!r} is no place to listen; write [IP:]PORT")
        os.environ["RAY_GCS_SERVER_PORT"] = port
        # No CPUs: nothing but the driver runs here.
        here = {"_node_ip_address": ip.strip("[]") or None}
        return {"address": "local", "num_cpus": 0, "include_dashboard": False, **here, **quiet}

    def _await_agents(self) -> None:
        """Return when each zone has an agent, or time is up: then those that have one are asked."""
        deadline = time.monotonic() + self.wait_s
        while set(self.zones) - {agent.zone for agent in self._agents()}:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S / 4)
        if not self._agents():
            raise EngineError(
                f"no agent joined within {self.wait_s:g} s; look at the agents' logs, and whether "
                f"they reach {self.listen}"
            )

    def _agents(self) -> list[_Agent]:
        """Return the agents Ray believes alive; EngineError when the head is lost."""
        require_listening(self._head)
        return [
            _Agent(
                ray_id=node["NodeID"],
                node=node["Labels"].get(NODE_LABEL, ""),
                zone=node["Labels"][ZONE_LABEL],
                slots=int(node["Resources"].get("CPU", 0)),
            )
            for node in self._ray.nodes()
            if node["Alive"] and ZONE_LABEL in node.get("Labels", {})
        ]

    def __exit__(self, *_: object) -> None:
        if self._ray is None:
            self._open.close()
            return
        try:
            leave(self._ray, self._head, self._members)
        finally:
            self._ray = None
            self._open.close()

    def run(self, backlog: Backlog) -> Iterator[Finished]:
        """Yield every batch exactly once with its outcomes, as they finish."""
        work = _Work(backlog=backlog)
        while True:
            if time.monotonic() < self.until:
                yield from self._fill(work)
            if not work.running or time.monotonic() > self.until + GRACE_S:
                return
            done, _ = self._ray.wait(list(work.running), num_returns=1, timeout=_POLL_S)
            for reference in done:
                yield from self._finish(work, reference)

    def _fill(self, work: _Work) -> Iterator[Finished]:
        """Give each zone's actors enough to do; yield what no agent is left for, as failures."""
        agents = self._agents()
        for zone in work.zones():
            # A batch is of a zone, or of a node: where a zone has a node's name it is the node's.
            here = [agent for agent in agents if zone in (agent.zone, agent.node)]
            while here and (member := self._free(here)) is not None:
                batch = work.take(zone)
                if batch is None:
                    break
                member.running += 1
                work.running[member.handle.run.remote(batch)] = (member, batch)
            while not here and (batch := work.take(zone)) is not None:
                reason = self._last_words.get(zone, "none joined this run")
                yield lost(batch, f"zone {zone} has no agent: {reason}")

    def _free(self, agents: list[_Agent]) -> _Member | None:
        """Return an actor that can have another batch: an idle one, a new one, a busy one."""
        ids = {agent.ray_id for agent in agents}
        members = [member for member in self._members if member.agent.ray_id in ids]
        for member in members:
            if not member.running:
                return member
        for agent in agents:
            at = sum(member.agent.ray_id == agent.ray_id for member in members)
            if at < agent.slots:
                return self._hire(agent)
        able = [member for member in members if member.running < IN_FLIGHT]
        return min(able, key=lambda member: member.running, default=None)

    def _hire(self, agent: _Agent) -> _Member:
        """Start an actor at an agent and nowhere else; it fails when that node is gone."""
        bound = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=agent.ray_id, soft=False
        )
        actor = self._ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy=bound)(Actor)
        member = _Member(handle=actor.remote(self.make_worker(agent.node)), agent=agent)
        self._members.append(member)
        return member

    def _finish(self, work: _Work, reference: Any) -> Iterator[Finished]:  # noqa: ANN401 - Ray's own
        """Take a batch's outcomes; when its actor died, let it be run once more."""
        member, batch = work.running.pop(reference)
        member.running -= 1
        try:
            outcomes = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            if member in self._members:
                self._members.remove(member)
            key = batch.tasks[0].key
            work.attempts[key] += 1
            reason = f"the one on node {member.agent.node} was lost: {str(error).splitlines()[0]}"
            self._last_words[batch.zone] = reason
            if work.attempts[key] < ATTEMPTS:
                work.returned[batch.zone].append(batch)
            else:
                yield lost(batch, f"an agent of zone {batch.zone} was lost twice; {reason}")
        else:
            self.retraced += batch.tasks[0].key in work.attempts
            yield batch, outcomes


def join(address: str, *, node: str, zone: str, workers: int, wait_s: float) -> None:
    """Be a Ray node with an agent's labels, at the head at `address`, until that ends.

    It waits for the head for `wait_s`, EngineError then.
    """
    require_token()
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ[_HEAD_GONE_VARIABLE] = _HEAD_GONE_S
    _await_head(address, wait_s)
    labels = f"{NODE_LABEL}={node},{ZONE_LABEL}={zone}"
    run_node(f"--address={address}", f"--num-cpus={workers}", f"--labels={labels}")


def _await_head(address: str, wait_s: float) -> None:
    """Return when something listens at `address`: between runs, nothing does."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address!r} is no address of a head; write HOST:PORT")
    deadline = time.monotonic() + wait_s
    while True:
        if listens(address):
            time.sleep(_SETTLE_S)
            return
        if time.monotonic() > deadline:
            raise EngineError(f"no run listens at {address}")
        time.sleep(_POLL_S)
