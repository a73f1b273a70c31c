
// 10. Showing a view, and starting.

let drawn = "";

async function show() {
  const before = view;
  view = fromHash(location.hash);
  const wantedHash = toHash({ ...view, cell: null, at: "" });
  if (wantedHash !== drawn || !scene) {
    const made = makeScene();
    scene = made;
    forgetTiles();
    drawn = wantedHash;
    settle(before);
    inSlices(listCells(), () => scene === made);
  }
  for (const name of SELECTORS) $(name).value = name === "level" ? scene.level : view[name];
  document.body.dataset.level = scene.level;
  for (const node of document.querySelectorAll(".at-groups")) node.hidden = scene.level === "endpoints";
  drawCrumbs();
  redraw();
  if (view.cell) await showCell();
  else if (view.policy) await showPolicy(T.byPolicy.get(view.policy));
  else closePanel();
}

// Where the cursor stands in a new scene: where it came from, else at the start.
function settle(before) {
  const where = (v) => toHash({ ...EMPTY, rows: v.rows, columns: v.columns, level: v.level, order: v.order });
  if (where(before) !== where(view) || !layout) {
    zoom = 1;
    scroller.scrollTo(0, 0);
    const from = (entries, spec) => Math.max(0, entries.findIndex((entry) => spec && (entry.id === (spec.group ?? -1) || (scene.level === "workloads" && entry.id === spec.workload))));
    cursor = scene.level === "endpoints" ? { r: 0, c: 0 } : { r: from(scene.rows, before.rows), c: from(scene.columns, before.columns) };
  }
  cursor = { r: clamp(cursor.r, 0, Math.max(0, scene.rows.length - 1)), c: clamp(cursor.c, 0, Math.max(0, scene.columns.length - 1)) };
  const spot = chosen();
  if (spot) cursor = spot;
  hover = null;
  arrange();
  if (scene.rows.length && scene.columns.length) reveal(cursor.r, cursor.c);
  tell();
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    $("loading").textContent = "This browser cannot unpack the cells (it has no DecompressionStream). The figures and policies around are complete.";
    return;
  }
  await load();
  readColours();
  fillSelectors();
  listPolicies();
  $("loading").hidden = true;
  scroller.hidden = false;
  listenToMap();
  listenToSearch();
  await show();
  window.addEventListener("hashchange", show);
  for (const link of document.querySelectorAll("[data-group]")) {
    link.addEventListener("click", () => go({ rows: { all: true }, columns: { group: T.byGroup.get(link.dataset.group) }, level: "workloads", cell: null, at: "" }));
  }
  new ResizeObserver(() => { if (scene) { arrange(); redraw(); } }).observe(scroller.parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
  matchMedia("print").addEventListener("change", () => { readColours(); unpainted = -1; draw(); });
}

const ready = start().catch((error) => {
  $("loading").hidden = false;
  $("loading").textContent = `The cells cannot be shown: ${error.message}`;
  throw error;
});

// For who drives the page from outside: where a cell is, as window coordinates of its square.
window.auditReport = {
  ready,
  csv: async () => (await csvOf()).join(""),
  busy: () => wanted.length > 0 || making !== null || pending !== 0,
  cellRect(source, destination) {
    const r = scene.rows.findIndex((entry) => entry.key === source);
    const c = scene.columns.findIndex((entry) => entry.key === destination);
    if (r < 0 || c < 0) return null;
    reveal(r, c);
    scroller.scrollIntoView({ block: "nearest" });
    unpainted = -1;
    draw();
    return rectOf(r, c);
  },
  where: () => ({ level: scene.level, size: layout.size, cursor: { source: scene.rows[cursor.r]?.key, destination: scene.columns[cursor.c]?.key } }),
};
