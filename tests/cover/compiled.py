"""Matches as the ACLs of real switches, and the packets that are asked of them."""

import functools
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from audit.cover.matches import Terms, holds
from audit.model.packets import (
    REQUEST_SOURCE_PORT,
    ConntrackState,
    Family,
    Microflow,
    Protocol,
)
from audit.replay import databases
from audit.replay.toolchain import Toolchain
from audit.trace import microflow
from audit.trace.daemon import TraceDaemon
from audit.trace.local import LocalDaemon

PORTS = ("a", "b", "c")
GROUPS = {"g_ab": ("a", "b"), "g_c": ("c",)}
SETS = {
    "s4": ("10.0.0.1", "10.1.0.0/16"),
    "t4": ("10.0.0.2",),
    "s6": ("fd00::1", "fd01::/64"),
    "t6": ("fd00::2",),
    "empty": (),
}
ADDRESSES = {
    Family.IP4: ("10.0.0.1", "10.0.0.2", "10.1.2.3"),
    Family.IP6: ("fd00::1", "fd00::2", "fd01::3"),
}
NETWORKS = {
    Family.IP4: ("10.0.0.1", "10.0.0.2/32", "10.0.0.0/8", "10.1.9.9/255.255.0.0", "0.0.0.0/0"),
    Family.IP6: ("fd00::1", "fd00::2/128", "fd00::/8", "fd01::9/64", "::/0"),
}
NUMBERS = (1, 79, 80, 81, 443, 52887, 52888, 65535)


@dataclass(frozen=True, kw_only=True)
class Packet:
    inport: str
    outport: str
    src: str
    dst: str
    protocol: Protocol
    port: int

    @property
    def family(self) -> Family:
        return Family.of(self.src)


PACKETS = [
    Packet(inport=inport, outport=outport, src=src, dst=dst, protocol=protocol, port=port)
    for inport, outport in itertools.permutations(PORTS, 2)
    for family in Family
    for src in ADDRESSES[family]
    for dst in ADDRESSES[family]
    for protocol in Protocol
    for port in ((0,) if protocol is Protocol.ICMP else NUMBERS)
]


def met(terms: Terms, packet: Packet) -> bool:
    return holds(
        terms,
        inport=packet.inport,
        outport=packet.outport,
        ports_in_groups=GROUPS,
        src=packet.src,
        dst=packet.dst,
        address_sets=SETS,
        protocol=packet.protocol,
        port=packet.port,
    )


@contextmanager
def compiled(matched: list[str], toolchain: Toolchain) -> Iterator[TraceDaemon]:
    """Give every match a switch of its own, where it drops to-lport, and trace them.

    The ports of switch 7 are a7, b7 and c7; conntrack is on, as it is wherever ACLs allow-related.
    """
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m-")))
        sockets = {}
        for name in ("nb", "sb"):
            database, rundir = root / f"{name}.db", root / name
            rundir.mkdir()
            schema = toolchain.schema(f"ovn-{name}.ovsschema")
            subprocess.run(
                toolchain.argv("ovsdb-tool", "create", str(database), str(schema)), check=True
            )
            sockets[name] = stack.enter_context(databases.serve(toolchain, database, rundir))
        remotes = [f"--ovn{name}-db=unix:{socket}" for name, socket in sockets.items()]
        northd = subprocess.Popen(
            toolchain.argv("ovn-northd", *remotes, f"--unixctl={root / 'northd.ctl'}"),
            env={**os.environ, **toolchain.environment(root)},
            stderr=subprocess.DEVNULL,
        )
        stack.callback(northd.wait)
        stack.callback(northd.terminate)
        nbctl = ("ovn-nbctl", f"--db=unix:{sockets['nb']}", "--wait=sb", "--timeout=60")
        subprocess.run(
            toolchain.argv(*nbctl, *switches(matched)), check=True, stdout=subprocess.DEVNULL
        )
        daemon = TraceDaemon(
            functools.partial(LocalDaemon, toolchain, sockets["sb"]), state=ConntrackState.REQUEST
        )
        stack.callback(daemon.stop)
        daemon.start()
        yield daemon


def switches(matched: list[str]) -> list[str]:
    commands: list[list[str]] = []
    for name, addresses in SETS.items():
        values = ",".join(f'"{address}"' for address in addresses)
        commands.append(["create", "Address_Set", f"name={name}"])
        commands[-1] += [f"addresses={values}"] if values else []
    for number, match in enumerate(matched):
        switch = f"s{number}"
        commands.append(["ls-add", switch])
        for port in PORTS:
            commands.append(["lsp-add", switch, f"{port}{number}"])
            commands.append(["lsp-set-addresses", f"{port}{number}", mac(port, number)])
        named = re.sub(r'"([abc])"', rf'"\g<1>{number}"', match)
        commands.append(["acl-add", switch, "to-lport", "1001", named, "drop"])
        commands.append(["acl-add", switch, "to-lport", "1", "ip", "allow-related"])
    for name, ports in GROUPS.items():
        members = [f"{port}{number}" for number in range(len(matched)) for port in ports]
        commands.append(["pg-add", name, *members])
    return [word for command in commands for word in ("--", *command)][1:]


def mac(port: str, number: int) -> str:
    return f"0a:00:00:{number // 256:02x}:{number % 256:02x}:0{PORTS.index(port) + 1}"


def delivered(daemon: TraceDaemon, packet: Packet, number: int) -> bool:
    flow = Microflow(
        inport=f"{packet.inport}{number}",
        eth_src=mac(packet.inport, number),
        eth_dst=mac(packet.outport, number),
        ip_src=packet.src,
        ip_dst=packet.dst,
        protocol=packet.protocol,
        src_port=REQUEST_SOURCE_PORT,
        dst_port=packet.port,
    )
    output = daemon.trace(microflow.expression(flow))
    assert "ls_out_acl" in output, output
    return f'output to "{packet.outport}{number}"' in output
