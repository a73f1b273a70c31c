"""Runs daemons that must not outlive who asked for them: started as a script of its own.

    python -I -S keeper.py '[{"argv": […], "ready": "PATH", "log": "PATH"}, …]' < pipe

Each daemon is started when the one before it has made the socket it listens on (`ready`, a pattern:
some put their process id into the name). All of
them are killed when standard input ends, which it also does when the process at the pipe's other
end is killed, or as soon as one of them dies. They are killed by the kernel when this process is:
`ovs-vswitchd` and `ovn-controller` know no pipe to hang on, as `ovsdb-server --run` does.
"""

import contextlib
import ctypes
import glob
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1
"""prctl(2). The signal comes when the *thread* that started the child ends; this process has only
one."""
_READY_TIMEOUT_S = 60


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(argv: list[str], log_path: str) -> "subprocess.Popen[bytes]":
    with open(log_path, "ab") as log:  # noqa: PTH123 - a start without pathlib is quicker
        return subprocess.Popen(  # noqa: S603 - argv of our caller's making, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there are no threads here
        )


def _wait_for(path: str, child: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not glob.glob(path):  # noqa: PTH207 - as above
        if child.poll() is not None or time.monotonic() > deadline or _ended():
            return False
        time.sleep(0.005)
    return True


def _ended(timeout_s: float = 0.0) -> bool:
    """Say whether standard input ended: nothing is ever written to it."""
    return bool(select.select([0], [], [], timeout_s)[0])


def launch(
    daemons: Sequence[Mapping[str, object]], environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Have this script run daemons for the process that calls it, and return at once."""
    return subprocess.Popen(  # noqa: S603 - our own script and words
        (sys.executable, "-I", "-S", __file__, json.dumps(daemons)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def end(launched: "subprocess.Popen[bytes]") -> None:
    """End what was launched; return when the daemons are gone."""
    assert launched.stdin is not None  # noqa: S101 - it was given a pipe
    launched.stdin.close()
    launched.wait()


def main() -> int:
    """Start the daemons, and wait until they are to go."""
    children: list[subprocess.Popen[bytes]] = []
    try:
        for daemon in json.loads(sys.argv[1]):
            children.append(_start(daemon["argv"], daemon["log"]))
            if not _wait_for(daemon["ready"], children[-1]):
                return 1
        while all(child.poll() is None for child in children):
            if _ended(0.5):
                return 0
        return 1
    finally:
        for child in reversed(children):
            child.kill()
        for child in children:
            with contextlib.suppress(ChildProcessError):
                child.wait()


if __name__ == "__main__":
    sys.exit(main())
