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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from audit.errors import EngineError
from audit.model.datapath import Chassis, Switch
from audit.model.engine import Programs, SchemaPrograms
from audit.replay import keeper, ports
from audit.replay.configuration import BRIDGE, Json, configuration

START_TIMEOUT_S = 120.0
_BARRIERS = 3
"""How often the controllers are asked to confirm. The first confirmation covers the ports that
were there at the start; by the second the switch has the tunnels and patch ports that the
controllers made; the third covers what came between those two databases' notifications."""
_CONTROLLER = "ovn-controller.*.ctl"
"""ovn-controller's unixctl socket, named by its process id; 23.03 cannot be told another."""
_SHOWN = 300
_SOCKET_PATH_BYTES = 107


@contextlib.contextmanager
def replay(
    programs: SchemaPrograms,
    chassis: Sequence[Chassis],
    southbound: Mapping[str, Path],
    rundir: Path,
    *,
    parallel: int | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Mapping[str, Switch]]:
    """Run the switches of `chassis` and yield them by node, their flows installed.

    `southbound` maps zones to the sockets their databases are served on. `rundir` is to be short,
    as sockets are made below it. EngineError when a node does not start in `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(_Node(programs, one, southbound[one.zone], rundir / f"n{number}"))
            for number, one in enumerate(chassis)
        ]
        with ThreadPoolExecutor(max_workers=parallel or os.cpu_count() or 1) as pool:
            list(pool.map(lambda node: node.start(deadline), nodes))
            for _ in range(_BARRIERS):
                _confirm(programs, nodes, deadline)
                list(pool.map(lambda node: node.reconfigured(deadline), nodes))
            switches = list(pool.map(lambda node: node.switch(deadline), nodes))
        yield {switch.node: switch for switch in switches}


def confirm(programs: Programs, switches: Sequence[Switch], southbound: Path) -> None:
    """Return when the controllers of these switches, of one zone, have installed what is known.

    For whoever changed the southbound database of a running replay.
    """
    chassis = [switch.chassis for switch in switches]
    _barrier(programs, chassis, southbound, time.monotonic() + START_TIMEOUT_S)


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
    by_database: dict[Path, list[Chassis]] = {}
    for node in nodes:
        by_database.setdefault(node.southbound, []).append(node.chassis)
    for southbound, chassis in by_database.items():
        try:
            _barrier(programs, chassis, southbound, deadline)
        except EngineError as error:
            dead = next((node.complaint() for node in nodes if node.complaint()), str(error))
            raise EngineError(f"flows were not installed in time: {dead}") from error


def _barrier(
    programs: Programs, chassis: Sequence[Chassis], southbound: Path, deadline: float
) -> None:
    """Ask for a confirmation, and wait for all of them.

    ovn-controller copies `SB_Global.nb_cfg` to its row of `Chassis_Private` when the switch has
    acknowledged every flow made of what it knew (ovn-sb(5)).
    """
    everywhere: list[Any] = []
    name = "OVN_Southbound"
    bump = {"op": "mutate", "table": "SB_Global", "where": everywhere}
    results = transact(
        programs,
        southbound,
        name,
        [
            {**bump, "mutations": [["nb_cfg", "+=", 1]]},
            {"op": "select", "table": "SB_Global", "where": everywhere, "columns": ["nb_cfg"]},
        ],
        timeout_s=_left(deadline),
    )
    number = results[1]["rows"][0]["nb_cfg"]
    timeout_s = _left(deadline)
    waits = [
        {
            "op": "wait",
            "timeout": int(timeout_s * 1000),
            "table": "Chassis_Private",
            "where": [["name", "==", one.name]],
            "columns": ["nb_cfg"],
            "until": "==",
            "rows": [{"nb_cfg": number}],
        }
        for one in chassis
    ]
    transact(programs, southbound, name, waits, timeout_s=timeout_s + 1)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 1.0)


@dataclass(slots=True)
class _Node:
    """One node's three daemons; a context that starts nothing until `start`."""

    programs: SchemaPrograms
    chassis: Chassis
    southbound: Path
    rundir: Path
    _keeper: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeper is not None:
            keeper.end(self._keeper)

    def start(self, deadline: float) -> None:
        """Start the daemons and return when the switch has its ports."""
        self.rundir.mkdir(parents=True)
        if len(os.fsencode(self._path("br-int.mgmt"))) > _SOCKET_PATH_BYTES:
            raise EngineError(
                f"{self.rundir} is too long for the path of a Unix socket; set TMPDIR to a "
                "shorter directory"
            )
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
                raise EngineError(f"node {self.chassis.node} did not start: {complaint}")
            time.sleep(0.005)
        self._reconfigured(1, deadline)

    def complaint(self) -> str:
        """Return what the daemons' logs end with if one of them has died; else nothing."""
        if self._keeper is None or self._keeper.poll() is None:
            return ""
        said = [
            f"{path.stem}: {_short(path.read_text(errors='replace'))}"
            for path in sorted(self.rundir.glob("*.log"))
        ]
        return f"{self.chassis.node}: {'; '.join(said)}"

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

    def switch(self, deadline: float) -> Switch:
        """Return the switch with its ports, told to end traces where a real one leaves the node.

        EngineError when an interface was not bound.
        """
        features = ("dpif/set-dp-features", BRIDGE, "tnl_push_pop", "false")
        argv = self.programs.argv("ovs-appctl", "-t", str(self._path("vs.ctl")), *features)
        done = subprocess.run(  # noqa: S603 - our own words
            argv, capture_output=True, text=True, check=False, timeout=_left(deadline)
        )
        if done.returncode:
            raise EngineError(f"node {self.chassis.node}: {_short(done.stderr)}")
        bare = Switch(
            chassis=self.chassis,
            vswitchd=self._path("vs.ctl"),
            controller=self._controller_socket() or self._path(_CONTROLLER),
            database=self._path("db.sock"),
        )
        return interfaces(self.programs, bare)

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
        rows = json.dumps(
            ["Open_vSwitch", *configuration(self.chassis, self.southbound, self.rundir)]
        )
        for arguments in (("create", database, schema), ("transact", database, rows)):
            argv = self.programs.argv("ovsdb-tool", *arguments)
            done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode or '"error"' in done.stdout:
                raise EngineError(f"{database}: {_short(done.stderr + done.stdout)}")

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
    found = transact(programs, switch.database, "Open_vSwitch", ports.QUERY, timeout_s=30)
    return ports.with_ports(switch, found)


def _short(text: str) -> str:
    return " ".join(text.split())[-_SHOWN:] or "no reason given"
