"""How the report of a run behaves in a browser: `python -m bench.report RUN` (or a report.html).

The run is rendered in a process of its own, whose CPU time and memory are said. The page is then
opened in Chromium and used as a reader would, while the browser's own tracing is on. Of each act
are said, of the thread that runs the page: the longest task in CPU time (`tdur`: what the page
costs, whatever else the machine does) and in wall time, and the longest that a frame was late.

Memory is what the kernel counts as the renderer's alone (private, clean and dirty): code that all
of Chromium's processes share is in no page's bill. The page's own part is beside it: the same of
an empty page taken away. The most of all acts is said, and what is left when garbage is collected.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
RENDER = """
import resource, sys
from pathlib import Path
from audit.commands.report import write_report
write_report(Path(sys.argv[1]), out=Path(sys.argv[2]).parent)
own = resource.getrusage(resource.RUSAGE_SELF)
print(f"{own.ru_utime + own.ru_stime:.0f} s of CPU time, {own.ru_maxrss // 1024} MiB")
"""
CATEGORIES = ("devtools.timeline", "toplevel", "__metadata")
LONG_MS = 50
FRAMES = """() => {
    const at = window.framesAt = [];
    const tick = (t) => { at.push(t); if (window.framesAt === at) requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
}"""
TAKE_FRAMES = "() => { const at = window.framesAt; window.framesAt = null; return at; }"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an act took of the page's thread, in milliseconds."""

    frames: int
    late: float
    """The longest time between two frames."""
    cpu: float
    wall: float
    """The longest task."""
    over: int
    """Tasks of more than LONG_MS of CPU time."""

    def __str__(self) -> str:
        said = f"longest task {self.cpu:3.0f} ms CPU, {self.wall:3.0f} ms wall; {self.over} over"
        return f"{said} {LONG_MS} ms; {self.frames} frames, the latest after {self.late:.0f} ms"


def main() -> None:
    """Render and measure the run, or measure the report, named on the command line."""
    named = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="audit-bench-") as scratch:
        page = named if named.suffix == ".html" else render(named, Path(scratch) / "report.html")
        print(f"file: {page.stat().st_size / 1e6:.1f} MB")
        measure(page.resolve())


def render(run: Path, out: Path) -> Path:
    """Render a run and say what that took."""
    began = time.monotonic()
    argv = [sys.executable, "-c", RENDER, str(run), str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=1800)  # noqa: S603
    print(f"rendered: {time.monotonic() - began:.0f} s, {done.stdout.strip()}")
    return out


def measure(report: Path) -> None:
    """Open a report, use it, and print what the browser measured."""
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(500)
        empty = private()
        print(f"opening: {traced(session, page, opening(report))}")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"first paint: {paint:.0f} ms")
        most = private()
        for name, act in ACTS.items():
            print(f"{name}: {traced(session, page, act)}", flush=True)
            most = max(most, private())
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(1000)
        heap = session.send("Runtime.getHeapUsage")
        own = (heap["usedSize"] + heap.get("backingStorageSize", 0)) / 1e6
        print(
            f"memory of the renderer alone: {most:.0f} MB at most, {private():.0f} MB without "
            f"garbage (an empty page: {empty:.0f} MB); of it the script's objects {own:.0f} MB"
        )
        browser.close()


def traced(session: CDPSession, page: Page, act: Callable[[Page], None]) -> Cost:
    """Do something while the browser traces; return what its main thread and its frames took."""
    events: list[dict[str, Any]] = []
    finished: list[bool] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: finished.append(True))
    session.send("Tracing.start", {"traceConfig": {"includedCategories": list(CATEGORIES)}})
    page.evaluate(FRAMES)
    act(page)
    frames = page.evaluate(TAKE_FRAMES) or []
    session.send("Tracing.end")
    while not finished:
        page.wait_for_timeout(50)
    tasks = _tasks(events)
    cpu = [event.get("tdur", 0) / 1000 for event in tasks]
    return Cost(
        frames=len(frames),
        late=max((after - before for before, after in pairwise(frames)), default=0),
        cpu=max(cpu, default=0),
        wall=max((event.get("dur", 0) / 1000 for event in tasks), default=0),
        over=sum(taken > LONG_MS for taken in cpu),
    )


def _tasks(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the tasks of the renderers' main threads."""
    events = list(events)
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return [
        event
        for event in events
        if (event["pid"], event["tid"]) in threads
        and event["ph"] == "X"
        and event["name"] in ("RunTask", "ThreadControllerImpl::RunTask")
    ]


def opening(report: Path) -> Callable[[Page], None]:
    """Return what opens a report and waits until its map is there."""

    def act(page: Page) -> None:
        page.goto(report.as_uri())
        page.evaluate("window.auditReport.ready")
        settle(page)

    return act


def go(fragment: str) -> Callable[[Page], None]:
    """Return what opens a view and waits until it is drawn."""

    def act(page: Page) -> None:
        page.evaluate("fragment => { location.hash = fragment; }", fragment)
        settle(page)

    return act


def enter(page: Page) -> None:
    """Go one level down, at the cursor."""
    page.get_by_test_id("heatmap").press("Enter")
    settle(page)


def back(page: Page) -> None:
    """Go one level up."""
    page.get_by_test_id("heatmap").press("Escape")
    settle(page)


def settle(page: Page) -> None:
    """Wait until nothing is being drawn."""
    page.wait_for_timeout(700)
    # Not wait_for_function: it evaluates text, which the page's policy forbids.
    while page.evaluate("window.auditReport.busy()"):
        page.wait_for_timeout(50)


def pan(page: Page) -> None:
    """Scroll down and across, a step a frame."""
    page.evaluate(
        """() => new Promise((done) => {
            const map = document.getElementById("scroller");
            let left = 120;
            const step = () => {
                map.scrollBy(37, 61);
                left -= 1;
                if (left) requestAnimationFrame(step); else done();
            };
            requestAnimationFrame(step);
        })"""
    )
    settle(page)


def point(page: Page) -> None:
    """Move the pointer over the map."""
    box = page.get_by_test_id("heatmap").bounding_box()
    if box is None:
        return
    for step in range(40):
        page.mouse.move(box["x"] + 200 + 15 * step, box["y"] + 200 + 9 * step)
        page.wait_for_timeout(20)


def zoom(page: Page) -> None:
    """Zoom in at the pointer, step by step, and out again."""
    box = page.get_by_test_id("heatmap").bounding_box()
    if box is None:
        return
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Control")
    for step in [-100] * 20 + [100] * 20:
        page.mouse.wheel(0, step)
        page.wait_for_timeout(40)
    page.keyboard.up("Control")
    settle(page)


def whole(page: Page) -> None:
    """Show the whole map."""
    page.get_by_test_id("whole").click()
    settle(page)


def choose_policy(page: Page) -> None:
    """Choose the policy that blocks most."""
    page.locator("#policy-rows button").first.click()
    settle(page)


def find(page: Page) -> None:
    """Type what some pods and policies are called, letter by letter."""
    page.get_by_test_id("search").press_sequentially("team-1", delay=60)
    settle(page)
    page.get_by_test_id("search").press("Escape")


ACTS: dict[str, Callable[[Page], None]] = {
    "pan over namespaces": pan,
    "point at namespaces": point,
    "whole map of namespaces": whole,
    "open a pair of namespaces": enter,
    "open a pair of workloads": enter,
    "open a cell": enter,
    "back to the pods": back,
    "back to the workloads": back,
    "back to the namespaces": back,
    "all workloads": go("ns=*,*&level=workloads"),
    "pan over workloads": pan,
    "point at workloads": point,
    "whole map of workloads": whole,
    "zoom in and out of workloads": zoom,
    "all pods": go("ns=*,*"),
    "pan over pods": pan,
    "point at pods": point,
    "whole map of pods": whole,
    "zoom in and out of pods": zoom,
    "only unproven": go("ns=*,*&only=unproven"),
    "by similarity": go("ns=*,*&order=similarity"),
    "one port": go("ns=*,*&port=tcp/80"),
    "namespaces by exposure": go("order=exposure"),
    "back to all namespaces": go(""),
    "choose a policy": choose_policy,
    "choose none": go(""),
    "find": find,
}


def private() -> float:
    """Return the memory that only the renderer that shows the page has, in MB, from the kernel."""
    most = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes()
            if b"--type=renderer" in argv and CHROMIUM.rpartition("/")[2].encode() in argv:
                rollup = (process / "smaps_rollup").read_text()
                found = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", rollup, re.MULTILINE)
                most = max(most, sum(map(int, found)))
        except OSError:
            continue
    return most * 1024 / 1e6


if __name__ == "__main__":
    main()
