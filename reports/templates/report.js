// The report's script: it inflates the data block, draws the heatmap and explains a cell.
// Every name in the data is anyone's to choose. Text enters the page by textContent only; nothing
// in this file writes markup, and nothing asks the network for anything.
"use strict";
(() => {
  // ---------------------------------------------------------------------------------------------
  // 1. Small tools
  // ---------------------------------------------------------------------------------------------

  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  function el(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "testid") node.dataset.testid = value;
      else if (name === "class") node.className = value;
      else if (name === "on") for (const [type, act] of Object.entries(value)) node.addEventListener(type, act);
      else node.setAttribute(name, value === true ? "" : value);
    }
    // append() makes text nodes of strings: what a name contains stays text.
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }

  function glyph(verdict) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", `glyph ${verdict}`);
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, value] of [["width", 16], ["height", 16], ["rx", 3]]) rect.setAttribute(name, value);
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", `#glyph-${verdict}`);
    svg.append(rect, use);
    return svg;
  }

  const figure = (value) => value.toLocaleString("en-US");
  const cellsText = (count) => `${figure(count)} ${count === 1 ? "cell" : "cells"}`;

  // The same rounding as the figures above the heatmap: 0 is none of it and 100 is all of it.
  function percent(part, whole) {
    if (!whole) return "–";
    if (part === 0) return "0 %";
    if (part === whole) return "100 %";
    const tenths = Math.floor((2000 * part + whole) / (2 * whole));
    if (tenths === 0) return "<0.1 %";
    return tenths >= 1000 ? ">99.9 %" : `${(tenths / 10).toFixed(1)} %`;
  }

  const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
  const sqlText = (text) => `'${text.replaceAll("'", "''")}'`;
  const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

  // The position of the last element that is not greater than `value`, in an ascending array.
  function floorIndex(array, value) {
    let low = 0;
    let high = array.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (array[middle] <= value) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // ---------------------------------------------------------------------------------------------
  // 2. Data: tables at once, chunks of cells and traces when they are looked at
  // ---------------------------------------------------------------------------------------------

  const REACHABLE = 0, EXITS = 1, BLOCKED = 2, UNROUTABLE = 3, INCONCLUSIVE = 4, VERDICTS = 6;
  const NO_VERDICT = 255;
  const passes = (verdict) => verdict === REACHABLE || verdict === EXITS;
  const stops = (verdict) => verdict === BLOCKED || verdict === UNROUTABLE;
  const unproven = (verdict) => verdict >= INCONCLUSIVE;

  const data = JSON.parse($("data").textContent);
  const has = (name) => !data.leftOut.includes(name);
  let T = null; // the tables
  let tallies = null; // counts by source group × tally column × verdict
  let firstColumn = null; // of each destination, and one past the last
  let rowOf = null; // of each endpoint, -1 where it is no source

  async function inflate(text) {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).arrayBuffer();
  }

  const json = async (text) => JSON.parse(new TextDecoder().decode(await inflate(text)));

  // Remembers the last few results: chunks are megabytes, and a reader looks at one place at a time.
  function remembering(most, make) {
    const known = new Map();
    return (key) => {
      let found = known.get(key);
      if (found === undefined) {
        found = make(key);
        if (known.size >= most) known.delete(known.keys().next().value);
      } else known.delete(key);
      known.set(key, found);
      return found;
    };
  }

  const CODES = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[data.cellBytes];
  const cellChunk = remembering(8, async (chunk) => new CODES(await inflate(data.blobs.cells[chunk])));
  const startChunk = remembering(4, async (chunk) => {
    const starts = new Int32Array(await inflate(data.blobs.starts[chunk]));
    for (let i = 1; i < starts.length; i += 1) starts[i] += starts[i - 1]; // stored as differences
    return starts;
  });
  const hopChunk = remembering(8, (chunk) => json(data.blobs.hops[chunk]));
  const rawChunk = remembering(4, (chunk) => json(data.blobs.raw[chunk]));
  const manifests = remembering(1, () => json(data.blobs.manifests[0]));
  const rawLines = remembering(1, () => json(data.blobs.lines[0]));

  async function load() {
    T = await json(data.blobs.tables[0]);
    tallies = new Uint32Array(await inflate(data.blobs.tallies[0]));
    rowOf = new Int32Array(T.endpoints.length).fill(-1);
    T.sources.forEach((endpoint, row) => { rowOf[endpoint] = row; });
    firstColumn = new Int32Array(T.endpoints.length + 1);
    for (const dst of T.columnDst) firstColumn[dst + 1] += 1;
    for (let i = 0; i < T.endpoints.length; i += 1) firstColumn[i + 1] += firstColumn[i];
    T.byKey = new Map(T.endpoints.map(([key], index) => [key, index]));
    T.byGroup = new Map(T.groups.map((name, index) => [name, index]));
  }

  const keyOf = (endpoint) => T.endpoints[endpoint][0];
  const shortName = (endpoint) => keyOf(endpoint).slice(T.endpoints[endpoint][1].length + 1);
  const sliceName = (slice) => {
    const [family, port] = T.slices[slice];
    return T.bothFamilies ? `${T.ports[port]} ${T.families[family]}` : T.ports[port];
  };
  const sliceChosen = (slice) => {
    const [family, port] = T.slices[slice];
    return (view.port === "" || T.ports[port] === view.port)
      && (view.family === "" || T.families[family] === view.family);
  };

  // Every cell from one endpoint to another: {slice, code, state, start}, in the order of ports.
  async function cellsOfPair(src, dst) {
    const row = rowOf[src];
    if (row < 0 || !has("cells")) return [];
    const chunk = Math.floor(row / data.rowsPerChunk);
    const base = (row % data.rowsPerChunk) * T.columnDst.length;
    const codes = await cellChunk(chunk);
    const starts = has("hops") ? await startChunk(chunk) : null;
    const found = [];
    for (let column = firstColumn[dst]; column < firstColumn[dst + 1]; column += 1) {
      const code = codes[base + column];
      if (!code) continue;
      found.push({ slice: T.columnSlice[column], code, state: stateOf(code), start: starts ? starts[base + column] - 1 : -1 });
    }
    return found;
  }

  function stateOf(code) {
    const [verdict, reply, reason, cause, blame] = T.states[code - 1];
    return { verdict, reply, reason, cause: T.causes[cause], blame: blame < 0 ? null : T.blames[blame] };
  }

  function sentenceOf(src, dst, cell) {
    const [family, port] = T.slices[cell.slice];
    const over = T.bothFamilies ? ` over ${T.families[family]}` : "";
    return `${keyOf(src)} ${T.verdicts[cell.state.verdict].verb} ${keyOf(dst)} on ${T.ports[port]}${over}: ${cell.state.cause}.`;
  }

  // ---------------------------------------------------------------------------------------------
  // 3. The view: everything a link to it must carry stands in the fragment of the address
  // ---------------------------------------------------------------------------------------------

  // rows and columns: null (all groups), {group}, {endpoint} or {all: true}
  const EMPTY = { rows: null, columns: null, port: "", family: "", policy: "", cell: null, at: "" };
  let view = { ...EMPTY };

  const specText = (spec) => (spec.all ? "*" : spec.endpoint !== undefined ? keyOf(spec.endpoint) : T.groups[spec.group]);

  function parseSpec(text) {
    if (text === "*") return { all: true };
    if (T.byGroup.has(text)) return { group: T.byGroup.get(text) };
    if (T.byKey.has(text)) return { endpoint: T.byKey.get(text) };
    return null;
  }

  function toHash(v) {
    const parts = [];
    const add = (name, ...texts) => parts.push(`${name}=${texts.map(encodeURIComponent).join(",")}`);
    if (v.rows && v.columns) add("ns", specText(v.rows), specText(v.columns));
    if (v.port) add("port", v.port);
    if (v.family) add("family", v.family);
    if (v.policy) add("policy", v.policy);
    if (v.cell) add("cell", keyOf(v.cell.src), keyOf(v.cell.dst));
    if (v.cell && v.at) add("at", v.at);
    return parts.join("&");
  }

  // What a fragment names and this run does not have is ignored: links outlive runs.
  function fromHash(text) {
    const v = { ...EMPTY };
    for (const part of text.replace(/^#/, "").split("&")) {
      const [name, value = ""] = part.split("=");
      let values;
      try { values = value.split(",").map(decodeURIComponent); } catch { continue; }
      if (name === "ns" && values.length === 2) {
        const [rows, columns] = values.map(parseSpec);
        if (rows && columns && has("cells")) Object.assign(v, { rows, columns });
      } else if (name === "port" && T.ports.includes(values[0])) [v.port] = values;
      else if (name === "family" && T.families.includes(values[0])) [v.family] = values;
      else if (name === "policy") [v.policy] = values;
      else if (name === "cell" && values.length === 2) {
        const [src, dst] = values.map((key) => T.byKey.get(key));
        if (src !== undefined && dst !== undefined && has("cells")) v.cell = { src, dst };
      } else if (name === "at") [v.at] = values;
    }
    // A link to a cell alone opens the namespaces it is in.
    if (v.cell && !v.rows) Object.assign(v, { rows: { group: T.groupOf[v.cell.src] }, columns: { group: T.groupOf[v.cell.dst] } });
    return v;
  }

  function go(change) {
    const hash = toHash({ ...view, ...change });
    if (location.hash.replace(/^#/, "") === hash) return show();
    location.hash = hash; // the browser's own history; `hashchange` shows it
    return undefined;
  }

  function goBack() {
    if (view.cell) return go({ cell: null, at: "" });
    if (view.policy) return go({ policy: "" });
    if (view.rows) return go({ rows: null, columns: null });
    return undefined;
  }

  // ---------------------------------------------------------------------------------------------
  // 4. Scenes: what is drawn, as rows, columns and a way to ask what is between them
  // ---------------------------------------------------------------------------------------------

  let scene = null;

  function groupScene() {
    const sources = new Set(T.sources.map((endpoint) => T.groupOf[endpoint]));
    const destinations = new Set(T.columnDst.map((endpoint) => T.groupOf[endpoint]));
    const all = T.groups.map((_, index) => index);
    const G = T.groups.length;
    const counts = new Float64Array(G * G * VERDICTS);
    const K = T.tallyGroup.length;
    for (let k = 0; k < K; k += 1) {
      if (!sliceChosen(T.tallySlice[k])) continue;
      for (let g = 0; g < G; g += 1) {
        for (let v = 0; v < VERDICTS; v += 1) {
          counts[(g * G + T.tallyGroup[k]) * VERDICTS + v] += tallies[(g * K + k) * VERDICTS + v];
        }
      }
    }
    const entry = (group) => ({ id: group, key: T.groups[group], label: T.groups[group], gap: T.groups[group] === "(nodes)" || T.groups[group] === "(external)" });
    const rows = all.filter((g) => sources.has(g)).map(entry);
    const columns = all.filter((g) => destinations.has(g)).map(entry);
    const between = (r, c) => {
      const at = (rows[r].id * G + columns[c].id) * VERDICTS;
      return counts.subarray(at, at + VERDICTS);
    };
    const blocker = T.blockers.find(([label]) => label === view.policy);
    const pairs = new Set(blocker ? blocker[4].map(([g, h]) => g * G + h) : []);
    const blockedBy = (r, c) => pairs.has(rows[r].id * G + columns[c].id);
    return { level: "groups", rows, columns, between, blockedBy, largest: 58, smallest: 7 };
  }

  // A pod of its own is a workload of one; a gap around each of them would separate nothing.
  function workloadOf(endpoint) {
    const workload = T.endpoints[endpoint][3];
    return workload.startsWith("Pod/") ? "" : workload;
  }

  const MOST_DRAWN = 80_000_000; // codes held for one view: 160 MB at two bytes each

  async function endpointScene() {
    const members = (spec) => {
      if (spec.endpoint !== undefined) return [spec.endpoint];
      const everyone = T.endpoints.map((_, index) => index);
      return spec.all ? everyone : everyone.filter((index) => T.groupOf[index] === spec.group);
    };
    const rowIds = members(view.rows).filter((e) => rowOf[e] >= 0);
    const columnIds = members(view.columns).filter((e) => firstColumn[e + 1] > firstColumn[e]);
    const entries = (ids, bare) => ids.map((id, i) => {
      const before = i ? ids[i - 1] : id;
      const name = bare ? shortName(id).replace(/^[^/]*\//, "") : shortName(id);
      const kind = T.endpoints[id][1];
      return {
        id, key: keyOf(id), label: bare && kind === "service" ? `${name} (service)` : name,
        gap: workloadOf(before) !== workloadOf(id) || T.groupOf[before] !== T.groupOf[id] || T.endpoints[before][1] !== kind,
      };
    });
    const offsets = new Int32Array(columnIds.length + 1); // into the codes kept of a row
    const kept = [];
    columnIds.forEach((dst, i) => {
      for (let column = firstColumn[dst]; column < firstColumn[dst + 1]; column += 1) {
        if (sliceChosen(T.columnSlice[column])) kept.push(column);
      }
      offsets[i + 1] = kept.length;
    });
    const width = kept.length;
    const rows = entries(rowIds, view.rows.group !== undefined);
    const columns = entries(columnIds, view.columns.group !== undefined);
    if (width * rowIds.length > MOST_DRAWN) {
      return { level: "endpoints", rows: [], columns: [], empty: "Too many cells to draw at once: choose a smaller part." };
    }
    const codes = new CODES(width * rowIds.length);
    const every = T.columnDst.length;
    for (let i = 0; i < rowIds.length; i += 1) {
      const row = rowOf[rowIds[i]];
      const chunk = await cellChunk(Math.floor(row / data.rowsPerChunk));
      const base = (row % data.rowsPerChunk) * every;
      for (let k = 0; k < width; k += 1) codes[i * width + k] = chunk[base + kept[k]];
    }
    const between = (r, c) => {
      const found = [];
      for (let k = offsets[c]; k < offsets[c + 1]; k += 1) {
        const code = codes[r * width + k];
        if (code) found.push({ code, slice: T.columnSlice[kept[k]] });
      }
      return found;
    };
    return { level: "endpoints", rows, columns, between, largest: 44, smallest: 7 };
  }

  // ---------------------------------------------------------------------------------------------
  // 5. Drawing: only what is in the window, on one canvas that stays where it is
  // ---------------------------------------------------------------------------------------------

  const scroller = $("scroller");
  const sizer = $("sizer");
  const canvas = $("canvas");
  const context = canvas.getContext("2d", { alpha: false });
  const SLANT = Math.PI / 4;
  const FONT = 12;
  const LABEL = 190; // longest label in pixels
  const GAP = 5; // between workloads: practitioners read gapped maps better than plain ones
  let zoom = 1;
  let layout = null;
  let cursor = { r: 0, c: 0 };
  let hover = null;
  let colours = {};
  let glyphPaths = [];
  let hatches = {};

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    colours = {};
    for (const name of ["surface", "sunken", "faint", "line", "text", "muted", "accent", "cursor", "mark",
      ...T.verdicts.flatMap((v) => [v.name, `on-${v.name}`])]) colours[name] = style.getPropertyValue(`--${name}`).trim();
    colours.sans = style.getPropertyValue("--sans").trim();
    glyphPaths = T.verdicts.map((v) => new Path2D(document.querySelector(`#glyph-${v.name} path`).getAttribute("d")));
    hatches = Object.fromEntries(T.verdicts.filter((_, v) => unproven(v)).map((v) => [v.name, hatch(colours[v.name])]));
  }

  function hatch(colour) {
    const size = 12;
    const tile = document.createElement("canvas");
    tile.width = size;
    tile.height = size;
    const pen = tile.getContext("2d");
    pen.fillStyle = colour;
    pen.fillRect(0, 0, size, size);
    pen.strokeStyle = colours.surface;
    pen.globalAlpha = 0.3;
    pen.lineWidth = 2.4;
    for (const shift of [-size / 2, 0, size / 2, size]) {
      pen.beginPath();
      pen.moveTo(shift - 2, size + 2);
      pen.lineTo(shift + size + 2, -2);
      pen.stroke();
    }
    return context.createPattern(tile, "repeat");
  }

  const fillOf = (verdict) => (unproven(verdict) ? hatches[T.verdicts[verdict].name] : colours[T.verdicts[verdict].name]);

  function positions(entries, size) {
    const at = new Float64Array(entries.length + 1);
    let place = 0;
    entries.forEach((entry, i) => {
      if (entry.gap && i) place += GAP;
      at[i] = place;
      place += size;
    });
    at[entries.length] = place;
    return at;
  }

  function arrange() {
    context.font = `600 ${FONT}px ${colours.sans}`;
    const longest = (entries) => entries.slice(0, 3000).reduce((most, entry) => Math.max(most, context.measureText(entry.label).width), 0);
    const width = Math.max(280, scroller.parentElement.clientWidth - 32);
    const rowHead = Math.ceil(Math.min(LABEL, Math.max(72, longest(scene.rows))) + 16);
    const columnLabel = Math.min(LABEL, longest(scene.columns));
    const columnHead = Math.ceil(Math.max(46, columnLabel * Math.sin(SLANT) + 26));
    const overhang = Math.ceil(columnLabel * Math.cos(SLANT)) + 4;
    const tall = Math.max(320, Math.min(window.innerHeight - 150, 860));
    const gaps = (entries) => entries.filter((entry, i) => entry.gap && i).length * GAP;
    const fit = Math.min(
      (width - rowHead - overhang - gaps(scene.columns)) / Math.max(1, scene.columns.length),
      (tall - columnHead - gaps(scene.rows)) / Math.max(1, scene.rows.length),
    );
    // A map that would have tiny cells scrolls instead: a cell must be big enough to point at.
    const comfortable = Math.max(fit, scene.level === "groups" ? 14 : 12);
    const size = Math.round(clamp(comfortable * zoom, scene.smallest, Math.max(scene.largest, scene.largest * zoom)));
    const limited = zoom === 1 ? Math.min(size, scene.largest) : size;
    const x = positions(scene.columns, limited);
    const y = positions(scene.rows, limited);
    const total = { width: rowHead + x[x.length - 1] + overhang, height: columnHead + y[y.length - 1] + 2 };
    layout = { size: limited, x, y, rowHead, columnHead, total };
    const scrollsX = total.width > width;
    sizer.style.width = `${Math.max(total.width, scrollsX ? 0 : width)}px`;
    sizer.style.height = `${total.height}px`;
    scroller.style.height = `${Math.min(total.height, tall) + (scrollsX ? 16 : 0)}px`;
  }

  let pending = 0;
  function redraw() {
    if (!pending) pending = requestAnimationFrame(() => { pending = 0; draw(); });
  }

  function draw() {
    if (!scene || scroller.hidden) return;
    const width = scroller.clientWidth;
    const height = scroller.clientHeight;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.surface;
    context.fillRect(0, 0, width, height);
    if (!scene.rows.length || !scene.columns.length) return drawNothing(width, height);
    const seen = visible(width, height);
    drawCells(seen, width, height);
    drawHeads(seen, width, height);
    return undefined;
  }

  function drawNothing(width, height) {
    context.fillStyle = colours.muted;
    context.font = `14px ${colours.sans}`;
    context.textAlign = "center";
    context.fillText(scene.empty || "There are no cells here.", width / 2, height / 2);
  }

  function visible(width, height) {
    const { x, y, rowHead, columnHead } = layout;
    const left = scroller.scrollLeft;
    const top = scroller.scrollTop;
    return {
      left, top,
      c0: floorIndex(x.subarray(0, scene.columns.length), left),
      c1: floorIndex(x.subarray(0, scene.columns.length), left + width - rowHead),
      r0: floorIndex(y.subarray(0, scene.rows.length), top),
      r1: floorIndex(y.subarray(0, scene.rows.length), top + height - columnHead),
    };
  }

  function drawCells(seen, width, height) {
    const { size, x, y, rowHead, columnHead } = layout;
    const space = size >= 12 ? 2 : size >= 5 ? 1 : 0;
    const paint = scene.level === "groups" ? paintMix : paintCell;
    context.save();
    context.beginPath();
    context.rect(rowHead, columnHead, width - rowHead, height - columnHead);
    context.clip();
    for (let r = seen.r0; r <= seen.r1; r += 1) {
      for (let c = seen.c0; c <= seen.c1; c += 1) {
        const [left, top, side] = [rowHead + x[c] - seen.left, columnHead + y[r] - seen.top, size - space];
        if (size < 14) paint(left, top, side, r, c);
        else {
          context.save();
          context.beginPath();
          context.roundRect(left, top, side, side, 3);
          context.clip();
          paint(left, top, side, r, c);
          context.restore();
        }
      }
    }
    for (const [spot, colour, line] of [[hover, colours.muted, 1.5], [chosen(), colours.accent, 3], [cursor, colours.cursor, 2]]) {
      if (!spot) continue;
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(rowHead + x[spot.c] - seen.left - 0.5, columnHead + y[spot.r] - seen.top - 0.5, size - space + 1, size - space + 1);
    }
    context.restore();
  }

  function chosen() {
    if (!view.cell || scene.level !== "endpoints") return null;
    const r = scene.rows.findIndex((entry) => entry.id === view.cell.src);
    const c = scene.columns.findIndex((entry) => entry.id === view.cell.dst);
    return r >= 0 && c >= 0 ? { r, c } : null;
  }

  // A namespace pair: what passes from the left, what is stopped from the right, each as wide as its
  // share of the proven cells; a corner when anything is unproven. Nothing that exists has no width.
  function paintMix(x, y, side, r, c) {
    const counts = scene.between(r, c);
    const proven = counts[0] + counts[1] + counts[2] + counts[3];
    const doubt = counts[4] + counts[5];
    if (!proven && !doubt) return paintAbsent(x, y, side);
    if (view.policy) context.globalAlpha = scene.blockedBy(r, c) ? 1 : 0.16;
    if (!proven) {
      const verdict = counts[4] >= counts[5] ? 4 : 5;
      paintSolid(x, y, side, side, verdict);
      paintGlyph(x, y, side, verdict);
      context.globalAlpha = 1;
      return undefined;
    }
    const present = [0, 1, 2, 3].filter((v) => counts[v]);
    const least = Math.min(3, side / present.length);
    let widths = present.map((v) => Math.max(least, (side * counts[v]) / proven));
    const over = widths.reduce((sum, w) => sum + w, 0) - side;
    if (over > 0) {
      const widest = widths.indexOf(Math.max(...widths));
      widths = widths.map((w, i) => (i === widest ? w - over : w));
    }
    let left = x;
    present.forEach((verdict, i) => {
      paintSolid(left, y, widths[i], side, verdict);
      left += widths[i];
    });
    if (present.length === 1) paintGlyph(x, y, side, present[0]);
    if (doubt) paintCorner(x + side, y, -side, side, colours.inconclusive);
    context.globalAlpha = 1;
    return undefined;
  }

  // One pair of endpoints: one colour when all its ports agree, a strip per port when they do not.
  function paintCell(x, y, side, r, c) {
    const found = scene.between(r, c);
    if (!found.length) return paintAbsent(x, y, side);
    const verdicts = found.map(({ code }) => T.states[code - 1][0]);
    if (view.policy) context.globalAlpha = found.some(({ code }) => names(code, view.policy)) ? 1 : 0.16;
    if (verdicts.every((verdict) => verdict === verdicts[0])) {
      paintSolid(x, y, side, side, verdicts[0]);
      paintGlyph(x, y, side, verdicts[0]);
    } else {
      if (verdicts.length > side / 3) verdicts.sort((a, b) => a - b); // too thin to count: show shares
      const strip = side / verdicts.length;
      for (let i = 0; i < verdicts.length; i += 1) {
        if (strip >= 11) {
          paintSolid(x + i * strip, y, strip, side, verdicts[i]);
          paintGlyph(x + i * strip, y + (side - strip) / 2, strip, verdicts[i]);
        } else {
          const from = i; // neighbours that agree are one strip: seams between them would be noise
          while (verdicts[i + 1] === verdicts[i]) i += 1;
          paintSolid(x + from * strip, y, (i + 1 - from) * strip, side, verdicts[i]);
        }
      }
      if (verdicts.some(unproven)) paintCorner(x + side, y, -side, side, colours.inconclusive);
    }
    if (found.some(({ code }) => passes(T.states[code - 1][0]) && stops(T.states[code - 1][1]))) {
      paintCorner(x, y + side, side, -side, colours.blocked);
    }
    context.globalAlpha = 1;
    return undefined;
  }

  // Whether a cell is counted under this blocker: blocked, and blamed on it by name.
  function names(code, label) {
    const { verdict, blame } = stateOf(code);
    if (verdict !== BLOCKED) return false;
    if (!blame) return label === "no policy named";
    return (blame.policy >= 0 ? T.policies[blame.policy].label : blame.label) === label;
  }

  function paintSolid(x, y, width, height, verdict) {
    context.fillStyle = fillOf(verdict);
    context.fillRect(x, y, width, height);
  }

  function paintAbsent(x, y, side) {
    context.fillStyle = colours.line;
    const dot = clamp(side / 8, 1, 2.5);
    context.beginPath();
    context.arc(x + side / 2, y + side / 2, dot, 0, 2 * Math.PI);
    context.fill();
  }

  function paintGlyph(x, y, side, verdict) {
    if (side < 10) return;
    const size = Math.min(18, side * 0.9);
    context.save();
    context.translate(x + (side - size) / 2, y + (side - size) / 2);
    context.scale(size / 16, size / 16);
    context.strokeStyle = colours[`on-${T.verdicts[verdict].name}`];
    context.lineWidth = unproven(verdict) ? 2.5 : 2;
    context.lineCap = "round";
    context.lineJoin = "round";
    context.stroke(glyphPaths[verdict]);
    context.restore();
  }

  // A triangle in the corner at (x, y) that reaches `across` and `down` into the cell.
  function paintCorner(x, y, across, down, colour) {
    const reach = Math.min(0.5, Math.max(0.3, 5 / Math.abs(across)));
    const edge = Math.abs(across) >= 12 ? 1.5 : 0;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + across * reach, y);
    context.lineTo(x, y + down * reach);
    context.closePath();
    context.fillStyle = colour;
    context.fill();
    if (edge) {
      context.beginPath();
      context.moveTo(x + across * reach, y);
      context.lineTo(x, y + down * reach);
      context.strokeStyle = colours.surface;
      context.lineWidth = edge;
      context.stroke();
    }
  }

  function drawHeads(seen, width, height) {
    const { size, x, y, rowHead, columnHead } = layout;
    context.fillStyle = colours.surface;
    context.fillRect(0, 0, width, columnHead);
    context.fillRect(0, 0, rowHead, height);
    context.font = `${FONT}px ${colours.sans}`;
    context.textBaseline = "middle";
    const lit = hover || cursor;
    // Labels that would overlap are left out, never the one the reader is at.
    const stride = Math.ceil(13 / size);
    const slanted = 13 / Math.sin(SLANT); // slanted lines stand closer together than upright ones
    const columnStride = Math.ceil(slanted / size);
    context.save();
    context.beginPath();
    context.rect(0, columnHead - 4, rowHead, height - columnHead + 4); // a label may be taller than its row
    context.clip();
    context.textAlign = "right";
    for (let r = seen.r0; r <= seen.r1; r += 1) {
      if (r % stride && r !== lit.r) continue;
      if (stride > 1 && r !== lit.r && Math.abs(r - lit.r) * size < 13) continue;
      label(scene.rows[r].label, rowHead - 8, columnHead + y[r] - seen.top + size / 2 - 1, rowHead - 12, r === lit.r);
    }
    context.restore();
    context.save();
    context.beginPath();
    context.rect(rowHead - 4, 0, width - rowHead + 4, columnHead);
    context.clip();
    context.textAlign = "left";
    for (let c = seen.c0; c <= seen.c1; c += 1) {
      const middle = rowHead + x[c] - seen.left + size / 2;
      if (middle < rowHead || (c % columnStride && c !== lit.c)) continue;
      if (columnStride > 1 && c !== lit.c && Math.abs(c - lit.c) * size < slanted) continue;
      context.save();
      context.translate(middle + 1, columnHead - 7);
      context.rotate(-SLANT);
      label(scene.columns[c].label, 0, 0, LABEL, c === lit.c);
      context.restore();
    }
    context.restore();
    context.fillStyle = colours.muted;
    context.font = `11px ${colours.sans}`;
    context.textAlign = "right";
    context.fillText("from ↓   to →", rowHead - 8, columnHead - 10);
  }

  const shortened = new Map();
  function label(text, x, y, most, strong) {
    const key = `${most} ${text}`;
    if (!shortened.has(key)) {
      context.font = `600 ${FONT}px ${colours.sans}`; // the wider of the two, so that it fits in both
      let short = text;
      while (short.length > 3 && context.measureText(`${short}…`).width > most && context.measureText(text).width > most) short = short.slice(0, -1);
      shortened.set(key, short === text ? text : `${short}…`);
    }
    context.fillStyle = strong ? colours.text : colours.muted;
    context.font = `${strong ? "600 " : ""}${FONT}px ${colours.sans}`;
    context.fillText(shortened.get(key), x, y);
    context.font = `${FONT}px ${colours.sans}`;
  }

  // ---------------------------------------------------------------------------------------------
  // 6. Pointing: mouse, keyboard, tooltip
  // ---------------------------------------------------------------------------------------------

  // What is under a point of the window: {r, c}, with r or c -1 on the other axis' header.
  function spotAt(clientX, clientY) {
    if (!scene || !scene.rows.length || !scene.columns.length) return null;
    const box = canvas.getBoundingClientRect();
    const { size, x, y, rowHead, columnHead } = layout;
    const px = clientX - box.left;
    const py = clientY - box.top;
    const find = (array, count, value) => {
      if (value < 0 || value >= array[count]) return -1;
      const index = floorIndex(array.subarray(0, count), value);
      return value - array[index] < size ? index : -1;
    };
    const c = px < rowHead ? -1 : find(x, scene.columns.length, px - rowHead + scroller.scrollLeft);
    const r = py < columnHead ? -1 : find(y, scene.rows.length, py - columnHead + scroller.scrollTop);
    if (r < 0 && c < 0) return null;
    if ((r < 0 && py >= columnHead) || (c < 0 && px >= rowHead)) return null;
    return { r, c };
  }

  function rectOf(r, c) {
    const box = canvas.getBoundingClientRect();
    return {
      x: box.left + layout.rowHead + layout.x[c] - scroller.scrollLeft,
      y: box.top + layout.columnHead + layout.y[r] - scroller.scrollTop,
      width: layout.size, height: layout.size,
    };
  }

  function reveal(r, c) {
    const { size, x, y, rowHead, columnHead } = layout;
    const width = scroller.clientWidth - rowHead;
    const height = scroller.clientHeight - columnHead;
    if (x[c] < scroller.scrollLeft) scroller.scrollLeft = x[c];
    if (x[c] + size > scroller.scrollLeft + width) scroller.scrollLeft = x[c] + size - width;
    if (y[r] < scroller.scrollTop) scroller.scrollTop = y[r];
    if (y[r] + size > scroller.scrollTop + height) scroller.scrollTop = y[r] + size - height;
  }

  function open(r, c) {
    const row = scene.rows[r];
    const column = scene.columns[c];
    if (scene.level === "endpoints") {
      if (r >= 0 && c >= 0 && scene.between(r, c).length) go({ cell: { src: row.id, dst: column.id }, at: "" });
      else if (r >= 0 && c < 0) go({ rows: { endpoint: row.id }, columns: { all: true }, cell: null, at: "" });
      else if (c >= 0 && r < 0) go({ rows: { all: true }, columns: { endpoint: column.id }, cell: null, at: "" });
      return;
    }
    if (!has("cells")) {
      if (r >= 0 && c >= 0) showPair(r, c);
      return;
    }
    go({ rows: r < 0 ? { all: true } : { group: row.id }, columns: c < 0 ? { all: true } : { group: column.id }, cell: null, at: "" });
  }

  function describe(r, c) {
    const title = `${scene.rows[r].key} → ${scene.columns[c].key}`;
    if (scene.level === "groups") {
      const counts = scene.between(r, c);
      const lines = T.verdicts.map((v, i) => ({ verdict: v.name, text: v.name, count: counts[i] })).filter(({ count }) => count);
      return { title, lines: lines.map((line) => ({ ...line, figure: figure(line.count) })), more: 0 };
    }
    const found = scene.between(r, c);
    const lines = found.slice(0, 8).map(({ code, slice }) => {
      const state = stateOf(code);
      const name = T.verdicts[state.verdict].name;
      const why = state.blame && state.verdict === BLOCKED ? `${name} by ${state.blame.label}` : `${name}: ${state.cause}`;
      return { verdict: name, text: `${sliceName(slice)} ${why}`, figure: "" };
    });
    return { title, lines, more: found.length - lines.length };
  }

  function tell() {
    if (!scene.rows.length || !scene.columns.length) return;
    const { title, lines } = describe(cursor.r, cursor.c);
    $("status").textContent = `${title}: ${lines.map((line) => `${line.figure} ${line.text}`.trim()).join("; ") || "no cells"}`;
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
      ...lines.map((line) => el("div", { class: "row" }, glyph(line.verdict), el("span", {}, line.text), el("span", { class: "number" }, line.figure))),
      more > 0 ? el("span", { class: "muted" }, `and ${more} more`) : "",
      lines.length ? "" : el("span", { class: "muted" }, "no cells"),
    );
    tooltip.hidden = false;
    const box = tooltip.getBoundingClientRect();
    const left = clientX + 16 + box.width > window.innerWidth ? clientX - 12 - box.width : clientX + 16;
    const top = clientY + 18 + box.height > window.innerHeight ? clientY - 12 - box.height : clientY + 18;
    tooltip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }

  function listenToMap() {
    scroller.addEventListener("mousemove", (event) => {
      const spot = spotAt(event.clientX, event.clientY);
      hover = spot && spot.r >= 0 && spot.c >= 0 ? spot : null;
      scroller.classList.toggle("over", spot !== null);
      showTooltip(spot, event.clientX, event.clientY);
      redraw();
    });
    scroller.addEventListener("mouseleave", () => { hover = null; showTooltip(null); redraw(); });
    scroller.addEventListener("scroll", () => { hover = null; showTooltip(null); redraw(); });
    scroller.addEventListener("click", (event) => {
      const spot = spotAt(event.clientX, event.clientY);
      if (!spot) return;
      cursor = { r: Math.max(0, spot.r), c: Math.max(0, spot.c) };
      showTooltip(null);
      open(spot.r, spot.c);
      redraw();
    });
    scroller.addEventListener("keydown", (event) => {
      const page = 10;
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-page, 0], PageDown: [page, 0], Home: [0, -1e9], End: [0, 1e9] };
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (moves[event.key] && scene.rows.length && scene.columns.length) {
        const [down, across] = moves[event.key];
        cursor = { r: clamp(cursor.r + down, 0, scene.rows.length - 1), c: clamp(cursor.c + across, 0, scene.columns.length - 1) };
        hover = null;
        reveal(cursor.r, cursor.c);
        tell();
        redraw();
      } else if (event.key === "Enter" && scene.rows.length && scene.columns.length) open(cursor.r, cursor.c);
      else if (event.key === "+" || event.key === "=") zoomBy(1.3);
      else if (event.key === "-") zoomBy(1 / 1.3);
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

  function zoomBy(factor) {
    zoom = clamp(zoom * factor, 0.3, 6);
    arrange();
    reveal(cursor.r, cursor.c);
    redraw();
  }

  // ---------------------------------------------------------------------------------------------
  // 7. The panel: one cell, one policy, or one pair of namespaces
  // ---------------------------------------------------------------------------------------------

  let panelTurn = 0; // a slow answer must not replace a later one

  function setPanel(children) {
    const panel = $("panel");
    panel.replaceChildren(...children.flat().filter(Boolean));
    panel.hidden = false;
    $("overview").hidden = true;
    panel.scrollTop = 0;
    const current = panel.querySelector(".box .on");
    if (current) current.closest(".box").scrollTop = current.offsetTop - 60;
    for (const pre of panel.querySelectorAll("details[open] pre")) bringMarked(pre);
  }

  // Scrolls a text, not the page, to its first marked line.
  function bringMarked(pre) {
    const line = pre.querySelector(".on");
    if (line) pre.scrollTop = Math.max(0, line.offsetTop - 60);
  }

  function closePanel() {
    panelTurn += 1;
    $("panel").hidden = true;
    $("panel").replaceChildren();
    $("overview").hidden = false;
  }

  const heading = (text) => el("h3", {}, text);
  const head = (...children) => el("div", { class: "head" }, el("div", {}, ...children),
    el("button", { class: "close", type: "button", "aria-label": "Close", testid: "panel-close", on: { click: () => { goBack(); closePanel(); scroller.focus(); } } }, "×"));

  function terms(pairs) {
    return el("dl", {}, pairs.filter(([, text]) => text).map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
  }

  async function showCell() {
    panelTurn += 1;
    const turn = panelTurn;
    const { src, dst } = view.cell;
    const cells = await cellsOfPair(src, dst);
    if (turn !== panelTurn) return;
    if (!cells.length) {
      setPanel([head(), el("p", { testid: "panel-sentence", class: "sentence" }, `There is no cell from ${keyOf(src)} to ${keyOf(dst)} in this run.`)]);
      return;
    }
    const cell = cellToShow(cells);
    const verdict = T.verdicts[cell.state.verdict].name;
    const parts = [
      head(el("span", { class: "verdict", testid: "panel-verdict" }, glyph(verdict), verdict)),
      el("p", { class: "sentence", testid: "panel-sentence", role: "status" }, sentenceOf(src, dst, cell)),
      cells.length > 1 ? [heading("Every port of this pair"), portTable(cells, cell)] : null,
      await blamePart(cell),
      heading("Reply"), replyPart(cell),
      heading("Commands"), commandPart(src, dst, cell),
      await tracePart(cell),
    ];
    if (turn === panelTurn) setPanel(parts.flat());
  }

  // The port asked for, else the first that is stopped, else the first that is unproven.
  function cellToShow(cells) {
    const within = cells.filter((cell) => sliceChosen(cell.slice));
    const some = within.length ? within : cells;
    return cells.find((cell) => view.at && sliceName(cell.slice) === view.at)
      || some.find((cell) => stops(cell.state.verdict))
      || some.find((cell) => unproven(cell.state.verdict))
      || some[0];
  }

  function portTable(cells, shown) {
    return el("div", { class: "box" }, el("table", { class: "ports", testid: "panel-ports" }, el("tbody", {}, cells.map((cell) => {
      const name = T.verdicts[cell.state.verdict].name;
      const reply = passes(cell.state.verdict) && cell.state.reply !== NO_VERDICT && !passes(cell.state.reply) ? `, reply ${T.verdicts[cell.state.reply].name}` : "";
      return el("tr", { class: cell === shown ? "on" : "" },
        el("td", {}, el("button", { type: "button", "aria-current": cell === shown ? "true" : null, on: { click: () => go({ at: sliceName(cell.slice) }) } }, sliceName(cell.slice))),
        el("td", {}, el("span", { class: "state" }, glyph(name), `${name}${reply}`)),
        el("td", {}, cell.state.blame ? cell.state.blame.label : ""));
    }))));
  }

  async function blamePart(cell) {
    const { blame, verdict, reason } = cell.state;
    const code = terms([["Reason", T.reasons[reason]]]);
    if (!blame) return [heading("Decided by"), el("p", { testid: "panel-policy" }, "No policy and no ACL."), code];
    const title = heading(verdict === BLOCKED ? "Blocked by" : "Decided by");
    const index = blame.policy;
    const policy = index >= 0 ? T.policies[index] : null;
    const facts = terms([
      ["Direction", blame.direction && `${blame.direction}${ofWhom(blame.direction)}`],
      ["Rule", blame.rule >= 0 ? `spec.${blame.direction}[${blame.rule}]` : policy ? "no single rule" : ""],
      ["Reason", T.reasons[reason]],
      ["ACL", blame.acl && `${blame.acl} (${blame.action})`],
      ["Match", blame.match],
      ["Stage", blame.stage],
      ["Logical flow", blame.flow],
      ["Zone", blame.zone],
    ]);
    const name = policy ? el("p", { class: "name" }, policy.label) : el("p", { class: "name" }, blame.label);
    return [
      title,
      el("div", { testid: "panel-policy" }, name, facts),
      policy ? await yamlPart(index, blame) : null,
      ...await othersPart(blame),
    ];
  }

  const ofWhom = (direction) => (direction === "ingress" ? " (of the destination)" : direction === "egress" ? " (of the source)" : "");

  // A policy's YAML with the rule marked that decided; for a default deny, what makes it one.
  async function yamlPart(index, blame, folded) {
    const policy = T.policies[index];
    if (!policy.known) return el("p", { class: "muted" }, "The run does not have this object's text.");
    if (!has("manifests")) return null;
    const lines = (await manifests(0))[index].replace(/\n$/, "").split("\n");
    const rules = policy.marks[blame.direction] || [];
    const marks = blame.rule >= 0 ? rules.slice(blame.rule, blame.rule + 1) : policy.marks.selector;
    const pre = el("pre", { testid: "panel-yaml", tabindex: "0" }, lines.map((line, n) => el("span", { class: marks.some(([from, to]) => n >= from && n < to) ? "on" : null }, line || " ")));
    return el("details", { open: !folded }, el("summary", {}, folded ? policy.label : "YAML"), pre);
  }

  async function othersPart(blame) {
    const others = blame.policies.filter((index) => index !== blame.policy);
    if (!others.length) return [];
    const parts = await Promise.all(others.map((index) => yamlPart(index, { ...blame, rule: -1 }, true).then((part) => (part && part.tagName === "DETAILS" ? part : el("p", {}, T.policies[index].label)))));
    return [
      heading(`${others.length} more ${others.length === 1 ? "policy shares" : "policies share"} this decision`),
      el("div", { testid: "panel-others" }, el("p", { class: "muted" }, "A rule in any of them could allow it; taking away one of them alone would not."), ...parts),
    ];
  }

  function replyPart(cell) {
    const { reply } = cell.state;
    return el("p", { testid: "panel-reply" }, reply === NO_VERDICT ? T.noReply : T.verdicts[reply].reply);
  }

  function command(text) {
    const code = el("code", {}, text);
    const button = el("button", { type: "button", on: { click: () => copy(code, button) } }, "Copy");
    return el("div", { class: "command" }, code, button);
  }

  // The clipboard may be closed to a page opened from disk: the text is then selected instead.
  async function copy(code, button) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  // The shortest word `audit explain` knows an endpoint by that means nothing else in this run.
  function argument(endpoint) {
    const name = shortName(endpoint);
    const kind = T.endpoints[endpoint][1];
    if (kind === "external") return keyOf(endpoint);
    const alone = T.endpoints.filter((_, other) => shortName(other) === name).length === 1;
    return kind === "pod" && alone ? name : `${kind}/${name}`;
  }

  function kubectl(policy) {
    const space = policy.namespace ? ["-n", policy.namespace] : [];
    return ["kubectl", ...space, "get", policy.kind.toLowerCase(), policy.name, "-o", "yaml"].map(shellWord).join(" ");
  }

  function commandPart(src, dst, cell) {
    const [family, port] = T.slices[cell.slice];
    const words = ["audit", "explain", T.path, argument(src), argument(dst), T.ports[port]];
    if (T.bothFamilies) words.push("--family", T.families[family]);
    const { blame } = cell.state;
    const policy = blame && blame.policy >= 0 ? T.policies[blame.policy] : null;
    return el("div", { testid: "panel-commands" }, command(words.map(shellWord).join(" ")), policy ? command(kubectl(policy)) : null);
  }

  async function tracePart(cell) {
    if (!has("hops")) return [heading("Traces"), el("p", { class: "muted", testid: "panel-hops" }, "Not in this page: the first command shows them with --raw.")];
    if (cell.start < 0) return [heading("Traces"), el("p", { class: "muted", testid: "panel-hops" }, "This cell has no trace.")];
    const request = await chain(cell.start);
    const reply = await chain(...request.map(({ hop }) => hop[12]).filter((number) => number >= 0));
    return [
      heading("Traces of the request"),
      data.composes ? el("p", { class: "muted", testid: "panel-composed" }, "Where the addresses below are not this cell's own, the cell is composed: an equivalent packet was traced.") : null,
      hopList(request, "panel-hops"),
      ...(reply.length ? [heading("Traces of the reply"), hopList(reply, "panel-reply-hops")] : []),
    ];
  }

  async function chain(...queue) {
    const found = new Map();
    for (const number of queue) {
      if (found.has(number)) continue;
      const hop = (await hopChunk(Math.floor(number / data.tracesPerChunk)))[number % data.tracesPerChunk];
      found.set(number, hop);
      queue.push(...hop[11]);
    }
    return [...found].map(([number, hop]) => ({ number, hop }));
  }

  function hopList(hops, testid) {
    return el("ol", { class: "hops", testid }, hops.map(({ number, hop }) => {
      const [zone, state, outcome, reason, stage, flow, acl, match, policy, microflow, detail] = hop;
      return el("li", {},
        el("p", {}, el("b", {}, `zone ${zone}: ${outcome}`), reason ? ` (${reason})` : "", stage ? ` at ${stage}` : ""),
        terms([["Policy", policy], ["ACL", acl], ["Match", match], ["Logical flow", flow], ["Conntrack", state], ["Microflow", microflow], ["Detail", detail]]),
        has("raw") ? rawPart(number, flow) : el("p", { class: "muted", testid: "panel-raw" }, "The raw trace is not in this page: the first command shows it with --raw."));
    }));
  }

  function rawPart(number, flow) {
    const details = el("details", { testid: "panel-raw" }, el("summary", {}, "Raw trace"));
    details.addEventListener("toggle", async () => {
      if (!details.open || details.childElementCount > 1) return;
      const pre = el("pre", { tabindex: "0" }, "…");
      details.append(pre);
      const [chunk, lines] = await Promise.all([rawChunk(Math.floor(number / data.tracesPerChunk)), rawLines(0)]);
      const prefix = flow.slice(0, 8);
      pre.replaceChildren(...chunk[number % data.tracesPerChunk].map((n) => el("span", { class: prefix && lines[n].includes(prefix) ? "on" : null }, lines[n] || " ")));
      bringMarked(pre);
    });
    return details;
  }

  async function showPolicy(index) {
    panelTurn += 1;
    const turn = panelTurn;
    const [label, policy, cells, shared, pairs] = T.blockers[index];
    const about = policy >= 0 ? T.policies[policy] : null;
    const yaml = about ? await yamlPart(policy, { direction: "", rule: -1 }) : null;
    if (turn !== panelTurn) return;
    const link = ([g, h, count]) => el("li", {}, el("button", { type: "button", on: { click: () => go({ rows: { group: g }, columns: { group: h }, cell: null }) } },
      el("span", {}, `${T.groups[g]} → ${T.groups[h]}`), el("span", { class: "number" }, figure(count))));
    setPanel([
      head(el("span", { class: "verdict", testid: "panel-policy" }, label)),
      el("p", { testid: "panel-sentence" }, `Blocks ${cellsText(cells)}${shared ? `, and shares the default deny of ${figure(shared)} more` : ""}.`),
      ...(pairs.length ? [heading("Where it blocks most"), el("ul", { class: "links" }, pairs.slice(0, 8).map(link))] : []),
      heading("Commands"), about ? command(kubectl(about)) : command(["audit", "explain", T.path, "SRC", "DST", "PORT"].map(shellWord).join(" ")),
      ...(yaml ? [heading("Object"), yaml] : []),
    ]);
  }

  // A pair of namespaces, where the page does not have the cells below it.
  function showPair(r, c) {
    const { title, lines } = describe(r, c);
    const sql = `SELECT src_name, dst_name, protocol, port, verdict, blame_name FROM cells WHERE src_namespace = ${sqlText(scene.rows[r].key)} AND dst_namespace = ${sqlText(scene.columns[c].key)}`;
    const proven = lines.filter((line) => !["inconclusive", "untraced"].includes(line.verdict)).reduce((sum, line) => sum + line.count, 0);
    panelTurn += 1;
    setPanel([
      head(el("span", { class: "verdict", testid: "panel-sentence" }, title)),
      el("table", { class: "ports" }, el("tbody", {}, lines.map((line) => el("tr", {},
        el("td", {}, el("span", { class: "state" }, glyph(line.verdict), line.text)),
        el("td", { class: "number" }, line.figure),
        el("td", { class: "number" }, ["inconclusive", "untraced"].includes(line.verdict) ? "not counted" : percent(line.count, proven)))))),
      heading("Commands"), command(["audit", "query", T.path, sql].map(shellWord).join(" ")),
    ]);
  }

  // ---------------------------------------------------------------------------------------------
  // 8. Around the map: breadcrumbs, selectors, search, the table for screen readers
  // ---------------------------------------------------------------------------------------------

  function drawCrumbs() {
    const crumb = (text, change) => (change ? el("button", { type: "button", on: { click: () => { go(change); scroller.focus({ preventScroll: true }); } } }, text) : el("span", {}, text));
    const next = () => el("span", { class: "next", "aria-hidden": "true" }, "›");
    const parts = [crumb("All namespaces", view.rows ? { rows: null, columns: null, cell: null, at: "" } : null)];
    const name = (spec) => (spec.all ? "everything" : specText(spec));
    if (view.rows) parts.push(next(), crumb(`${name(view.rows)} → ${name(view.columns)}`, view.cell ? { cell: null, at: "" } : null));
    if (view.cell) parts.push(next(), crumb(`${shortName(view.cell.src)} → ${shortName(view.cell.dst)}`, null));
    if (view.policy) parts.push(next(), crumb(`only ${view.policy}`, null), el("button", { type: "button", "aria-label": "Show everything", on: { click: () => go({ policy: "" }) } }, "×"));
    $("crumbs").replaceChildren(...parts);
  }

  function fillSelectors() {
    const option = (value, text) => el("option", { value }, text);
    $("port").replaceChildren(option("", "all"), ...T.ports.filter((_, p) => T.slices.some(([, port]) => port === p)).map((port) => option(port, port)));
    $("family").replaceChildren(option("", "both"), ...T.families.map((family) => option(family, family)));
    $("family-label").hidden = !T.bothFamilies;
    $("port").addEventListener("change", () => go({ port: $("port").value, at: "" }));
    $("family").addEventListener("change", () => go({ family: $("family").value, at: "" }));
    $("smaller").addEventListener("click", () => zoomBy(1 / 1.3));
    $("larger").addEventListener("click", () => zoomBy(1.3));
    for (const button of document.querySelectorAll("[data-blocker]")) {
      button.addEventListener("click", () => {
        const [label] = T.blockers[Number(button.dataset.blocker)];
        go({ policy: label, cell: null, at: "" });
      });
    }
  }

  const MOST_FOUND = 14;

  function search(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const found = [];
    const matches = (name) => name.toLowerCase().includes(wanted);
    T.groups.forEach((name, group) => {
      if (matches(name)) found.push({ name, as: "all of it, as source", change: { rows: { group }, columns: { all: true } } });
    });
    T.endpoints.forEach(([key], endpoint) => {
      if (found.length >= MOST_FOUND || !matches(key)) return;
      if (rowOf[endpoint] >= 0) found.push({ name: key, as: "as source", change: { rows: { endpoint }, columns: { all: true } } });
      if (firstColumn[endpoint + 1] > firstColumn[endpoint]) found.push({ name: key, as: "as destination", change: { rows: { all: true }, columns: { endpoint } } });
    });
    return found.slice(0, MOST_FOUND);
  }

  function listenToSearch() {
    const input = $("search");
    const list = $("found");
    let found = [];
    let at = 0;
    const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
    const choose = (index) => {
      if (!found[index]) return;
      close();
      input.value = "";
      go({ ...found[index].change, cell: null, at: "" });
      scroller.focus({ preventScroll: true });
    };
    const render = () => {
      list.replaceChildren(...found.map((entry, i) => el("li", { id: `found-${i}`, role: "option", "aria-selected": String(i === at), on: { mousedown: (event) => { event.preventDefault(); choose(i); } } },
        el("span", {}, entry.name), el("span", { class: "as" }, entry.as))));
      if (!found.length) list.replaceChildren(el("li", { "aria-disabled": "true" }, el("span", { class: "as" }, "nothing in this run")));
      list.hidden = !input.value.trim();
      input.setAttribute("aria-expanded", String(!list.hidden));
      if (found.length) input.setAttribute("aria-activedescendant", `found-${at}`);
    };
    input.addEventListener("input", () => { found = has("cells") ? search(input.value) : []; at = 0; render(); });
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        at = clamp(at + (event.key === "ArrowDown" ? 1 : -1), 0, Math.max(0, found.length - 1));
        render();
      } else if (event.key === "Enter") choose(at);
      else if (event.key === "Escape") { input.value = ""; close(); scroller.focus({ preventScroll: true }); } else return;
      event.preventDefault();
    });
  }

  const MOST_LISTED = 1000;

  // What the canvas shows, for who does not see it.
  function listCells() {
    const place = $("cells-table");
    if (scene.level !== "endpoints" || !scene.rows.length) return place.replaceChildren();
    const rows = [];
    let left = 0;
    for (let r = 0; r < scene.rows.length; r += 1) {
      if (rows.length >= MOST_LISTED) { left = scene.rows.length - r; break; }
      for (let c = 0; c < scene.columns.length && rows.length < MOST_LISTED; c += 1) {
        for (const { code, slice } of scene.between(r, c)) {
          const state = stateOf(code);
          rows.push(el("tr", {}, el("th", { scope: "row" }, scene.rows[r].key), el("td", {}, scene.columns[c].key), el("td", {}, sliceName(slice)), el("td", {}, T.verdicts[state.verdict].name), el("td", {}, state.cause)));
        }
      }
    }
    const note = left ? `, the first ${figure(rows.length)} of them` : "";
    place.replaceChildren(el("table", {}, el("caption", {}, `Cells from ${specText(view.rows)} to ${specText(view.columns)}${note}`),
      el("thead", {}, el("tr", {}, ["Source", "Destination", "Port", "Verdict", "Why"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows)));
    return undefined;
  }

  // ---------------------------------------------------------------------------------------------
  // 9. Showing a view, and starting
  // ---------------------------------------------------------------------------------------------

  let turn = 0;
  let drawn = "";

  async function show() {
    turn += 1;
    const mine = turn;
    const before = view;
    view = fromHash(location.hash);
    const wanted = toHash({ ...view, cell: null, at: "" });
    if (wanted !== drawn || !scene) {
      scroller.setAttribute("aria-busy", "true");
      const fresh = view.rows ? await endpointScene() : groupScene();
      if (mine !== turn) return;
      scene = fresh;
      drawn = wanted;
      settle(before);
      listCells();
    }
    scroller.removeAttribute("aria-busy");
    $("port").value = view.port;
    $("family").value = view.family;
    document.body.dataset.level = scene.level;
    for (const node of document.querySelectorAll(".at-groups")) node.hidden = scene.level !== "groups";
    drawCrumbs();
    redraw();
    if (view.cell) await showCell();
    else if (view.policy && T.blockers.some(([label]) => label === view.policy)) await showPolicy(T.blockers.findIndex(([label]) => label === view.policy));
    else closePanel();
  }

  // Where the cursor stands in a new scene: where it came from, else at the start.
  function settle(before) {
    const samePlace = before.rows && view.rows && toHash({ ...before, ...{ port: "", family: "", cell: null, policy: "" } }) === toHash({ ...view, ...{ port: "", family: "", cell: null, policy: "" } });
    if (!samePlace) {
      zoom = 1;
      scroller.scrollTo(0, 0);
      const from = (entries, spec) => Math.max(0, entries.findIndex((entry) => spec && entry.id === (spec.group ?? -1)));
      cursor = scene.level === "groups" ? { r: from(scene.rows, before.rows), c: from(scene.columns, before.columns) } : { r: 0, c: 0 };
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
    $("loading").hidden = true;
    scroller.hidden = false;
    listenToMap();
    listenToSearch();
    await show();
    window.addEventListener("hashchange", show);
    new ResizeObserver(() => { if (scene) { arrange(); redraw(); } }).observe(scroller.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
    window.addEventListener("beforeprint", draw);
  }

  const ready = start().catch((error) => {
    $("loading").hidden = false;
    $("loading").textContent = `The cells cannot be shown: ${error.message}`;
    throw error;
  });

  // For who drives the page from outside: where a cell is, as window coordinates of its square.
  window.auditReport = {
    ready,
    cellRect(source, destination) {
      const r = scene.rows.findIndex((entry) => entry.key === source);
      const c = scene.columns.findIndex((entry) => entry.key === destination);
      if (r < 0 || c < 0) return null;
      reveal(r, c);
      scroller.scrollIntoView({ block: "nearest" });
      draw();
      return rectOf(r, c);
    },
    where: () => ({ level: scene.level, cursor: { source: scene.rows[cursor.r]?.key, destination: scene.columns[cursor.c]?.key } }),
  };
})();
