"""How the report of a run behaves in a browser: `python -m bench.report RUN`.

The run is rendered in a process of its own, whose memory and time are said; the page is opened in
Chromium and driven as a reader would, and the browser's own tracing says what frames took.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
RENDER = """
import resource, sys
from audit.report.render import render_html
from audit.store.reader import stream_run
open(sys.argv[2], "w", encoding="utf-8").write(render_html(stream_run(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
CATEGORIES = "devtools.timeline,disabled-by-default-devtools.timeline"
LONG_MS = 50


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
    print(f"rendered: {time.monotonic() - began:.0f} s, {done.stdout.strip()} MiB")
    return out


def measure(report: Path) -> None:
    """Open a report, use it, and print what the browser measured."""
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.monotonic()
        page.goto(report.as_uri())
        page.evaluate("window.auditReport.ready")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"first paint: {paint:.0f} ms; map ready: {1000 * (time.monotonic() - began):.0f} ms")
        session = page.context.new_cdp_session(page)
        for name, act in ACTS.items():
            print(f"{name}: {traced(session, page, act)}")
        before = memory()
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(500)
        print(f"memory of the renderer: {before} MB, {memory()} MB without garbage")
        browser.close()


def traced(session: CDPSession, page: Page, act: Callable[[Page], None]) -> str:
    """Do something while the browser traces; say what its main thread and its frames took."""
    events: list[dict[str, Any]] = []
    finished: list[bool] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: finished.append(True))
    session.send("Tracing.start", {"traceConfig": {"includedCategories": CATEGORIES.split(",")}})
    stamps = page.evaluate_handle(
        "(() => { const at = []; const tick = (t) => { at.push(t); if (at[0] !== null)"
        " requestAnimationFrame(tick); }; requestAnimationFrame(tick); return at; })()"
    )
    act(page)
    frames = stamps.evaluate("(at) => { const all = at.slice(); at[0] = null; return all; }")
    session.send("Tracing.end")
    while not finished:
        page.wait_for_timeout(50)
    tasks = [
        e.get("dur", 0) / 1000 for e in events if e["name"] in ("RunTask", "FireAnimationFrame")
    ]
    gaps = [after - before for before, after in pairwise(frames)]
    long = [task for task in tasks if task > LONG_MS]
    return (
        f"{len(frames)} frames, longest gap {max(gaps, default=0):.0f} ms, longest task "
        f"{max(tasks, default=0):.0f} ms, {len(long)} tasks over {LONG_MS} ms"
    )


def go(fragment: str) -> Callable[[Page], None]:
    """Return what opens a view and waits until it is drawn."""

    def act(page: Page) -> None:
        page.evaluate("fragment => { location.hash = fragment; }", fragment)
        settle(page)

    return act


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


ACTS: dict[str, Callable[[Page], None]] = {
    "pan over namespaces": pan,
    "whole map of namespaces": whole,
    "all workloads": go("ns=*,*&level=workloads"),
    "pan over workloads": pan,
    "all pods": go("ns=*,*"),
    "pan over pods": pan,
    "whole map of pods": whole,
    "zoom in and out": zoom,
    "only unproven": go("ns=*,*&only=unproven"),
    "by similarity": go("ns=*,*&order=similarity"),
    "back to namespaces": go(""),
}


def memory() -> int:
    """Return the memory of the renderer that shows the report, in MB, from the kernel."""
    most = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes()
            if b"--type=renderer" in argv and CHROMIUM.rpartition("/")[2].encode() in argv:
                found = re.search(
                    r"^Pss:\s+(\d+)", (process / "smaps_rollup").read_text(), re.MULTILINE
                )
                most = max(most, int(found[1]) // 1024 if found else 0)
        except OSError:
            continue
    return most


if __name__ == "__main__":
    main()
