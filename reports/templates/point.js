// Pointing at the map, by mouse and by keyboard: moving, zooming, and one step down.

import { $, clamp, el, glyph } from "./tools.js";
import { has, T } from "./data.js";
import { below, go, goBack, specOf } from "./view.js";
import { scene } from "./scene.js";
import { arrange, here, LARGEST, layout, mini, rectOf, reveal, scroller, spotAt } from "./map.js";
import { redraw } from "./draw.js";
import { describe } from "./describe.js";
import { setArriving, showPair, stacked } from "./panel.js";

// One step down, at a cell or at the head of a row or a column.
function enter(r, c) {
  const [row, column] = [scene.rows[r], scene.columns[c]];
  if (scene.level === "endpoints" && row && column) {
    setArriving(stacked.matches);
    if (scene.between(r, c).length) go({ cell: { src: row.id, dst: column.id }, at: "" });
    return;
  }
  if (!has("cells")) {
    if (row && column) showPair(r, c);
    return;
  }
  const change = {
    rows: specOf(scene.level, row),
    columns: specOf(scene.level, column),
    level: below(scene.level),
    cell: null,
    at: "",
  };
  if (scene.level === "groups" && row && column && [row, column].some(many))
    change.level = "workloads";
  go(change);
}

// Whether a namespace has a workload of several pods: else its pods are its workloads.
const many = (entry) =>
  new Set(entry.members.map((endpoint) => T.workloadOf[endpoint])).size < entry.members.length;

export function tell() {
  if (!scene.rows.length || !scene.columns.length) return;
  const { title, lines } = describe(here.cursor.r, here.cursor.c);
  $("status").textContent =
    `${title}: ${lines.map((line) => `${line.figure} ${line.text}`.trim()).join("; ") || "no cells"}`;
}

function showTooltip(spot, clientX, clientY) {
  const tooltip = $("tooltip");
  if (!spot || spot.r < 0 || spot.c < 0) {
    tooltip.hidden = true;
    return;
  }
  const { title, lines, more } = describe(spot.r, spot.c);
  tooltip.replaceChildren(
    el("b", {}, title),
    ...lines.map((line) =>
      el(
        "div",
        { class: "row" },
        glyph(line.verdict),
        el("span", {}, line.text),
        el("span", { class: "number" }, line.figure),
      ),
    ),
    more > 0 ? el("span", { class: "muted" }, `and ${more} more`) : "",
    lines.length ? "" : el("span", { class: "muted" }, "no cells"),
  );
  tooltip.hidden = false;
  const box = tooltip.getBoundingClientRect();
  const left =
    clientX + 16 + box.width > window.innerWidth ? clientX - 12 - box.width : clientX + 16;
  const top =
    clientY + 18 + box.height > window.innerHeight ? clientY - 12 - box.height : clientY + 18;
  tooltip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

function jump(event) {
  const box = mini.getBoundingClientRect();
  const { x, y, width, height, rowHead, columnHead } = layout;
  scroller.scrollTo(
    ((event.clientX - box.left) / box.width) * x[x.length - 1] - (width - rowHead) / 2,
    ((event.clientY - box.top) / box.height) * y[y.length - 1] - (height - columnHead) / 2,
  );
}

export function listenToMap() {
  scroller.addEventListener("mousemove", (event) => {
    const spot = spotAt(event.clientX, event.clientY);
    const before = here.hover;
    here.hover = spot && spot.r >= 0 && spot.c >= 0 ? spot : null;
    scroller.classList.toggle("over", spot !== null);
    showTooltip(spot, event.clientX, event.clientY);
    if (before?.r !== here.hover?.r || before?.c !== here.hover?.c) redraw();
  });
  scroller.addEventListener("mouseleave", () => {
    here.hover = null;
    showTooltip(null);
    redraw();
  });
  scroller.addEventListener("scroll", () => {
    here.hover = null;
    showTooltip(null);
    redraw();
  });
  scroller.addEventListener("click", (event) => {
    const spot = spotAt(event.clientX, event.clientY);
    if (!spot) return;
    here.cursor = { r: Math.max(0, spot.r), c: Math.max(0, spot.c) };
    showTooltip(null);
    enter(spot.r, spot.c);
    redraw();
  });
  scroller.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1.25 : 0.8, event);
    },
    { passive: false },
  );
  mini.addEventListener("pointerdown", jump);
  mini.addEventListener("pointermove", (event) => {
    if (event.buttons) jump(event);
  });
  scroller.addEventListener("keydown", (event) => {
    const page = 10;
    const moves = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      PageUp: [-page, 0],
      PageDown: [page, 0],
      Home: [0, -1e9],
      End: [0, 1e9],
    };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (moves[event.key] && scene.rows.length && scene.columns.length) {
      const [down, across] = moves[event.key];
      here.cursor = {
        r: clamp(here.cursor.r + down, 0, scene.rows.length - 1),
        c: clamp(here.cursor.c + across, 0, scene.columns.length - 1),
      };
      here.hover = null;
      reveal(here.cursor.r, here.cursor.c);
      tell();
      redraw();
    } else if (event.key === "Enter" && scene.rows.length && scene.columns.length)
      enter(here.cursor.r, here.cursor.c);
    else if (event.key === "+" || event.key === "=") zoomBy(1.3);
    else if (event.key === "-") zoomBy(1 / 1.3);
    else if (event.key === "0") zoomTo(layout.least);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape" || event.key === "Backspace") goBack();
    else if (event.key === "/") $("search").focus();
    else return;
    event.preventDefault();
    if (event.key !== "/") scroller.focus({ preventScroll: true });
  });
}

export const zoomBy = (factor, at) => zoomTo(layout.size * factor, at);

// Keeps what is under the pointer, else the cell of the cursor, where it is.
export function zoomTo(size, at) {
  const spot = (at && spotAt(at.clientX, at.clientY)) || here.cursor;
  const { r, c } = { r: Math.max(0, spot.r), c: Math.max(0, spot.c) };
  const before = rectOf(r, c);
  here.zoom = clamp(size, layout.least, LARGEST) / layout.comfortable;
  arrange();
  const after = rectOf(r, c);
  scroller.scrollBy(after.x - before.x, after.y - before.y);
  if (!at) reveal(r, c);
  redraw();
}
