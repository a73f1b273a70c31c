"""An API server of a recorded cluster: Lists by kmock, and pod exec over a real WebSocket.

What is executed are the real programs, on the databases of the node whose pod was named: an
`ovsdb-server` per database, as in the pod. A pod's Python finds its own node's sockets, programs
and temporary directory by its environment; as a container runtime does, nothing ends it when the
client goes but that its standard input ends. Where a test wants them, each node has a switch, a
replayed one, whose sockets are in another container than the databases'.
"""

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp.test_utils
import kmock
import yaml
from aiohttp import web

from audit.facts.live.resources import EXEC, LISTED
from audit.facts.openflow import read_chassis
from audit.model.datapath import Switch
from audit.replay import databases, datapath
from audit.replay.toolchain import Toolchain

TOKEN = "the-token-of-the-test"  # noqa: S105 - of no other server
_EXEC = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/exec")
_GROUP = re.compile(r"/apis/([^/]+)/[^/]+")
_SOCKETS = {
    "unix:/var/run/ovn/ovnnb_db.sock": "nb",
    "unix:/var/run/ovn/ovnsb_db.sock": "sb",
    "unix:/var/run/openvswitch/db.sock": "db.sock",
    "unix:/var/run/openvswitch/br-int.mgmt": "br-int.mgmt",
}
_SWITCH = {"ovn-controller"}
_CONTAINERS = {
    "nb": {"nbdb", "nb-ovsdb"},
    "sb": {"sbdb", "sb-ovsdb"},
    "db.sock": _SWITCH,
    "br-int.mgmt": _SWITCH,
}
_CHUNK = 32 << 10


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an API server answers."""

    said: Mapping[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a Status as an API server sends it."""
    said = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return Answer(said=said, status=status, headers=headers or {})


@dataclass(kw_only=True)
class Cluster:
    """A recorded cluster behind an API server; tests change how it behaves."""

    directory: Path
    page: int = 20
    lists: dict[str, list[Any]] = field(default_factory=dict)
    answers: dict[str, Callable[[Mapping[str, str]], Answer | None]] = field(default_factory=dict)
    """Answers to the List of a resource that are given instead; None from one: the usual."""
    execs: dict[str, list[str]] = field(default_factory=dict)
    """How the execs of a pod go, one after another: `hang`, `die`, `403`, `ok`; the last stays."""
    streams: dict[str, list[str]] = field(default_factory=dict)
    """The same for traces in a pod: `hang`, `dieN` after N pieces of output, `403`, `ok`."""
    switch_streams: dict[str, list[str]] = field(default_factory=dict)
    """The same for traces of its node's switch."""
    switches: Mapping[str, Switch] = field(default_factory=dict)
    """By node, those that run."""
    calls: Counter[str] = field(default_factory=Counter)
    needed: set[tuple[str, str, str]] = field(default_factory=set)
    """(verb, resource, API group) of every right that was used; exec takes both of its verbs, as
    API servers from Kubernetes 1.35 on ask for."""
    execs_in: set[str] = field(default_factory=set)
    """The namespaces of those pods."""
    elsewhere: list[str] = field(default_factory=list)
    """What was asked for besides."""
    commands: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    running: int = 0
    """Commands that run in pods now."""
    after_exec: Callable[["Cluster"], None] | None = None
    when_traced: Callable[["Cluster"], None] | None = None
    """Called when a trace in a pod is asked for."""
    url: str = ""
    nodes: Path = Path("/nonexistent")
    """A directory per node: `run` with its sockets, and `tmp`, which is to be empty at the end."""
    _sockets: dict[tuple[str, str], Path] = field(default_factory=dict)
    _of_pods: set["asyncio.Task[Any]"] = field(default_factory=set)

    def kubeconfig(self, path: Path, *, token: str = TOKEN) -> Path:
        """Write a kubeconfig that leads here."""
        named = {"cluster": "c", "user": "u"}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": named}],
                }
            )
        )
        return path

    def listing(self, query: Mapping[str, str], resource: str) -> Answer:
        """Answer a List, a page at a time if the client asks for pages."""
        self.calls[f"list {resource}"] += 1
        instead = self.answers[resource](query) if resource in self.answers else None
        if instead is not None:
            return instead
        if resource not in self.lists:
            return refusal(404, "the server could not find the requested resource")
        items = self.lists[resource]
        start = int(query.get("continue") or 0)
        limit = self.page if query.get("limit") else len(items)
        metadata = {"resourceVersion": "1000"}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        some = items[start : start + limit]
        return Answer(said={"kind": "List", "metadata": metadata, "items": some})

    def reset(self) -> None:
        """Behave as recorded again, and forget what was asked."""
        self.answers, self.execs, self.streams, self.denied = {}, {}, {}, set()
        self.switch_streams = {}
        self.calls, self.commands = Counter(), []
        self.needed, self.execs_in, self.elsewhere = set(), set(), []
        self.after_exec = self.when_traced = None

    def idle(self) -> bool:
        """Say whether no command runs in a pod any more, or soon."""
        deadline = time.monotonic() + 10
        while self.running and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.running

    def node_of(self, pod: str) -> str:
        """Return the node whose databases a pod of OVN-Kubernetes has."""
        node = self.host_of(pod)
        return node if (node, "nb") in self._sockets else "global"

    def host_of(self, pod: str) -> str:
        """Return the node a pod is on, whichever has its databases."""
        found = [p for p in self.lists["pods"] if p["metadata"]["name"] == pod]
        return str(found[0]["spec"]["nodeName"]) if found else pod.removeprefix("ovnkube-node-")

    async def exec(self, request: web.BaseRequest, pod: str) -> web.StreamResponse:
        """Run a command in a pod, its channels as the protocol numbers them."""
        argv = request.query.getall("command")
        faults = self.streams if "trace" in argv else self.execs
        if argv[0] == "python3" and request.query["container"] in _SWITCH:
            faults = self.switch_streams
        planned = faults.get(pod, ["ok"])
        how = planned.pop(0) if len(planned) > 1 else planned[0]
        if how.isdigit():
            return web.json_response({"message": "no"}, status=int(how))
        stream = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await stream.prepare(request)
        self.commands.append((pod, tuple(argv)))
        self.running += 1
        try:
            if how == "hang":
                while (await stream.receive()).type is web.WSMsgType.BINARY:
                    pass  # until the client is gone
            elif argv[0] == "python3":
                left = int(how.removeprefix("die")) if how.startswith("die") else -1
                await self._talk(request, stream, pod, pieces=left)
            else:
                await self._run(request, stream, pod, dies=how == "die")
        finally:
            self.running -= 1
        return stream

    async def _talk(
        self, request: web.BaseRequest, stream: web.WebSocketResponse, pod: str, *, pieces: int
    ) -> None:
        """Run Python in a pod and hand on its input and output, so many `pieces` of that."""
        argv = request.query.getall("command")
        at_switch = request.query["container"] in _SWITCH
        assert at_switch or request.query["container"] in _CONTAINERS["sb"]
        home = self.nodes / (self.host_of(pod) if at_switch else self.node_of(pod))
        if self.when_traced is not None and "trace" in argv:
            self.when_traced(self)
        process = await asyncio.create_subprocess_exec(
            "/usr/bin/python3",
            *argv[1:],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "OVN_RUNDIR": str(home / "run"),
                "OVS_RUNDIR": str(home / "ovs"),
                "TMPDIR": str(home / "tmp"),
                "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
            },
            limit=1 << 22,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if request.query["stdin"] == "false":
            process.stdin.close()
        feeding = asyncio.create_task(self._feed(stream, process.stdin))
        try:
            while chunk := await process.stdout.read(_CHUNK):
                if not pieces:
                    assert request.transport is not None
                    request.transport.abort()
                    return
                pieces -= 1
                await stream.send_bytes(b"\x01" + chunk)
            await stream.send_bytes(b"\x02" + await process.stderr.read())
            await stream.send_bytes(b'\x03{"status": "Success"}')
            await stream.close()
        except ConnectionError:
            pass  # the client is gone
        finally:
            feeding.cancel()
            process.stdin.close()
            self._end(process)

    def _end(self, process: asyncio.subprocess.Process) -> "asyncio.Task[Any]":
        """Read what nobody read, so that its pipes are closed, also when nobody waits for it."""
        ending = asyncio.create_task(process.communicate())
        self._of_pods.add(ending)
        return ending

    @staticmethod
    async def _feed(stream: web.WebSocketResponse, sink: asyncio.StreamWriter) -> None:
        async for message in stream:
            assert message.data[0] == 0, "standard input's channel"
            sink.write(message.data[1:])
        sink.close()

    async def _run(
        self,
        request: web.BaseRequest,
        stream: web.WebSocketResponse,
        pod: str,
        *,
        dies: bool,
    ) -> None:
        container, argv = request.query["container"], request.query.getall("command")
        socket = next((word for word in argv if word in _SOCKETS), "")
        side = _SOCKETS[socket]
        assert container in _CONTAINERS[side], "its own container has the socket"
        of_switch = self.nodes / self.host_of(pod) / "ovs" / side
        served = of_switch if container in _SWITCH else self._sockets[self.node_of(pod), side]
        real = [f"unix:{served}" if word == socket else word for word in argv]
        process = await asyncio.create_subprocess_exec(
            *self._argv(*real), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while chunk := await process.stdout.read(_CHUNK):
                await stream.send_bytes(b"\x01" + chunk)
                if dies:
                    transport = request.transport
                    assert transport is not None
                    transport.abort()
                    return
            errors = await process.stderr.read()
            if errors:
                await stream.send_bytes(b"\x02" + errors)
            code = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.shield(self._end(process))
        if self.after_exec is not None:
            self.after_exec(self)
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status = {"status": "Failure", "message": "failed", "details": {"causes": causes}}
        await stream.send_bytes(b"\x03" + json.dumps(status).encode())
        await stream.close()

    def _argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        assert self._programs is not None
        return self._programs.argv(program, *arguments)

    _programs: Toolchain | None = None

    @contextlib.contextmanager
    def serving(self, programs: Toolchain, *, switches: bool = False) -> Iterator["Cluster"]:
        """Serve the cluster while the block lasts; `switches` with those of its nodes."""
        self._programs = programs
        for path in (self.directory / "kube").glob("*.json"):
            self.lists[path.stem] = json.loads(path.read_text())["items"]
        with ExitStack() as stack:
            self.nodes = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nodes-")))
            for database in self.directory.glob("ovn/*/*.db"):
                rundir = stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-"))
                socket = databases.serve(programs, database, Path(rundir))
                place = (database.parent.name, database.stem)
                self._sockets[place] = stack.enter_context(socket)
                self._settle(*place)
            if switches:
                self._run_switches(programs, stack)
            stack.enter_context(self._listening())
            yield self

    def _run_switches(self, programs: Toolchain, stack: ExitStack) -> None:
        """Make every node's switch, and put its sockets where a pod of the node finds them."""
        reader = databases.OvsdbTool(programs=programs)
        southbound = {zone: place for (zone, side), place in self._sockets.items() if side == "sb"}
        chassis = [
            one
            for zone in southbound
            for one in read_chassis(reader, zone, self.directory / "ovn" / zone / "sb.db")
        ]
        rundir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sw-")))
        running = datapath.replay(programs, chassis, southbound, rundir / "d")
        self.switches = stack.enter_context(running).switches
        for node, switch in self.switches.items():
            place = self.nodes / node / "ovs"
            place.mkdir(parents=True)
            for name in ("tmp", "bin"):
                (self.nodes / node / name).mkdir(exist_ok=True)
            (place / "ovs-vswitchd.pid").write_text("7\n")
            (place / "ovs-vswitchd.7.ctl").symlink_to(switch.vswitchd)
            for name in ("db.sock", "br-int.mgmt"):
                (place / name).symlink_to(switch.vswitchd.with_name(name))

    def _settle(self, node: str, side: str) -> None:
        """Put a database's socket where a pod of its node finds it, and programs beside it."""
        home = self.nodes / node
        for name in ("run", "tmp", "bin"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "run" / f"ovn{side}_db.sock").symlink_to(self._sockets[node, side])
        program = home / "bin" / "ovn-trace"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(self._argv("ovn-trace"))} "$@"\n')
        program.chmod(0o755)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        ready, over = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()
        failures: list[BaseException] = []

        async def serve() -> None:
            async with kmock.RawHandler() as api:
                self._rules(api)
                async with kmock.Server(api, server_cls=self._server) as server:  # type: ignore[arg-type]
                    self.url = str(server.url).rstrip("/")
                    ready.set()
                    await over.wait()
            await asyncio.wait_for(asyncio.gather(*self._of_pods), 10)

        def run() -> None:
            try:
                loop.run_until_complete(serve())
            except BaseException as error:  # noqa: BLE001 - shown by the test's thread
                failures.append(error)
                ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(30)
        assert not failures, failures
        yield
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()

    def _rules(self, api: kmock.RawHandler) -> None:
        for listed in LISTED:
            for version in listed.versions:
                api[f"get {listed.path(version)}"] << (
                    lambda request, name=listed.resource: self._listed(request, name)
                )
        api["get /version"] << {"gitVersion": "v1.34.1"}
        api["post /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] << self.review

    def _listed(self, request: kmock.Request, resource: str) -> Any:
        answer = self.listing(request.params, resource)
        return kmock.Response(  # type: ignore[attr-defined]
            status=answer.status, payload=dict(answer.said), headers=dict(answer.headers)
        )

    denied: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource or resource/subresource) that these credentials may not."""

    def review(self, request: kmock.Request) -> Mapping[str, Any]:
        """Answer a SelfSubjectAccessReview."""
        asked = request.data["spec"]["resourceAttributes"]
        name = asked["resource"] + (f"/{asked['subresource']}" if asked["subresource"] else "")
        return {"status": {"allowed": (asked["verb"], name) not in self.denied}}

    def _note(self, request: web.BaseRequest) -> None:
        """Note which right a request takes."""
        listed = [
            one for one in LISTED if request.path in {one.path(version) for version in one.versions}
        ]
        if executed := _EXEC.fullmatch(request.path):
            self.execs_in.add(executed[1])
            self.needed |= {(verb, "pods/exec", "") for verb in EXEC}
        elif listed and request.method == "GET":
            self.needed.add(("list", listed[0].resource, listed[0].group))
        else:
            self.elsewhere.append(f"{request.method} {request.path}")

    def _server(self, handler: Any, **settings: Any) -> aiohttp.test_utils.RawTestServer:
        """Return kmock's server, with exec in front of it: kmock has no WebSockets."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return web.json_response({"message": "Unauthorized"}, status=401)
            self._note(request)
            group = _GROUP.fullmatch(request.path)
            if group is not None:
                names = [one.resource for one in LISTED if one.group == group[1]]
                kinds = [{"name": name} for name in names if name in self.lists]
                return web.json_response({"resources": kinds}, status=200 if kinds else 404)
            pod = _EXEC.fullmatch(request.path)
            if pod is not None:
                return await self.exec(request, pod[2])
            if request.path == "/api/v1/namespaces":  # kmock 0.8 takes it for a namespace's own
                answer = self.listing(request.query, "namespaces")
                return web.json_response(answer.said, status=answer.status, headers=answer.headers)
            answered: web.StreamResponse = await handler(request)
            return answered

        return aiohttp.test_utils.RawTestServer(handle, **settings)
