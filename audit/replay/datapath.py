"""Each node's Open vSwitch, made again from its zone's southbound database.

Per node one `ovsdb-server`, `ovs-vswitchd` and `ovn-controller` run in a private directory. The
controller connects to the zone's served southbound database as the chassis it finds there, binds
the interfaces that were bound, and installs what it would install on the node: its OpenFlow is
made by OVN's own code from the database's own rows. `--enable-dummy=system` gives the switch a
userspace datapath with conntrack and interfaces that exist nowhere else, so nothing of this
needs root or touches the machine's network.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from audit import scratch
from audit.errors import EngineError
from audit.model.datapath import Chassis, Switch
from audit.model.engine import Programs, SchemaPrograms
from audit.replay import keeper, ports
from audit.replay.configuration import BRIDGE, Json, transactions

START_TIMEOUT_S = 120.0
_BARRIERS = 3
"""How often the controllers are asked to confirm. The first confirmation covers the ports that
were there at the start; by the second the switch has the tunnels and patch ports that the
controllers made; the third covers what came between those two databases' notifications."""
_CONTROLLER = "ovn-controller.*.ctl"
"""ovn-controller's unixctl socket, named by its process id; 23.03 cannot be told another."""
_LARGEST_PID = 1 << 22
_SHOWN = 300
_SOCKET_PATH_BYTES = 107
_SOUTHBOUND = "OVN_Southbound"
_PATIENCE_S = 1.0
"""After this long it is looked whether the daemons that are waited for are alive."""
_WAITS_AT_A_TIME = 200
"""A transaction is an argument, which Linux bounds at 128 KiB (execve(2))."""
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises that is something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The switches that run, by node, and why the others do not."""

    switches: Mapping[str, Switch]
    failures: Mapping[str, str]


@contextlib.contextmanager
def replay(
    programs: SchemaPrograms,
    chassis: Sequence[Chassis],
    southbound: Mapping[str, Path],
    rundir: Path,
    *,
    parallel: int | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Replayed]:
    """Run the switches of `chassis` and yield them, their flows installed.

    `southbound` maps zones to the sockets their databases are served on. `rundir` is to be short,
    as sockets are made below it: EngineError when it is not. A node that does not start in
    `timeout_s`, to which each node adds a second, is left out, and the others run.
    """
    deadline = time.monotonic() + timeout_s + len(chassis)
    nodes = [
        _Node(programs, node_chassis, southbound[node_chassis.zone], rundir / f"n{number}")
        for number, node_chassis in enumerate(chassis)
    ]
    if nodes:
        nodes[-1].require_short()
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        with ThreadPoolExecutor(max_workers=parallel or os.cpu_count() or 1) as pool:
            list(pool.map(lambda node: node.attempt(node.start, deadline), nodes))
            for _ in range(_BARRIERS):
                _confirm(programs, nodes, deadline)
                list(pool.map(lambda node: node.attempt(node.reconfigured, deadline), nodes))
            list(pool.map(lambda node: node.attempt(node.look, deadline), nodes))
        yield Replayed(
            switches={node.chassis.node: node.switch for node in nodes if node.switch},
            failures={node.chassis.node: node.failure for node in nodes if node.failure},
        )


def confirm(programs: Programs, switches: Sequence[Switch], southbound: Path) -> None:
    """Return when the controllers of these switches, of one zone, have installed what is known.

    For whoever changed the southbound database of a running replay. EngineError when they do not.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    names = {switch.chassis.name for switch in switches}
    number = _ask(programs, southbound, deadline)
    while names := _late(programs, southbound, names, number, deadline):
        if time.monotonic() > deadline:
            raise EngineError(f"{southbound}: flows were not installed in time")


def transact(
    programs: Programs, socket: Path, schema: str, operations: Sequence[Json], *, timeout_s: float
) -> list[Json]:
    """Run one transaction (RFC 7047, 4.1.3) at a served database and return its results."""
    argv = programs.argv(
        "ovsdb-client",
        f"--timeout={max(int(timeout_s), 1)}",
        "transact",
        f"unix:{socket}",
        json.dumps([schema, *operations]),
    )
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise EngineError(f"{socket}: {_short(done.stderr)}")
    results: list[Any] = json.loads(done.stdout)
    for result in results:
        if result is not None and "error" in result:
            raise EngineError(f"{socket}: {result['error']}: {result.get('details', '')}")
    return results


def _confirm(programs: Programs, nodes: Sequence["_Node"], deadline: float) -> None:
    """Wait until the nodes' controllers have installed what they know; who does not has failed."""
    by_database: dict[Path, list[_Node]] = {}
    for node in nodes:
        if not node.failure:
            by_database.setdefault(node.southbound, []).append(node)
    for southbound, there in by_database.items():
        _confirm_at(programs, southbound, there, deadline)


def _confirm_at(
    programs: Programs, southbound: Path, nodes: Sequence["_Node"], deadline: float
) -> None:
    """Wait for the controllers of the nodes that have one southbound database."""
    waiting = nodes
    try:
        number = _ask(programs, southbound, deadline)
        while waiting:
            names = {node.chassis.name for node in waiting}
            late = _late(programs, southbound, names, number, deadline)
            waiting = [node for node in waiting if node.chassis.name in late]
            for node in waiting:
                node.give_up(deadline)
            waiting = [node for node in waiting if not node.failure]
    except EngineError as error:
        for node in waiting:
            node.fail(error)


def _ask(programs: Programs, southbound: Path, deadline: float) -> int:
    """Ask for a confirmation, and return its number.

    ovn-controller copies `SB_Global.nb_cfg` to its row of `Chassis_Private` when the switch has
    acknowledged every flow made of what it knew (ovn-sb(5)).
    """
    everywhere: list[Any] = []
    bump = {"op": "mutate", "table": "SB_Global", "where": everywhere}
    results = transact(
        programs,
        southbound,
        _SOUTHBOUND,
        [
            {**bump, "mutations": [["nb_cfg", "+=", 1]]},
            {"op": "select", "table": "SB_Global", "where": everywhere, "columns": ["nb_cfg"]},
        ],
        timeout_s=_left(deadline),
    )
    rows = results[1]["rows"]
    if not rows:
        raise EngineError(f"{southbound}: SB_Global is empty")
    return int(rows[0]["nb_cfg"])


def _late(
    programs: Programs, southbound: Path, names: Collection[str], number: int, deadline: float
) -> set[str]:
    """Wait for a confirmation of these chassis, not for long; return those that have not made it.

    EngineError when the database does not answer.
    """
    patience_s = min(_left(deadline), _PATIENCE_S)
    wait = {
        "op": "wait",
        "timeout": int(patience_s * 1000),
        "table": "Chassis_Private",
        "columns": ["nb_cfg"],
        "until": "==",
        "rows": [{"nb_cfg": number}],
    }
    waits = [{**wait, "where": [["name", "==", name]]} for name in sorted(names)]
    with contextlib.suppress(EngineError):
        for start in range(0, len(waits), _WAITS_AT_A_TIME):
            some = waits[start : start + _WAITS_AT_A_TIME]
            transact(programs, southbound, _SOUTHBOUND, some, timeout_s=patience_s + 1)
        return set()
    select = {"op": "select", "table": "Chassis_Private", "columns": ["name", "nb_cfg"]}
    query = [{**select, "where": [["nb_cfg", ">=", number]]}]
    [result] = transact(programs, southbound, _SOUTHBOUND, query, timeout_s=_left(deadline))
    return set(names) - {row["name"] for row in result["rows"]}


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 1.0)


@dataclass(slots=True)
class _Node:
    """One node's three daemons; a context that starts nothing until `start`."""

    programs: SchemaPrograms
    chassis: Chassis
    southbound: Path
    rundir: Path
    switch: Switch | None = None
    failure: str = ""
    """Why the node has no switch."""
    _keeper: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        running, self._keeper = self._keeper, None
        if running is not None:
            keeper.end(running)

    def require_short(self) -> None:
        """Raise EngineError when the sockets' paths are too long, which is no fault of a node."""
        longest = _CONTROLLER.replace("*", str(_LARGEST_PID))
        if len(os.fsencode(self._path(longest))) > _SOCKET_PATH_BYTES:
            raise EngineError(
                f"{self.rundir} is too long for the path of a Unix socket; set TMPDIR to a "
                "shorter directory"
            )

    def attempt(self, step: Callable[[float], None], deadline: float) -> None:
        """Do a step of the start, unless one has failed: what goes wrong is this node's alone."""
        if self.failure:
            return
        try:
            step(deadline)
        except (EngineError, OSError, subprocess.SubprocessError, *_UNREADABLE) as error:
            scratch.require_room(error)
            self.fail(error)

    def fail(self, error: Exception | str) -> None:
        """Do without this node."""
        text = str(error) if isinstance(error, (EngineError, OSError, str)) else repr(error)
        self.failure = self.complaint() or text
        self.switch = None
        self._end()

    def give_up(self, deadline: float) -> None:
        """Fail if one of the daemons has died, or time is up."""
        if (complaint := self.complaint()) or time.monotonic() > deadline:
            self.fail(complaint or "its flows were not installed in time")

    def start(self, deadline: float) -> None:
        """Start the daemons and return when the switch has its ports."""
        self.rundir.mkdir(parents=True)
        self._create()
        sequence = [
            ("ovsdb-server", "db.sock", self._server()),
            ("ovs-vswitchd", "vs.ctl", self._vswitchd()),
            ("ovn-controller", _CONTROLLER, self._controller()),
        ]
        daemons = [
            {"argv": argv, "ready": str(self._path(ready)), "log": str(self._path(f"{name}.log"))}
            for name, ready, argv in sequence
        ]
        self._keeper = keeper.launch(daemons, self.programs.environment(self.rundir))
        while self._controller_socket() is None:
            complaint = self.complaint()
            if complaint or time.monotonic() > deadline:
                raise EngineError(complaint or "it did not start in time")
            time.sleep(0.005)
        self._reconfigured(1, deadline)

    def complaint(self) -> str:
        """Return what the daemons' logs end with if one of them has died; else nothing."""
        if self._keeper is None or self._keeper.poll() is None:
            return ""
        logs = [
            f"{path.stem}: {_short(path.read_text(errors='replace'))}"
            for path in sorted(self.rundir.glob("*.log"))
        ]
        return "; ".join(logs)

    def reconfigured(self, deadline: float) -> None:
        """Return when ovs-vswitchd has done what the switch's database says by now."""
        mutate = {"op": "mutate", "table": "Open_vSwitch", "where": []}
        select = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}
        results = self._transact(
            [{**mutate, "mutations": [["next_cfg", "+=", 1]]}, select], deadline
        )
        self._reconfigured(results[1]["rows"][0]["next_cfg"], deadline)

    def _reconfigured(self, number: int, deadline: float) -> None:
        wait = {
            "op": "wait",
            "timeout": int(_left(deadline) * 1000),
            "table": "Open_vSwitch",
            "where": [],
            "columns": ["cur_cfg"],
            "until": "==",
            "rows": [{"cur_cfg": number}],
        }
        self._transact([wait], deadline)

    def look(self, deadline: float) -> None:
        """Read the switch's ports, and have it end traces where a real one leaves the node."""
        features = ("dpif/set-dp-features", BRIDGE, "tnl_push_pop", "false")
        argv = self.programs.argv("ovs-appctl", "-t", str(self._path("vs.ctl")), *features)
        done = subprocess.run(  # noqa: S603 - our own words
            argv, capture_output=True, text=True, check=False, timeout=_left(deadline)
        )
        if done.returncode:
            raise EngineError(_short(done.stderr))
        bare = Switch(
            chassis=self.chassis,
            vswitchd=self._path("vs.ctl"),
            controller=self._controller_socket() or self._path(_CONTROLLER),
            database=self._path("db.sock"),
        )
        self.switch = interfaces(self.programs, bare)

    def _transact(self, operations: Sequence[Json], deadline: float) -> list[Json]:
        socket = self._path("db.sock")
        return transact(
            self.programs, socket, "Open_vSwitch", operations, timeout_s=_left(deadline)
        )

    def _path(self, name: str) -> Path:
        return self.rundir / name

    def _create(self) -> None:
        """Make the switch's database: its bridges and interfaces, and who the chassis is."""
        database = str(self._path("conf.db"))
        schema = str(self.programs.schema("vswitch.ovsschema"))
        self._tool("create", database, schema)
        for operations in transactions(self.chassis, self.southbound, self.rundir):
            self._tool("transact", database, json.dumps(["Open_vSwitch", *operations]))

    def _tool(self, *arguments: str) -> None:
        argv = self.programs.argv("ovsdb-tool", *arguments)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise EngineError(f"its database cannot be made: {_short(done.stderr)}")
        results = json.loads(done.stdout) if arguments[0] == "transact" else []
        for result in results:
            if result is not None and "error" in result:
                reason = f"{result['error']}: {result.get('details', '')}"
                raise EngineError(f"its database cannot be made: {reason}")

    def _server(self) -> tuple[str, ...]:
        return self.programs.argv(
            "ovsdb-server",
            f"--remote=punix:{self._path('db.sock')}",
            f"--unixctl={self._path('db.ctl')}",
            "-vsyslog:off",
            str(self._path("conf.db")),
        )

    def _vswitchd(self) -> tuple[str, ...]:
        return self.programs.argv(
            "ovs-vswitchd",
            f"unix:{self._path('db.sock')}",
            f"--unixctl={self._path('vs.ctl')}",
            "--enable-dummy=system",
            "--disable-system",
            "--disable-system-route",
            "-vsyslog:off",
        )

    def _controller(self) -> tuple[str, ...]:
        return self.programs.argv(
            "ovn-controller",
            f"unix:{self._path('db.sock')}",
            "-vsyslog:off",
        )

    def _controller_socket(self) -> Path | None:
        return next(self.rundir.glob(_CONTROLLER), None)


def interfaces(programs: Programs, switch: Switch) -> Switch:
    """Return `switch` with its ports as they are now."""
    rows = transact(programs, switch.database, "Open_vSwitch", ports.QUERY, timeout_s=30)
    return ports.with_ports(switch, rows)


def _short(text: str) -> str:
    return " ".join(text.split())[-_SHOWN:] or "no reason given"
