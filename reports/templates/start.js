// Showing a view, and starting.

import { $, all, clamp, inSlices, inTurns, moment, plain } from "./tools.js";
import { load, setData, T } from "./data.js";
import { fromHash, go, hashOf, setView, SPEC_OF, toHash, view } from "./view.js";
import { makeScene, scene, setScene } from "./scene.js";
import { forgetTiles, makeTiles, readColours, tilesToMake } from "./paint.js";
import { arrange, here, layout, rectOf, reveal, scroller, SMALLEST_DRAWN } from "./map.js";
import { chosen, drawNow, pending, redraw } from "./draw.js";
import { arrive, arriving, closePanel, setArriving, showCell, showPolicy } from "./panel.js";
import { listenToMap, tell } from "./point.js";
import { csvOf, drawCrumbs, fillSelectors, listCells, listPolicies, SELECTORS } from "./around.js";
import { listenToSearch } from "./search.js";

let drawn = "";
let turn = 0;
let shownTurn = 0;
let showing = Promise.resolve();

// Of several changes in a row only the last is shown; until then what was shown stays.
function show() {
  turn += 1;
  showing = showTurn(turn);
  return showing;
}

async function shown() {
  do await showing;
  while (shownTurn !== turn);
}

async function showTurn(mine) {
  const strange = [];
  const wantedView = fromHash(location.hash, strange);
  const wantedHash = toHash({ ...wantedView, cell: null, at: "" });
  const fresh = wantedHash !== drawn || !scene;
  const made = fresh ? await inSlices(makeScene(wantedView), () => mine === turn, moment) : scene;
  if (mine !== turn) return;
  const before = view;
  setView(wantedView);
  if (fresh) {
    setScene(made);
    forgetTiles();
    drawn = wantedHash;
    $("loading").hidden = true;
    scroller.hidden = false;
    settle(before);
    listCells(made);
  }
  shownTurn = mine;
  for (const name of SELECTORS) {
    $(name).value = name === "level" ? scene.level : view[name];
    $(`${name}-label`).classList.toggle("on", name !== "level" && $(name).value !== "");
  }
  document.body.dataset.level = scene.level;
  for (const node of all(".at-groups")) node.hidden = scene.level === "endpoints";
  for (const node of all(".at-endpoints")) node.hidden = scene.level !== "endpoints";
  $("strange").hidden = !strange.length;
  $("strange").textContent = strange.length
    ? plain(`The link names what this run does not have: ${strange.join(", ")}.`)
    : "";
  drawCrumbs();
  redraw();
  if (view.cell) await showCell();
  else if (view.policy) await showPolicy(T.byPolicy.get(view.policy));
  else closePanel();
  if (arriving) arrive();
}

// Where the cursor stands in a new scene: where it came from, else at the start.
function settle(before) {
  const where = (v) => hashOf(v, ["rows", "columns", "level", "network", "order"]);
  if (where(before) !== where(view) || !layout) {
    here.zoom = 1;
    scroller.scrollTo(0, 0);
    const from = (entries, spec) =>
      Math.max(
        0,
        entries.findIndex((entry) => spec && entry.id === spec[SPEC_OF[scene.level]]),
      );
    here.cursor =
      scene.level === "endpoints"
        ? { r: 0, c: 0 }
        : { r: from(scene.rows, before.rows), c: from(scene.columns, before.columns) };
  }
  here.cursor = {
    r: clamp(here.cursor.r, 0, Math.max(0, scene.rows.length - 1)),
    c: clamp(here.cursor.c, 0, Math.max(0, scene.columns.length - 1)),
  };
  const spot = chosen();
  if (spot) here.cursor = spot;
  here.hover = null;
  arrange();
  if (scene.rows.length && scene.columns.length) reveal(here.cursor.r, here.cursor.c);
  tell();
}

// Links within the page: what is after the `#` of the address is the map's, and is left as it is.
function listenToLinks() {
  for (const link of all(".checks a:not(.view)")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const section = $(link.getAttribute("href").slice(1));
      for (const details of all("details:not(.zones)", section)) details.open = true;
      section.scrollIntoView({ block: "start" });
      section.focus({ preventScroll: true });
    });
  }
}

// Links to views of the map: the browser changes the address, and `hashchange` shows it.
function listenToViews() {
  for (const link of all("a.view")) {
    link.addEventListener("click", (event) => {
      setArriving(true);
      if (location.hash !== new URL(link.href).hash) return;
      event.preventDefault();
      show();
    });
  }
}

async function start() {
  listenToLinks();
  if (typeof DecompressionStream === "undefined") {
    $("loading").textContent =
      "This browser cannot unpack the cells (it has no DecompressionStream). The figures and policies around are complete.";
    return;
  }
  await load();
  await moment();
  readColours();
  fillSelectors();
  listPolicies();
  window.addEventListener("hashchange", show);
  setArriving(location.hash.length > 1);
  show();
  await shown();
  listenToViews();
  listenToMap();
  listenToSearch();
  for (const link of all("[data-group]")) {
    link.addEventListener("click", () => {
      go({
        rows: { all: true },
        columns: { group: T.byGroup.get(link.dataset.group) },
        level: "workloads",
        cell: null,
        at: "",
      });
      scroller.closest(".map").scrollIntoView({ block: "nearest" }); // it stands above what was chosen
    });
  }
  new ResizeObserver(() => {
    if (scene) {
      arrange();
      redraw();
    }
  }).observe(scroller.parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    redraw();
  });
  matchMedia("print").addEventListener("change", ({ matches }) => {
    onPaper(matches);
  });
}

// On paper there is no scrolling and no folding out: the whole map, and every list open.
function onPaper(paper) {
  for (const details of all("main ~ section details")) {
    if (paper && !details.open) details.dataset.folded = "";
    if (paper || details.dataset.folded !== undefined) details.open = paper;
    if (!paper) delete details.dataset.folded;
  }
  readColours();
  arrange();
  scroller.scrollTo(0, 0);
  if (paper && layout.size < SMALLEST_DRAWN) while (tilesToMake()) makeTiles(50);
  drawNow();
  if (paper && tilesToMake()) {
    while (tilesToMake()) makeTiles(50);
    drawNow();
  }
}

// A table of hundreds of namespaces is not laid out while the page is waited for, nor all at once.
async function lateTable() {
  const rows = all("tbody tr", $("namespaces"));
  for (const row of rows) row.hidden = true;
  $("namespaces").hidden = false;
  await inTurns(rows, (some) => {
    for (const row of some) row.hidden = false;
  });
}

setData(JSON.parse($("data").textContent));
$("data").remove(); // megabytes of text, of which the parts that are needed are in the data

const ready = start()
  .finally(() => {
    lateTable();
  })
  .catch((error) => {
    $("loading").hidden = false;
    $("loading").textContent = `The cells cannot be shown: ${error.message}`;
    throw error;
  });

// For who drives the page from outside: where a cell is, as window coordinates of its square.
window.auditReport = {
  ready,
  csv: async () => {
    let lines;
    do {
      await shown();
      lines = await csvOf(); // nothing where another scene came meanwhile
    } while (!lines);
    return lines.join("");
  },
  busy: () => shownTurn !== turn || tilesToMake() || pending !== 0,
  cellRect(source, destination) {
    const r = scene.rows.findIndex((entry) => entry.key === source);
    const c = scene.columns.findIndex((entry) => entry.key === destination);
    if (r < 0 || c < 0) return null;
    reveal(r, c);
    scroller.scrollIntoView({ block: "nearest" });
    drawNow();
    return rectOf(r, c);
  },
  where: () => ({
    level: scene.level,
    size: layout.size,
    cursor: {
      source: scene.rows[here.cursor.r]?.key,
      destination: scene.columns[here.cursor.c]?.key,
    },
  }),
};
