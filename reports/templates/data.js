// Data: tables and classes at once, traces when they are looked at.

import { breathe } from "./tools.js";

export const REACHABLE = 0;
export const EXITS = 1;
export const BLOCKED = 2;
const UNROUTABLE = 3;
export const INCONCLUSIVE = 4;
export const VERDICTS = 6; // how many there are
export const ABSENT = 6; // no such cell, or a plane that was not asked
export const NO_VERDICT = 7;
export const passes = (verdict) => verdict === REACHABLE || verdict === EXITS;
export const stops = (verdict) => verdict === BLOCKED || verdict === UNROUTABLE;
export const unproven = (verdict) => verdict === 4 || verdict === 5;
// A state's entries: see payload.py.
export const S = {
  verdict: 0,
  reply: 1,
  reason: 2,
  cause: 3,
  blame: 4,
  intent: 5,
  logical: 6,
  datapath: 7,
  probe: 8,
  drift: 9,
  changed: 10,
  decider: 11,
  shared: 12,
};

export let data = null; // what the page's data block says, its larger parts still compressed
export const has = (name) => !data.leftOut.includes(name);
export let T = null; // the tables
export let pairs = null; // counts by source group × destination group × verdict
export let firstColumn = null; // of each destination, and one past the last
export let rowOf = null; // of each endpoint, -1 where it is no source
export const cells = {}; // rowClass, columnClass, base, width, begins, columns, codes, rowRank, columnRank

export function setData(block) {
  data = block;
}

export function setTables(tables) {
  T = tables;
}

const PIECE = 32_768; // letters, four to three bytes: a stream inflates at once what it is given

async function inflate(text) {
  const { readable, writable } = new DecompressionStream("deflate-raw");
  const inflated = new Response(readable).arrayBuffer();
  const writer = writable.getWriter();
  for (let at = 0; at < text.length; at += PIECE) {
    await breathe();
    const binary = atob(text.slice(at, at + PIECE));
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    await writer.write(bytes);
  }
  writer.close();
  return inflated;
}

async function json(text) {
  const bytes = await inflate(text);
  await breathe();
  return JSON.parse(new TextDecoder().decode(bytes));
}

// Remembers the last few results: a reader looks at one place at a time.
export function remembering(most, make) {
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

const startChunk = (name) =>
  remembering(4, async (chunk) => {
    const starts = new Int32Array(await inflate(data.blobs[name][chunk]));
    for (let i = 1; i < starts.length; i += 1) starts[i] += starts[i - 1]; // stored as differences
    return starts;
  });
const chunksOf = { starts: startChunk("starts"), others: startChunk("others") };
const hopChunk = remembering(8, (chunk) => json(data.blobs.hops[chunk]));
export const rawChunk = remembering(4, (chunk) => json(data.blobs.raw[chunk]));
export const manifests = remembering(4, (chunk) => json(data.blobs.manifests[chunk]));
export const rawLines = remembering(1, async () => {
  const lines = [];
  for (const part of data.blobs.lines) for (const line of await json(part)) lines.push(line);
  return lines;
});

export async function load() {
  const tables = {};
  for (const piece of data.blobs.tables) {
    for (const [name, part] of Object.entries(await json(piece))) {
      if (tables[name]) for (const entry of part) tables[name].push(entry);
      else tables[name] = part;
    }
  }
  setTables(tables);
  if (!has("cells")) pairs = new Uint32Array(await inflate(data.blobs.pairs[0]));
  data.blobs.tables = data.blobs.pairs = null;
  await breathe();
  rowOf = new Int32Array(T.endpoints.length).fill(-1);
  T.sources.forEach((endpoint, row) => {
    rowOf[endpoint] = row;
  });
  firstColumn = new Int32Array(T.endpoints.length + 1);
  for (const dst of T.columnDst) firstColumn[dst + 1] += 1;
  for (let i = 0; i < T.endpoints.length; i += 1) firstColumn[i + 1] += firstColumn[i];
  await breathe();
  T.networkNames = [...T.networks, "(no network)"]; // nodes, services, and what is outside
  const networkAt = new Map(T.networkNames.map((name, index) => [name, index]));
  T.networkOf = T.endpoints.map((endpoint) => networkAt.get(endpoint[7]) ?? T.networks.length);
  T.byKey = new Map(T.endpoints.map(([key], index) => [key, index]));
  T.byGroup = new Map(T.groups.map((name, index) => [name, index]));
  T.byPolicy = new Map(T.deciders.map(([label], index) => [label, index]));
  T.byLabel = new Map(); // the sets that have it
  T.labelSets.forEach((labels, index) => {
    for (const label of labels) {
      if (!T.byLabel.has(label)) T.byLabel.set(label, new Set());
      T.byLabel.get(label).add(index);
    }
  });
  await breathe();
  loadWorkloads();
  if (has("cells")) await loadCells();
}

function loadWorkloads() {
  T.workloads = [];
  T.byWorkload = new Map();
  T.workloadOf = T.endpoints.map(([key, kind, , workload], endpoint) => {
    const name = workload && kind === "pod" ? `${T.groups[T.groupOf[endpoint]]}/${workload}` : key;
    if (!T.byWorkload.has(name)) {
      T.byWorkload.set(name, T.workloads.length);
      T.workloads.push(name);
    }
    return T.byWorkload.get(name);
  });
}

async function loadCells() {
  const Codes = { 2: Uint16Array, 4: Uint32Array }[data.codeBytes];
  const arrays = [];
  for (const chunk of data.blobs.cells) arrays.push(await inflate(chunk));
  data.blobs.cells = null;
  cells.rowClass = new Uint32Array(arrays[0]);
  cells.columnClass = new Uint32Array(arrays[1]);
  cells.base = new Codes(arrays[2]);
  await breathe();
  cells.width = cells.columnClass.reduce((most, value) => Math.max(most, value + 1), 0);
  const counts = new Uint32Array(arrays[3]);
  cells.begins = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i += 1) cells.begins[i + 1] = cells.begins[i] + counts[i];
  await breathe();
  cells.columns = new Uint32Array(arrays[4]);
  for (let row = 0; row < counts.length; row += 1) {
    for (let i = cells.begins[row] + 1; i < cells.begins[row + 1]; i += 1)
      cells.columns[i] += cells.columns[i - 1];
  }
  cells.codes = new Codes(arrays[5]);
  cells.rowRank = new Float32Array(arrays[6]);
  cells.columnRank = new Float32Array(arrays[7]);
}

// How a cell changed since the earlier run: payload's marks are 0 for not at all, one more than the
// verdict it had, and UNMATCHED for a cell that the earlier run has no counterpart of.
export const UNMATCHED = 7;
export const changedAtAll = (mark) => mark > 0 && mark < UNMATCHED;
export const hasOpened = (mark, verdict) =>
  changedAtAll(mark) && passes(verdict) && !passes(mark - 1);
export const hasClosed = (mark, verdict) =>
  changedAtAll(mark) && stops(verdict) && !stops(mark - 1);

// The code of the state of one cell: its classes', unless it is an exception.
export function codeAt(row, column) {
  let low = cells.begins[row];
  let high = cells.begins[row + 1] - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = cells.columns[middle];
    if (found === column) return cells.codes[middle];
    if (found < column) low = middle + 1;
    else high = middle - 1;
  }
  return cells.base[cells.rowClass[row] * cells.width + cells.columnClass[column]];
}

export const keyOf = (endpoint) => T.endpoints[endpoint][0];
export const shortName = (endpoint) => keyOf(endpoint).slice(T.endpoints[endpoint][1].length + 1);
export const sliceName = (slice) => {
  const [family, port] = T.slices[slice];
  return T.bothFamilies ? `${T.ports[port]} ${T.families[family]}` : T.ports[port];
};

// Every cell from one endpoint to another: {slice, code, state, start, other}, by port.
export async function cellsOfPair(src, dst) {
  const row = rowOf[src];
  if (row < 0 || !has("cells")) return [];
  const chunk = Math.floor(row / data.rowsPerChunk);
  const base = (row % data.rowsPerChunk) * T.columnDst.length;
  const chains = async (name) => (has("hops") && data.blobs[name] ? chunksOf[name](chunk) : null);
  const [starts, others] = [await chains("starts"), await chains("others")];
  const found = [];
  for (let column = firstColumn[dst]; column < firstColumn[dst + 1]; column += 1) {
    const code = codeAt(row, column);
    if (!code) continue;
    found.push({
      slice: T.columnSlice[column],
      code,
      state: stateOf(code),
      start: starts ? starts[base + column] - 1 : -1,
      other: others ? others[base + column] - 1 : -1,
    });
  }
  return found;
}

// Traces by their numbers, and those that follow on them: {number, hop}.
export async function chain(...queue) {
  const found = new Map();
  for (const number of queue) {
    if (found.has(number)) continue;
    const hop = (await hopChunk(Math.floor(number / data.tracesPerChunk)))[
      number % data.tracesPerChunk
    ];
    found.set(number, hop);
    queue.push(...hop[11]);
  }
  return [...found].map(([number, hop]) => ({ number, hop }));
}

export function stateOf(code) {
  const row = T.states[code - 1];
  return {
    verdict: row[S.verdict],
    reply: row[S.reply],
    reason: row[S.reason],
    cause: T.causes[row[S.cause]],
    blame: row[S.blame] < 0 ? null : T.blames[row[S.blame]],
    intent: row[S.intent],
    logical: row[S.logical],
    datapath: row[S.datapath],
    probe: row[S.probe],
    drift: row[S.drift] === 1,
    changed: row[S.changed],
    decider: row[S.decider],
    shared: row[S.shared],
  };
}

export function sentenceOf(src, dst, cell) {
  const [family, port] = T.slices[cell.slice];
  const over = T.bothFamilies ? ` over ${T.families[family]}` : "";
  return `${keyOf(src)} ${T.verdicts[cell.state.verdict].verb} ${keyOf(dst)} on ${T.ports[port]}${over}: ${cell.state.cause}.`;
}
