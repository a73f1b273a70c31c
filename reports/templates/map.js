// 6. The map: where everything is on the canvas, which stays where it is; and pointing at it.

const scroller = $("scroller");
const sizer = $("sizer");
const canvas = $("canvas");
const context = canvas.getContext("2d", { alpha: false });
const SLANT = Math.PI / 4;
const FONT = 12;
const LABEL = 190; // longest label in pixels
const GAP = 5; // between groups: practitioners read gapped maps better than plain ones
const SMALLEST_DRAWN = 8; // pixels of a cell below which it is part of a tile
const LARGEST = 60;
const WIDEST = 2.4; // times as wide as high
let zoom = 1;
let layout = null;
let cursor = { r: 0, c: 0 };
let hover = null;

function positions(entries, size, gap) {
  const at = new Float64Array(entries.length + 1);
  let place = 0;
  entries.forEach((entry, i) => {
    if (entry.gap && i) place += gap;
    at[i] = place;
    place += size;
  });
  at[entries.length] = place;
  return at;
}

function longest(entries) {
  context.font = `600 ${FONT}px ${colours.sans}`;
  let most = 0;
  for (const entry of entries) if (entry.label.length > most) most = entry.label.length;
  const few = entries.filter((entry) => entry.label.length > most - 4).slice(0, 50);
  return few.reduce((width, entry) => Math.max(width, context.measureText(entry.label).width), 0);
}

// Cells are whole pixels wide where that can be seen. What just fits would not, rounded up.
const fitting = (size) => (size >= 2 ? Math.floor(size) : size);

// How high the map may be: to the end of the window, so that the whole of it is seen at once, but
// never so low that it cannot be used, nor higher than a window; on paper, as high as it is.
function tallest() {
  // On paper beside what stands above it on the first page, where its cells can still be seen so.
  if (printing()) return 9 * scene.rows.length + 150 <= FIRST_PAGE ? FIRST_PAGE : 4000;
  const above = scroller.getBoundingClientRect().top + window.scrollY;
  const rest = window.innerHeight - above - 14;
  return clamp(Math.max(rest, Math.min(window.innerHeight - 150, 560)), 320, 860);
}

const printing = () => matchMedia("print").matches;
const PAPER = 700; // pixels that a page of paper is wide
const FIRST_PAGE = 640; // pixels that are left on the first page of it, below the figures
const coarse = matchMedia("(pointer: coarse)");

function arrange() {
  if (!scene.heads) scene.heads = [longest(scene.rows), longest(scene.columns)];
  const width = printing() ? PAPER : Math.max(260, scroller.parentElement.clientWidth);
  const most = Math.min(LABEL, width / 3);
  let rowHead = Math.ceil(Math.min(most, Math.max(72, scene.heads[0])) + 16);
  const columnLabel = Math.min(most, scene.heads[1]);
  let columnHead = Math.ceil(Math.max(46, columnLabel * Math.sin(SLANT) + 26));
  const overhang = Math.ceil(columnLabel * Math.cos(SLANT)) + 4;
  const tall = tallest();
  const gaps = (entries) => entries.filter((entry, i) => entry.gap && i).length * GAP;
  const room = (gap) => [
    (width - rowHead - overhang - gap * gaps(scene.columns)) / Math.max(1, scene.columns.length),
    (tall - columnHead - gap * gaps(scene.rows)) / Math.max(1, scene.rows.length),
  ];
  const fit = (gap) => Math.min(...room(gap));
  // A map that would have tiny cells scrolls instead: a cell must be big enough to point at.
  const smallest = coarse.matches || width < 480 ? 24 : 14; // pixels: of a finger, of a pointer
  const comfortable = fitting(clamp(Math.max(fit(1), smallest), smallest, scene.largest));
  // The whole map; where cells are drawn, gaps are too.
  const least = Math.min(
    fitting(fit(1) >= SMALLEST_DRAWN ? fit(1) : Math.min(fit(0), SMALLEST_DRAWN - 1)),
    comfortable,
  );
  const scrolls = least < comfortable;
  if (scrolls && !printing()) {
    // room for the small map
    rowHead = Math.max(rowHead, Math.min(130, most));
    columnHead = Math.max(columnHead, 110);
  }
  let size = clamp(printing() ? least : comfortable * zoom, least, LARGEST);
  if (size >= 2) size = Math.round(size);
  // Cells are wider than they are high where the panel has room for it, and never where cells are pixels.
  const across = size > comfortable ? size * (room(1)[0] / comfortable) : Math.floor(room(1)[0]);
  const wide =
    size < SMALLEST_DRAWN ? size : clamp(Math.round(across), size, Math.round(size * WIDEST));
  const x = positions(scene.columns, wide, size >= SMALLEST_DRAWN ? GAP : 0);
  const y = positions(scene.rows, size, size >= SMALLEST_DRAWN ? GAP : 0);
  const total = {
    width: rowHead + x[x.length - 1] + overhang,
    height: columnHead + y[y.length - 1] + 2,
  };
  layout = {
    size,
    wide,
    x,
    y,
    rowHead,
    columnHead,
    most,
    total,
    comfortable,
    least,
    scrolls,
    width,
    height: total.height,
  };
  const scrollsX = total.width > width;
  sizer.style.width = `${Math.max(total.width, scrollsX ? 0 : width)}px`;
  sizer.style.height = `${total.height}px`;
  scroller.style.height = `${Math.min(total.height, tall) + (scrollsX ? 16 : 0)}px`;
  if (printing()) return; // the scroller still has the screen's width
  layout.width = scroller.clientWidth;
  layout.height = scroller.clientHeight;
}

function jump(event) {
  const box = mini.getBoundingClientRect();
  const { x, y, width, height, rowHead, columnHead } = layout;
  scroller.scrollTo(
    ((event.clientX - box.left) / box.width) * x[x.length - 1] - (width - rowHead) / 2,
    ((event.clientY - box.top) / box.height) * y[y.length - 1] - (height - columnHead) / 2,
  );
}

// What is under a point of the window: {r, c}, with r or c -1 on the other axis' header.
function spotAt(clientX, clientY) {
  if (!scene || !scene.rows.length || !scene.columns.length) return null;
  const box = canvas.getBoundingClientRect();
  const { size, wide, x, y, rowHead, columnHead } = layout;
  const px = clientX - box.left;
  const py = clientY - box.top;
  const find = (array, count, value, extent) => {
    if (value < 0 || value >= array[count]) return -1;
    const index = floorIndex(array.subarray(0, count), value);
    return value - array[index] < extent ? index : -1;
  };
  const c =
    px < rowHead ? -1 : find(x, scene.columns.length, px - rowHead + scroller.scrollLeft, wide);
  const r =
    py < columnHead ? -1 : find(y, scene.rows.length, py - columnHead + scroller.scrollTop, size);
  if (r < 0 && c < 0) return null;
  if ((r < 0 && py >= columnHead) || (c < 0 && px >= rowHead)) return null;
  return { r, c };
}

function rectOf(r, c) {
  const box = canvas.getBoundingClientRect();
  return {
    x: box.left + layout.rowHead + layout.x[c] - scroller.scrollLeft,
    y: box.top + layout.columnHead + layout.y[r] - scroller.scrollTop,
    width: layout.wide,
    height: layout.size,
  };
}

function reveal(r, c) {
  const { size, wide, x, y, rowHead, columnHead } = layout;
  const width = scroller.clientWidth - rowHead;
  const height = scroller.clientHeight - columnHead;
  if (x[c] < scroller.scrollLeft) scroller.scrollLeft = x[c];
  if (x[c] + wide > scroller.scrollLeft + width) scroller.scrollLeft = x[c] + wide - width;
  if (y[r] < scroller.scrollTop) scroller.scrollTop = y[r];
  if (y[r] + size > scroller.scrollTop + height) scroller.scrollTop = y[r] + size - height;
}

// One step down, at a cell or at the head of a row or a column.
function open(r, c) {
  const [row, column] = [scene.rows[r], scene.columns[c]];
  if (scene.level === "endpoints" && row && column) {
    arriving = stacked.matches;
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

function describe(r, c) {
  const title = `${plain(scene.rows[r].key)} → ${plain(scene.columns[c].key)}`;
  if (scene.level !== "endpoints") {
    return { title, lines: [...countLines(r, c), ...blockersOf(r, c)], more: 0 };
  }
  const found = scene.between(r, c);
  const lines = found.slice(0, 8).map(({ code, slice }) => {
    const state = stateOf(code);
    const name = T.verdicts[scene.shown[code]].name;
    const planes = state.drift ? " (the planes disagree)" : "";
    const change = scene.opened[code] ? ", opened" : scene.closed[code] ? ", closed" : "";
    const why = view.plane
      ? `${name} by the ${view.plane} plane`
      : state.blame && state.verdict === BLOCKED
        ? `${name} by ${plain(state.blame.label)}`
        : `${name}: ${plain(state.cause)}`;
    return { verdict: name, text: `${sliceName(slice)} ${why}${planes}${change}`, figure: "" };
  });
  return { title, lines, more: found.length - lines.length };
}

function countLines(r, c) {
  const counts = scene.between(r, c);
  const lines = T.verdicts
    .map((v, i) => ({ verdict: v.name, text: v.name, count: counts[i] }))
    .filter(({ count }) => count);
  if (counts[DRIFTS])
    lines.push({ verdict: "drift", text: "planes disagree", count: counts[DRIFTS] });
  if (counts[OPENED]) lines.push({ verdict: "opened", text: "opened", count: counts[OPENED] });
  if (counts[CLOSED]) lines.push({ verdict: "closed", text: "closed", count: counts[CLOSED] });
  if (counts[FRESH])
    lines.push({ verdict: "new", text: "not in the earlier run", count: counts[FRESH] });
  if (scene.filtered)
    lines.push({ verdict: "hit", text: "chosen by the filter", count: counts[HITS] });
  return lines.map((line) => ({ ...line, figure: figure(line.count) }));
}

// The policies that block most between two groups, by a sample of what is below them.
function blockersOf(r, c) {
  if (!has("cells") || !scene.between(r, c)[BLOCKED]) return [];
  const counts = new Map();
  const some = (members) =>
    members.length <= 12
      ? members
      : members.filter((_, i) => i % Math.ceil(members.length / 12) === 0);
  for (const src of some(scene.rows[r].members)) {
    for (const dst of some(scene.columns[c].members)) {
      for (let column = firstColumn[dst]; column < firstColumn[dst + 1]; column += 1) {
        const code = codeAt(rowOf[src], column);
        if (
          code &&
          sliceChosen(T.columnSlice[column]) &&
          T.states[code - 1][S.verdict] === BLOCKED
        ) {
          const decider = T.states[code - 1][S.decider];
          counts.set(decider, (counts.get(decider) || 0) + 1);
        }
      }
    }
  }
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, 3)
    .map(([decider]) => ({
      verdict: "blocked",
      text: `by ${plain(T.deciders[decider][0])}`,
      count: 0,
      figure: "",
    }));
}

function tell() {
  if (!scene.rows.length || !scene.columns.length) return;
  const { title, lines } = describe(cursor.r, cursor.c);
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

function listenToMap() {
  scroller.addEventListener("mousemove", (event) => {
    const spot = spotAt(event.clientX, event.clientY);
    const before = hover;
    hover = spot && spot.r >= 0 && spot.c >= 0 ? spot : null;
    scroller.classList.toggle("over", spot !== null);
    showTooltip(spot, event.clientX, event.clientY);
    if (before?.r !== hover?.r || before?.c !== hover?.c) redraw();
  });
  scroller.addEventListener("mouseleave", () => {
    hover = null;
    showTooltip(null);
    redraw();
  });
  scroller.addEventListener("scroll", () => {
    hover = null;
    showTooltip(null);
    redraw();
  });
  scroller.addEventListener("click", (event) => {
    const spot = spotAt(event.clientX, event.clientY);
    if (!spot) return;
    cursor = { r: Math.max(0, spot.r), c: Math.max(0, spot.c) };
    showTooltip(null);
    open(spot.r, spot.c);
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
      cursor = {
        r: clamp(cursor.r + down, 0, scene.rows.length - 1),
        c: clamp(cursor.c + across, 0, scene.columns.length - 1),
      };
      hover = null;
      reveal(cursor.r, cursor.c);
      tell();
      redraw();
    } else if (event.key === "Enter" && scene.rows.length && scene.columns.length)
      open(cursor.r, cursor.c);
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

const zoomBy = (factor, at) => zoomTo(layout.size * factor, at);

// Keeps what is under the pointer, else the cell of the cursor, where it is.
function zoomTo(size, at) {
  const spot = (at && spotAt(at.clientX, at.clientY)) || cursor;
  const { r, c } = { r: Math.max(0, spot.r), c: Math.max(0, spot.c) };
  const before = rectOf(r, c);
  zoom = clamp(size, layout.least, LARGEST) / layout.comfortable;
  arrange();
  const after = rectOf(r, c);
  scroller.scrollBy(after.x - before.x, after.y - before.y);
  if (!at) reveal(r, c);
  redraw();
}
