"""ovn-audit in a pod of OVN-Kubernetes: its node's ovs-vswitchd, asked to trace.

    python3 -I -S -c PROGRAM SECONDS

Standard input and output are its unixctl connection, after one reply of our own, which says its
process id. Nothing but `ofproto/trace` is handed on, and only of packets that are described: one
that is given or generated would be sent, and learnt from. Nothing is started here and nothing
written. All ends when standard input does, and after SECONDS at the latest.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

OVS = os.environ.get("OVS_RUNDIR") or "/var/run/openvswitch"


def write(data: bytes) -> None:
    """Write all of it to standard output."""
    while data:
        data = data[os.write(1, data) :]


def traces(method: str, bridge: str, flow: str, *states: str) -> bool:
    """Say whether a command traces a packet through the integration bridge, and does no more."""
    described = bridge == "br-int" and "in_port=" in flow
    return method == "ofproto/trace" and described and {*states[::2]} <= {"--ct-next"}


def relay(server: socket.socket) -> None:
    """Hand on requests, each when it is whole, and answers, until either side ends."""
    request = b""
    while True:
        for ready in select.select([0, server.fileno()], [], [])[0]:
            data = server.recv(1 << 18) if ready else os.read(0, 1 << 16)
            if not data:
                return
            if ready:
                write(data)
                continue
            request += data
            try:
                call = json.loads(request)
            except ValueError:
                continue
            if not traces(call["method"], *call["params"]):
                sys.exit("refused: no trace, or more than one")
            server.sendall(json.dumps(call).encode())
            request = b""


def main(seconds: str) -> None:
    """Serve ovs-vswitchd, found as ovs-appctl(8) does, or say why not."""
    signal.alarm(int(seconds))
    server = socket.socket(socket.AF_UNIX)
    pid, error = "", None
    try:
        with open(f"{OVS}/ovs-vswitchd.pid") as file:
            pid = file.read().strip()
        server.connect(f"{OVS}/ovs-vswitchd.{pid}.ctl")
    except OSError as failure:
        error = f"ovs-vswitchd of {OVS}: {failure}"
    write(json.dumps({"id": 0, "result": pid, "error": error}).encode())
    if not error:
        relay(server)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(*sys.argv[1:])
