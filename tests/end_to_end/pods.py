"""Pods behind an API server, whose execs run real programs in a network namespace.

What a pod gets to see of the cluster is the namespace's: addresses that listen, addresses that only
refuse, and addresses whose packets vanish, as a drop makes them. All pods share it, so a test says
with other addresses what differs from pod to pod.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

_POD = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)(?:/(exec|ephemeralcontainers))?")
_HOLDER = """
import json, socket, subprocess, sys
there = json.load(sys.stdin)
def ip(*words): subprocess.run(["ip", *words], check=True, capture_output=True)
ip("link", "set", "lo", "up")
ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
for name in ("v0", "v1"): ip("link", "set", name, "up")
ip("addr", "add", "198.18.0.1/32", "dev", "v0")
ip("route", "add", "default", "dev", "v0")
for address in there["vanish"]:
    ip("neigh", "add", address, "lladdr", "02:00:00:00:00:01", "dev", "v0")
for address in there["addresses"]: ip("addr", "add", f"{address}/32", "dev", "lo")
servers = []
for address, port in there["listen"]:
    servers.append(socket.create_server((address, port)))
print("ready", flush=True)
import time; time.sleep(600)
"""


@dataclass(kw_only=True)
class Pods:
    """Pods by (namespace, name), as the API has them, and what their images have.

    `images` maps an image to the programs in it. `commands` are (pod, container, argv).
    """

    pods: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    images: dict[str, Collection[str]] = field(default_factory=dict)
    commands: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    """Namespaces whose pods may not be executed in."""
    url: str = ""
    most_at_once: int = 0
    _running: int = 0
    _pid: int = 0

    def add(
        self, namespace: str, name: str, address: str, image: str, **metadata: Mapping[str, str]
    ) -> None:
        """Add a pod of one container."""
        self.pods[namespace, name] = {
            "metadata": {"namespace": namespace, "name": name, **metadata},
            "spec": {},
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": address}],
                "containerStatuses": [_running("main", image)],
            },
        }

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        clusters = [{"name": "c", "cluster": {"server": self.url}}]
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        config = {"clusters": clusters, "contexts": contexts, "users": [{"name": "u", "user": {}}]}
        path.write_text(yaml.safe_dump({**config, "kind": "Config", "current-context": "x"}))
        return path

    @contextlib.contextmanager
    def serving(
        self,
        *,
        listen: Collection[tuple[str, int]],
        addresses: Collection[str],
        vanish: Collection[str],
    ) -> Iterator["Pods"]:
        """Serve while the block lasts, over a network namespace of its own."""
        there = {"listen": [*listen], "addresses": [*addresses], "vanish": [*vanish]}
        with subprocess.Popen(
            ["unshare", "-r", "-n", sys.executable, "-c", _HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            try:
                holder.stdin.write(json.dumps(there))
                holder.stdin.close()
                assert holder.stdout.readline() == "ready\n"
                self._pid = holder.pid
                with self._listening():
                    yield self
            finally:
                holder.kill()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        ready, over = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def serve() -> None:
            runner = web.ServerRunner(web.Server(self._answer))
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await over.wait()
            await runner.cleanup()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(over.set)
            thread.join(30)
            loop.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match = _POD.fullmatch(request.path)
        pod = self.pods.get((match[1], match[2])) if match else None
        if match is None or pod is None:
            return web.json_response({"message": "not found"}, status=404)
        if match[3] == "exec":
            return await self._exec(request, pod)
        if match[3] == "ephemeralcontainers":
            assert request.method == "PATCH"
            assert request.content_type == "application/strategic-merge-patch+json"
            patch = await request.json()
            pod["spec"].update(patch["spec"])
            states = [_running(c["name"], c["image"]) for c in patch["spec"]["ephemeralContainers"]]
            pod["status"]["ephemeralContainerStatuses"] = states
        return web.json_response(pod)

    async def _exec(self, request: web.BaseRequest, pod: Mapping[str, Any]) -> web.StreamResponse:
        if pod["metadata"]["namespace"] in self.forbidden:
            return web.json_response({"message": "no"}, status=403)
        stream = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await stream.prepare(request)
        argv, container = request.query.getall("command"), request.query["container"]
        self.commands.append((pod["metadata"]["name"], container, tuple(argv)))
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            status = pod["status"]
            states = [*status["containerStatuses"], *status.get("ephemeralContainerStatuses", ())]
            [image] = [state["image"] for state in states if state["name"] == container]
            await self._run(stream, argv, self.images[image])
        finally:
            self._running -= 1
        await stream.close()
        return stream

    async def _run(
        self, stream: web.WebSocketResponse, argv: list[str], programs: Collection[str]
    ) -> None:
        if argv[0] not in programs:
            text = f'exec: "{argv[0]}": executable file not found in $PATH: unknown'
            status = {"status": "Failure", "reason": "InternalError", "message": text}
            await stream.send_bytes(b"\x03" + json.dumps(status).encode())
            return
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--preserve-credentials", "-U", "-n", "-t", str(self._pid)),
            *("/usr/bin/python3" if argv[0] == "python3" else argv[0], *argv[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = await process.communicate()
        for channel, printed in ((b"\x01", output), (b"\x02", errors)):
            if printed:
                await stream.send_bytes(channel + printed)
        ended: dict[str, Any] = {"status": "Success"}
        if process.returncode:
            causes = [{"reason": "ExitCode", "message": str(process.returncode)}]
            ended = {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": causes},
            }
        await stream.send_bytes(b"\x03" + json.dumps(ended).encode())


def _running(name: str, image: str) -> dict[str, Any]:
    return {"name": name, "image": image, "state": {"running": {"startedAt": "now"}}}
