"""ovn-audit in a pod of OVN-Kubernetes: one ovn-trace daemon, asked over standard input and output.

    python3 -I -S -c PROGRAM trace SECONDS SELECT STATE*COUNT...
    python3 -I -S -c PROGRAM version SECONDS

They are its unixctl connection, after one reply of our own; `version` says what it would be. All
ends when standard input does, after SECONDS at the latest, and whichever process here is killed.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

OVN = os.environ.get("OVN_RUNDIR") or "/var/run/ovn"
LOG = 1 << 20


def adopt() -> None:
    """Have orphans below us become our children: PR_SET_CHILD_SUBREAPER, prctl(2)."""
    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):
        raise OSError("orphans cannot be adopted")


def end() -> None:
    """Kill all below us, and bury them."""
    while True:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as stat:
                    if int(stat.read().rpartition(")")[2].split()[1]) == os.getpid():
                        os.kill(int(name), signal.SIGKILL)
            except OSError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def keep(alive: int, report: int, seconds: int, choice: str, *states: str) -> None:
    """Run a daemon until our parent or the time is gone, and leave nothing of it."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    directory = ""
    try:
        adopt()
        directory = tempfile.mkdtemp(prefix="ovn-audit-")
        gate = socket.socket(socket.AF_UNIX)
        gate.bind(f"{directory}/gate")
        gate.listen(1)
        threading.Thread(target=admit, args=(gate, f"{directory}/ctl"), daemon=True).start()
        argv = ["ovn-trace", f"--db=unix:{directory}/gate", "--no-leader-only"]
        argv += ["--detach", "--no-chdir", "-vsyslog:off", f"--unixctl={directory}/ctl"]
        argv += [f"--select-id={choice}"] * (choice != "0")
        for state, count in (text.split("*") for text in states):
            argv += [f"--ct={state}"] * int(count)
        log = tempfile.TemporaryFile()
        child = subprocess.Popen(argv, stdin=null, stdout=null, stderr=log)
        while child.poll() is None and not select.select([alive], [], [], 0.01)[0]:
            pass
        log.seek(0)
        text = log.read(LOG).decode("utf-8", "replace")
        reply = ["" if child.returncode else directory, text]
    except OSError as error:
        reply = ["", str(error)]
    try:
        with os.fdopen(report, "w") as answer:
            json.dump(reply, answer)
        select.select([alive], [], [], seconds if reply[0] else 0)
    finally:
        end()
        shutil.rmtree(directory, ignore_errors=True)


def admit(gate: socket.socket, control: str) -> None:
    """Let a daemon at its database when it was told to leave no warning out."""
    with gate.accept()[0] as daemon, connect(control) as server:
        server.sendall(b'{"id":0,"method":"vlog/disable-rate-limit","params":[]}')
        server.recv(1 << 12)
        relay(f"{OVN}/ovnsb_db.sock", daemon.fileno(), daemon.fileno())


def connect(path: str) -> socket.socket:
    """Connect to a server's socket."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    return server


def relay(path: str, source: int, sink: int) -> None:
    """Hand on bytes both ways until either side ends."""
    server = connect(path)
    while True:
        for ready in select.select([source, server.fileno()], [], [])[0]:
            data = os.read(ready, 1 << 18)
            if not data:
                return
            if ready == source:
                server.sendall(data)
            else:
                write(sink, data)


def write(sink: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(sink, data) :]


def serve(path: str, text: str) -> None:
    """Say that the server can be asked, or why not; then let it be asked."""
    error = None if path else text[-300:].strip() or "no reason given"
    write(1, json.dumps({"id": 0, "result": text, "error": error}).encode())
    if path:
        relay(path, 0, 1)


def trace(seconds: int, *daemon: str) -> None:
    """Have a keeper run a daemon, and serve it."""
    alive, ours = os.pipe()
    listen, report = os.pipe()
    adopt()
    keeper = os.fork()
    if not keeper:
        os.close(ours)
        try:
            keep(alive, report, seconds, *daemon)
        finally:
            os._exit(0)
    directory = ""
    try:
        os.close(alive)
        os.close(report)
        # Before the daemon has read its database nobody asks: input can only end.
        if 0 not in select.select([0, listen], [], [])[0]:
            with os.fdopen(listen) as reply:
                directory, text = json.loads(reply.read() or '["", "it was cut off"]')
            serve(directory and f"{directory}/ctl", text)
    finally:
        os.close(ours)
        os.waitpid(keeper, 0)
        end()
        shutil.rmtree(directory, ignore_errors=True)


def main(mode: str, seconds: str, *daemon: str) -> None:
    """Do what is asked, for so long at most."""
    signal.alarm(int(seconds))
    if mode == "trace":
        trace(int(seconds), *daemon)
    else:
        os.execlp("ovn-trace", "ovn-trace", "--version")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(*sys.argv[1:])
