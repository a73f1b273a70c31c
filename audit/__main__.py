"""The `audit` command, from its first moment on.

Loading a command takes a second and some hundred megabytes. What ends it meanwhile is told as
later: in a sentence, and by an exit code that is not that of findings.
"""

import atexit
import os
import resource
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

COULD_NOT_RUN, INTERRUPTED = 4, 130
"""As in `audit.errors.ExitCode`, which is loaded later."""
_LEAST_BYTES = 768 << 20
"""Address space with less of which libraries end the process themselves, or wait for ever for a
thread that could not be started: seen up to 510 MiB, on two CPUs."""
_MEMORY = "there is not enough memory to load it: give it 1 GiB of address space (ulimit -v)"


def main() -> None:
    """Load the command line and run it; nothing has been begun until then."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    from audit import supervise  # noqa: PLC0415 - until here Python ends signals in a traceback

    if supervise.wanted(sys.argv[1:]):
        supervise.enter()
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY and allowed < _LEAST_BYTES:
        _end(COULD_NOT_RUN, _MEMORY)
    try:
        from audit.cli.main import load  # noqa: PLC0415 - it is what is watched
        from audit.cli.main import main as command  # noqa: PLC0415 - as above

        load(sys.argv[1:])
    except MemoryError:
        _end(COULD_NOT_RUN, _MEMORY)
    except Exception as error:  # noqa: BLE001 - whatever a library ends in
        text = " ".join(str(error).split()) or type(error).__name__
        hint = "is it installed whole, with the libraries it needs, and is there 1 GiB of memory?"
        _end(COULD_NOT_RUN, f"it cannot be loaded: {text}; {hint}")
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command()
    except SystemExit as ended:
        _leave(ended.code)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    """End at once: a library that is being loaded might make something else of an exception."""
    _end(INTERRUPTED, "interrupted; nothing was begun")


def _end(code: int, text: str) -> NoReturn:
    os.write(sys.stderr.fileno(), f"audit: {text}\n".encode())
    tell = getattr(sys.modules.get("audit.supervise"), "ending", None)
    if tell is not None:  # else it is being loaded, and there is no parent yet to tell
        tell()
    os._exit(code)  # without what libraries that are half loaded do at an exit


def _leave(code: object) -> NoReturn:
    """End with this code whatever libraries do last: Ray's may crash when it was interrupted."""
    from audit import supervise  # noqa: PLC0415 - it is loaded by now

    atexit._run_exitfuncs()  # noqa: SLF001 - what is registered there ends processes
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    supervise.ending()
    os._exit(int(code) if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
