// Scenes: what is drawn, as rows, columns and a way to ask what is between them. Of thousands of
// pods one takes longer to make than a frame may: generators, for inSlices, of the view that is wanted.

import { clamp } from "./tools.js";
import {
  ABSENT,
  BLOCKED,
  cells,
  changedAtAll,
  codeAt,
  firstColumn,
  has,
  hasClosed,
  hasOpened,
  keyOf,
  NO_VERDICT,
  pairs,
  passes,
  remembering,
  rowOf,
  S,
  shortName,
  stops,
  T,
  UNMATCHED,
  unproven,
  VERDICTS,
} from "./data.js";
import { hashOf, levelOf, sliceChosen } from "./view.js";

export let scene = null; // what is drawn

export function setScene(made) {
  scene = made;
}

// Of a tally, after the six verdicts.
export const DRIFTS = 6;
export const HITS = 7;
export const OPENED = 8;
export const CLOSED = 9;
export const FRESH = 10; // the earlier run has no counterpart
export const FIELDS = 11;

// What the chosen plane says of each state, and which states the filters mean.
export function lookups(v) {
  const shown = new Uint8Array(T.states.length + 1).fill(ABSENT);
  const hit = new Uint8Array(T.states.length + 1);
  const drift = new Uint8Array(T.states.length + 1);
  const lost = new Uint8Array(T.states.length + 1);
  const opened = new Uint8Array(T.states.length + 1);
  const closed = new Uint8Array(T.states.length + 1);
  const fresh = new Uint8Array(T.states.length + 1);
  const column = v.plane ? S[v.plane] : S.verdict;
  const policy = v.policy ? T.byPolicy.get(v.policy) : -1;
  const wanted = T.verdicts.findIndex(({ name }) => name === v.only);
  T.states.forEach((state, i) => {
    const verdict = state[column] === NO_VERDICT ? ABSENT : state[column];
    shown[i + 1] = verdict;
    drift[i + 1] = state[S.drift];
    lost[i + 1] = passes(verdict) && stops(state[S.reply]) ? 1 : 0;
    const mark = state[S.changed];
    opened[i + 1] = hasOpened(mark, state[S.verdict]) ? 1 : 0;
    closed[i + 1] = hasClosed(mark, state[S.verdict]) ? 1 : 0;
    fresh[i + 1] = mark === UNMATCHED ? 1 : 0;
    const only = {
      "": true,
      unproven: unproven(verdict),
      drift: state[S.drift] === 1,
      reply: lost[i + 1] === 1,
      changed: changedAtAll(mark),
      opened: opened[i + 1] === 1,
      closed: closed[i + 1] === 1,
      new: fresh[i + 1] === 1,
    };
    const named =
      policy < 0 ||
      state[S.decider] === policy ||
      (verdict === BLOCKED && state[S.shared].includes(policy));
    hit[i + 1] =
      named && verdict !== ABSENT && (wanted >= 0 ? verdict === wanted : only[v.only]) ? 1 : 0;
  });
  return { shown, hit, drift, lost, opened, closed, fresh, filtered: policy >= 0 || v.only !== "" };
}

// With a network, pods on it, and what is on none.
function members(spec, network) {
  if (spec.endpoint !== undefined) return [spec.endpoint];
  const there = (endpoint) => !network || ["", network].includes(T.endpoints[endpoint][7]);
  const everyone = T.endpoints.map((_, index) => index).filter(there);
  if (spec.all) return everyone;
  if (spec.label !== undefined)
    return everyone.filter((e) => T.byLabel.get(spec.label).has(T.endpoints[e][5]));
  if (spec.network !== undefined) return everyone.filter((e) => T.networkOf[e] === spec.network);
  return spec.workload !== undefined
    ? everyone.filter((e) => T.workloadOf[e] === spec.workload)
    : everyone.filter((e) => T.groupOf[e] === spec.group);
}

// Puts entries into the chosen order; what is not in order of names has no gaps.
function ordered(entries, side, order) {
  if (!order) return entries;
  const rank =
    side === "rows"
      ? {
          exposure: (e) => -T.sends[e],
          similarity: (e) => (cells.rowRank ? cells.rowRank[rowOf[e]] : 0),
        }
      : {
          exposure: (e) => -T.receives[e],
          similarity: (e) => (cells.columnRank ? cells.columnRank[firstColumn[e]] : 0),
        };
  for (const entry of entries)
    entry.rank = entry.members.reduce((sum, e) => sum + rank[order](e), 0) / entry.members.length;
  entries.sort((a, b) => a.rank - b.rank || (a.key < b.key ? -1 : 1));
  for (const entry of entries) entry.gap = false;
  return entries;
}

function gathered(endpoints, of, names) {
  const found = new Map();
  for (const endpoint of endpoints) {
    const id = of[endpoint];
    if (!found.has(id))
      found.set(id, { id, key: names[id], label: names[id], members: [], gap: false });
    found.get(id).members.push(endpoint);
  }
  return [...found.values()];
}

const SOME = 250; // entries of a step

export function* makeScene(v) {
  const known = framesOf(
    hashOf(v, ["rows", "columns", "level", "network", "port", "family", "order"]),
  );
  if (!known.frame) known.frame = yield* makeFrame(v);
  const made = { ...known.frame, ...lookups(v) };
  yield;
  return made.level === "endpoints" ? endpointScene(made) : yield* tallyScene(made);
}

// What of a scene depends on no filter: its rows and columns, and where the grid's columns are.
const framesOf = remembering(3, () => ({ frame: null }));

function* makeFrame(v) {
  const level = levelOf(v);
  const rowIds = members(v.rows || { all: true }, v.network).filter((e) => rowOf[e] >= 0);
  const columnIds = members(v.columns || { all: true }, v.network).filter(
    (e) => firstColumn[e + 1] > firstColumn[e],
  );
  yield;
  const columns = ordered(yield* makeEntries(level, columnIds, v.columns), "columns", v.order);
  yield;
  const rows = ordered(yield* makeEntries(level, rowIds, v.rows), "rows", v.order);
  yield;
  const place = placesOf(columns, v);
  yield;
  return {
    level,
    rows,
    columns,
    place,
    largest: ["networks", "groups"].includes(level) ? 58 : 44,
    ...(level === "endpoints" ? yield* keptOf(columns, v) : {}),
  };
}

function* makeEntries(level, ids, spec) {
  if (level === "endpoints") return yield* endpointEntries(ids, spec);
  return level === "networks"
    ? networkEntries(ids)
    : level === "groups"
      ? groupEntries(ids)
      : workloadEntries(ids, spec);
}

// Of each destination the columns that are shown, and the class that these make it one of.
function* keptOf(entries, v) {
  const kept = [];
  const classOf = new Map();
  const classes = [];
  const dstClass = new Int32Array(entries.length);
  for (const { id } of entries) {
    const columns = [];
    for (let column = firstColumn[id]; column < firstColumn[id + 1]; column += 1)
      if (sliceChosen(T.columnSlice[column], v)) columns.push(column);
    const of = columns.map((column) => cells.columnClass[column]);
    const key = of.join();
    if (!classOf.has(key)) {
      classOf.set(key, classes.length);
      classes.push(of);
    }
    dstClass[kept.length] = classOf.get(key);
    kept.push(columns);
    if (kept.length % SOME === 0) yield;
  }
  return { kept, classes, dstClass };
}

function networkEntries(ids) {
  const entries = gathered(ids, T.networkOf, T.networkNames).sort((a, b) => a.id - b.id);
  for (const entry of entries) entry.gap = entry.id === T.networks.length;
  return entries;
}

function groupEntries(ids) {
  const entries = gathered(ids, T.groupOf, T.groups);
  for (const entry of entries)
    entry.gap = ["(nodes)", "(ingress)", "(external)"].includes(entry.key);
  return entries;
}

function workloadEntries(ids, spec) {
  const entries = gathered(ids, T.workloadOf, T.workloads);
  entries.forEach((entry, i) => {
    entry.group = T.groupOf[entry.members[0]];
    if (spec.group !== undefined)
      entry.label = entry.key.slice(T.groups[entry.group].length + 1) || entry.key;
    entry.label = entry.label.replace(/(^|\/)Pod\//, "$1"); // a pod of its own is called by its name
    entry.gap = i > 0 && entry.group !== entries[i - 1].group;
  });
  return entries;
}

function* endpointEntries(ids, spec) {
  const bare = spec.group !== undefined || spec.workload !== undefined;
  // A pod of its own is a workload of one; a gap around each of them would separate nothing.
  const alone = (e) => (T.endpoints[e][3].startsWith("Pod/") ? -1 : T.workloadOf[e]);
  const entries = [];
  for (const [i, id] of ids.entries()) {
    const before = i ? ids[i - 1] : id;
    const kind = T.endpoints[id][1];
    const name =
      bare && kind !== "external" ? shortName(id).replace(/^[^/]*\//, "") : shortName(id);
    entries.push({
      id,
      key: keyOf(id),
      label: kind === "service" ? `${name} (service)` : name,
      members: [id],
      gap:
        kind === "pod"
          ? alone(before) !== alone(id) || T.groupOf[before] !== T.groupOf[id]
          : T.endpoints[before][1] !== kind,
    });
    if (i % SOME === 0) yield;
  }
  return entries;
}

// Where columns of the grid are in the scene: an index, -1 where they are not.
function placesOf(columns, v) {
  const place = new Int32Array(T.columnDst.length).fill(-1);
  columns.forEach((entry, c) => {
    for (const dst of entry.members) {
      for (let column = firstColumn[dst]; column < firstColumn[dst + 1]; column += 1) {
        if (sliceChosen(T.columnSlice[column], v)) place[column] = c;
      }
    }
  });
  return place;
}

// Between networks, namespaces or workloads: how many cells of each verdict, counted class by class, a row
// when it is looked at.
function* tallyScene(made) {
  const { place } = made;
  const weights = new Map(); // by scene column and column class
  for (let column = 0; column < place.length && has("cells"); column += 1) {
    if (place[column] < 0) continue;
    const key = place[column] * cells.width + cells.columnClass[column];
    weights.set(key, (weights.get(key) || 0) + 1);
    if (column % (8 * SOME) === 0) yield;
  }
  const items = [...weights.entries()];
  const itemPlace = Int32Array.from(items, ([key]) => Math.floor(key / cells.width) * FIELDS);
  const itemClass = Int32Array.from(items, ([key]) => key % cells.width);
  const itemWeight = Int32Array.from(items, ([, weight]) => weight);
  const { shown, hit, drift, opened, closed, fresh } = made;
  const kinds = Uint8Array.from(
    shown,
    (verdict, code) =>
      verdict |
      (drift[code] << 3) |
      (hit[code] << 4) |
      (opened[code] << 5) |
      (closed[code] << 6) |
      (fresh[code] << 7),
  );
  const count = (counts, at, code, weight) => {
    const kind = kinds[code];
    const verdict = kind & 7;
    if (verdict === ABSENT) return;
    counts[at + verdict] += weight;
    if (kind & 8) counts[at + DRIFTS] += weight;
    if (kind & 16) counts[at + HITS] += weight;
    if (kind & 32) counts[at + OPENED] += weight;
    if (kind & 64) counts[at + CLOSED] += weight;
    if (kind & 128) counts[at + FRESH] += weight;
  };
  const tally = remembering(clamp(Math.round(400_000 / made.columns.length), 100, 700), (r) => {
    const counts = new Int32Array(made.columns.length * FIELDS);
    const rows = made.rows[r].members.map((endpoint) => rowOf[endpoint]);
    if (!has("cells")) return groupTally(made, r, counts);
    const many = new Map();
    for (const row of rows) many.set(cells.rowClass[row], (many.get(cells.rowClass[row]) || 0) + 1);
    for (const [rowClass, times] of many) {
      const base = rowClass * cells.width;
      for (let i = 0; i < itemClass.length; i += 1)
        count(counts, itemPlace[i], cells.base[base + itemClass[i]], times * itemWeight[i]);
    }
    for (const row of rows) {
      for (let i = cells.begins[row]; i < cells.begins[row + 1]; i += 1) {
        const column = cells.columns[i];
        const c = place[column];
        if (c < 0) continue;
        count(
          counts,
          c * FIELDS,
          cells.base[cells.rowClass[row] * cells.width + cells.columnClass[column]],
          -1,
        );
        count(counts, c * FIELDS, cells.codes[i], 1);
      }
    }
    return counts;
  });
  const between = (r, c) => tally(r).subarray(c * FIELDS, (c + 1) * FIELDS);
  return { ...made, between, tally };
}

// What is left when the cells did not fit the page: the namespaces, over all ports.
function groupTally(made, r, tally) {
  made.columns.forEach(({ id }, c) => {
    for (let v = 0; v < VERDICTS; v += 1)
      tally[c * FIELDS + v] = pairs[(made.rows[r].id * T.groups.length + id) * VERDICTS + v];
  });
  return tally;
}

// Between endpoints: how each pair looks, by class, with the exceptions of each row put in.
function endpointScene(made) {
  const { shown, hit, drift, lost, opened, closed, fresh, place, kept, classes, dstClass } = made;
  const looks = [null]; // 0: not looked at yet
  const lookOf = new Map();
  const lookAt = (codes) => {
    const present = codes.filter((code) => shown[code] !== ABSENT);
    const verdicts = present.map((code) => shown[code]);
    const flags = [drift, lost, opened, closed, fresh].map((of) =>
      present.some((code) => of[code]) ? 1 : 0,
    );
    const key = `${verdicts} ${flags} ${present.some((code) => hit[code])}`;
    if (!lookOf.has(key)) {
      lookOf.set(key, looks.length);
      const uniform = verdicts.length > 0 && verdicts.every((v) => v === verdicts[0]);
      looks.push({
        verdicts,
        uniform,
        drift: flags[0],
        lost: flags[1],
        opened: flags[2],
        closed: flags[3],
        fresh: flags[4],
        plain: uniform && !flags.some(Boolean),
        doubt: verdicts.some(unproven),
        hit: present.some((code) => hit[code]),
      });
    }
    return lookOf.get(key);
  };
  // The codes of a pair's ports are folded into one number, code by code; what that number looks
  // like is found out once. There are few such numbers and many pairs.
  const tuples = [[]];
  const lookOfTuple = [0];
  const longer = new Map(); // by number of the tuple and the code that is added
  const fold = (tuple, code) => {
    const key = tuple * shown.length + code;
    let found = longer.get(key);
    if (found === undefined) {
      found = tuples.push([...tuples[tuple], code]) - 1;
      lookOfTuple.push(0);
      longer.set(key, found);
    }
    return found;
  };
  const look = (tuple) => {
    if (!lookOfTuple[tuple]) lookOfTuple[tuple] = lookAt(tuples[tuple]);
    return lookOfTuple[tuple];
  };
  const most = classes.reduce((top, of) => Math.max(top, of.length), 0);
  const classLooks = remembering(1500, (rowClass) => {
    const base = rowClass * cells.width;
    const folded = new Uint32Array(classes.length);
    for (let i = 0; i < most; i += 1) {
      for (let k = 0; k < folded.length; k += 1)
        if (i < classes[k].length) folded[k] = fold(folded[k], cells.base[base + classes[k][i]]);
    }
    return Uint16Array.from(folded, look);
  });
  const rowLooks = remembering(700, (r) => {
    const row = rowOf[made.rows[r].id];
    const known = classLooks(cells.rowClass[row]);
    const found = new Uint16Array(dstClass.length);
    for (let c = 0; c < found.length; c += 1) found[c] = known[dstClass[c]];
    for (let i = cells.begins[row]; i < cells.begins[row + 1]; i += 1) {
      const c = place[cells.columns[i]];
      if (c >= 0)
        found[c] = look(kept[c].reduce((tuple, column) => fold(tuple, codeAt(row, column)), 0));
    }
    return found;
  });
  const between = (r, c) =>
    kept[c]
      .map((column) => ({
        code: codeAt(rowOf[made.rows[r].id], column),
        slice: T.columnSlice[column],
      }))
      .filter(({ code }) => code && shown[code] !== ABSENT);
  return { ...made, between, rowLooks, looks };
}
