// Painting one thing: a cell, a share, a glyph, a pixel that stands for many.

import { clamp } from "./tools.js";
import { ABSENT, BLOCKED, INCONCLUSIVE, REACHABLE, T, unproven } from "./data.js";
import { CLOSED, DRIFTS, FIELDS, FRESH, HITS, OPENED, scene } from "./scene.js";

// Of the canvas that is painted on. The map hands it over: so this module can be tested without a document.
export let context = null;

export const DIM = 0.14; // what a filter leaves out
export let colours = {};
let glyphPaths = [];
let hatches = {};
let pixels = []; // [r, g, b] of each verdict
let shades = []; // [r, g, b] by how many percent of the proven get through
let stamps = new Map();

export function paintOn(canvas) {
  context = canvas.getContext("2d", { alpha: false });
}

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = {};
  for (const name of [
    "surface",
    "sunken",
    "faint",
    "line",
    "text",
    "muted",
    "accent",
    "cursor",
    "mark",
    "drift",
    "most-passes",
    "least-passes",
    ...T.verdicts.flatMap((v) => [v.name, `on-${v.name}`]),
  ])
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  colours.sans = style.getPropertyValue("--sans").trim();
  glyphPaths = T.verdicts.map(
    (v) => new Path2D(document.querySelector(`#glyph-${v.name} path`).getAttribute("d")),
  );
  hatches = Object.fromEntries(
    T.verdicts.filter((_, v) => unproven(v)).map((v) => [v.name, hatch(colours[v.name])]),
  );
  setPixels(
    [...T.verdicts.map((v) => v.name), "surface", "drift"].map((name) => rgb(colours[name])),
    Array.from({ length: 101 }, (_, percentage) =>
      mixed(rgb(colours["least-passes"]), rgb(colours["most-passes"]), percentage / 100),
    ),
  );
  stamps = new Map();
  forgetTiles();
}

export function setPixels(ofVerdicts, ofPercentages) {
  pixels = ofVerdicts;
  shades = ofPercentages;
}

function rgb(colour) {
  const hex = colour.slice(1);
  const full = hex.length === 3 ? [...hex].map((digit) => digit + digit).join("") : hex;
  return [0, 2, 4].map((at) => parseInt(full.slice(at, at + 2), 16));
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

const fillOf = (verdict) =>
  unproven(verdict) ? hatches[T.verdicts[verdict].name] : colours[T.verdicts[verdict].name];

// How much of what is proven gets through, as a share; and what stands for it as a whole percent: 0 and
// 100 are none and all of it, as in the figures above the map.
const provenOf = (counts) => counts[0] + counts[1] + counts[2] + counts[3];
const passingOf = (counts) => counts[0] + counts[1];
export function percentOf(counts) {
  const [passing, proven] = [passingOf(counts), provenOf(counts)];
  return passing === 0
    ? 0
    : passing === proven
      ? 100
      : clamp(Math.round((100 * passing) / proven), 1, 99);
}

const mixed = (one, other, share) =>
  one.map((part, i) => Math.round(part + (other[i] - part) * share));

// The colour of a pair of groups of which something is proven: a verdict's own where all is alike or
// all passes or stops, else the lighter the more gets through.
export function shadeOf(counts) {
  const [percentage, proven] = [percentOf(counts), provenOf(counts)];
  const alike = [0, 1, 2, 3].find((verdict) => counts[verdict] === proven);
  if (alike !== undefined) return pixels[alike];
  return percentage === 100
    ? pixels[REACHABLE]
    : percentage === 0
      ? pixels[BLOCKED]
      : shades[percentage];
}

// A pair of groups: how much gets through as a shade and a figure; below it, hatched, what is unproven.
export function paintMix(x, y, wide, side, counts) {
  const proven = provenOf(counts);
  const doubt = counts[4] + counts[5];
  if (!proven && !doubt) return paintAbsent(x, y, wide, side);
  if (scene.filtered && !counts[HITS]) context.globalAlpha = DIM;
  const grey = counts[4] >= counts[5] ? 4 : 5;
  const alike = [0, 1, 2, 3].find((verdict) => counts[verdict] === proven);
  if (!proven) paintWhole(x, y, wide, side, grey);
  else if (!doubt && alike !== undefined) paintWhole(x, y, wide, side, alike);
  else {
    const hatched = doubt
      ? clamp(Math.round((side * doubt) / (proven + doubt)), Math.min(4, side / 3), side * 0.8)
      : 0;
    const shade = shadeOf(counts);
    context.save();
    context.beginPath();
    context.roundRect(x, y, wide, side, side >= 14 ? 3 : 0);
    context.clip();
    context.fillStyle = `rgb(${shade})`;
    context.fillRect(x, y, wide, side - hatched);
    if (hatched) {
      context.fillStyle = fillOf(grey);
      context.fillRect(x, y + side - hatched, wide, hatched);
    }
    context.restore();
    paintFigure(x, y, wide, side - hatched, percentOf(counts), percentOf(counts) > 0);
  }
  if (counts[DRIFTS]) paintCorner(x + wide, y + side, -1, -1, side, colours.drift);
  if (counts[OPENED] || counts[CLOSED] || counts[FRESH])
    paintChange(x, y, side, counts[OPENED], counts[CLOSED]);
  context.globalAlpha = 1;
  return undefined;
}

// A whole percent, where there is room for it.
function paintFigure(x, y, wide, high, percentage, onLight) {
  const letters = Math.min(12, Math.floor(high * 0.62), Math.floor(wide / 2));
  if (letters < 9) return;
  context.font = `600 ${letters}px ${colours.sans}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = onLight ? "#1c1009" : "#fff";
  context.fillText(
    wide >= 3.4 * letters ? `${percentage} %` : String(percentage),
    x + wide / 2,
    y + high / 2 + 0.5,
  );
}

// One pair of endpoints: one colour when all its ports agree, a strip per port when they do not.
export function paintCell(x, y, wide, side, look) {
  if (!look.verdicts.length) return paintAbsent(x, y, wide, side);
  if (scene.filtered && !look.hit) context.globalAlpha = DIM;
  if (look.uniform) paintWhole(x, y, wide, side, look.verdicts[0]);
  else {
    let verdicts = look.verdicts;
    if (verdicts.length > wide / 3) verdicts = [...verdicts].sort((a, b) => a - b); // too thin to count: show shares
    const strip = wide / verdicts.length;
    for (let i = 0; i < verdicts.length; i += 1) {
      const from = i; // neighbours that agree are one strip: seams between them would be noise
      while (strip < 11 && verdicts[i + 1] === verdicts[i]) i += 1;
      context.fillStyle = fillOf(verdicts[i]);
      context.fillRect(x + from * strip, y, (i + 1 - from) * strip, side);
      if (strip >= 11) paintGlyph(context, x + i * strip, y, strip, side, verdicts[i]);
    }
    if (look.doubt) paintCorner(x + wide, y, -1, 1, side, colours.inconclusive);
  }
  if (look.lost) paintCorner(x, y + side, 1, -1, side, colours.blocked);
  if (look.drift) paintCorner(x + wide, y + side, -1, -1, side, colours.drift);
  if (look.opened || look.closed || look.fresh) paintChange(x, y, side, look.opened, look.closed);
  context.globalAlpha = 1;
  return undefined;
}

// Cells of one verdict with their glyph, side by side at a distance: drawn once for each size,
// and then many at a time, for neighbours are mostly alike.
const STRIP = 512; // pixels

export function paintWhole(x, y, wide, side, verdict, many = 1, distance = wide) {
  const ratio = window.devicePixelRatio || 1;
  const inStrip = Math.max(1, Math.floor(STRIP / distance));
  const height = Math.ceil(side * ratio);
  const key = `${verdict} ${wide} ${side} ${distance} ${ratio}`;
  if (!stamps.has(key)) {
    if (stamps.size > 60) stamps.clear();
    const stamp = document.createElement("canvas");
    stamp.width = Math.ceil(inStrip * distance * ratio);
    stamp.height = height;
    const pen = stamp.getContext("2d");
    pen.scale(ratio, ratio);
    for (let i = 0; i < inStrip; i += 1) {
      pen.fillStyle = fillOf(verdict);
      pen.beginPath();
      pen.roundRect(i * distance, 0, wide, side, side >= 14 ? 3 : 0);
      pen.fill();
      paintGlyph(pen, i * distance, 0, wide, side, verdict);
    }
    stamps.set(key, stamp);
  }
  const stamp = stamps.get(key);
  for (let i = 0; i < many; i += inStrip) {
    const width = Math.min(
      stamp.width,
      Math.ceil((distance * (Math.min(many - i, inStrip) - 1) + wide) * ratio),
    );
    context.drawImage(
      stamp,
      0,
      0,
      width,
      height,
      x + i * distance,
      y,
      width / ratio,
      height / ratio,
    );
  }
}

// The verdict of a pair of groups that is drawn as one square without marks, else -1.
export function wholeOf(counts) {
  if ([4, 5, DRIFTS, OPENED, CLOSED, FRESH].some((field) => counts[field])) return -1;
  let found = -1;
  for (let v = 0; v < 4; v += 1) {
    if (counts[v]) {
      if (found >= 0) return -1;
      found = v;
    }
  }
  return found;
}

function paintAbsent(x, y, wide, side) {
  context.fillStyle = colours.line;
  const dot = clamp(side / 8, 1, 2.5);
  context.fillRect(x + wide / 2 - dot, y + side / 2 - dot, 2 * dot, 2 * dot);
}

function paintGlyph(pen, x, y, wide, high, verdict) {
  const side = Math.min(wide, high);
  if (side < 10) return;
  const size = Math.min(18, side * 0.9);
  pen.save();
  pen.translate(x + (wide - size) / 2, y + (high - size) / 2);
  pen.scale(size / 16, size / 16);
  pen.strokeStyle = colours[`on-${T.verdicts[verdict].name}`];
  pen.lineWidth = unproven(verdict) ? 2.5 : 2;
  pen.lineCap = "round";
  pen.lineJoin = "round";
  pen.stroke(glyphPaths[verdict]);
  pen.restore();
}

// A triangle in the corner at (x, y) of a cell that lies `across` and `down` of it: 1 or -1.
function paintCorner(x, y, across, down, side, colour) {
  const reach = side * Math.min(0.5, Math.max(0.3, 5 / side));
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x + across * reach, y);
  context.lineTo(x, y + down * reach);
  context.closePath();
  context.fillStyle = colour;
  context.fill();
  if (side < 12) return;
  context.beginPath();
  context.moveTo(x + across * reach, y);
  context.lineTo(x, y + down * reach);
  context.strokeStyle = colours.surface;
  context.lineWidth = 1.5;
  context.stroke();
}

// What opened or closed since the other run: a plus, a minus or both, in a corner that no other mark has;
// a dot where neither did, and the other run has no counterpart.
function paintChange(x, y, side, opened, closed) {
  if (side < 14)
    return opened || closed ? paintCorner(x, y, 1, 1, side, colours.cursor) : undefined;
  const radius = clamp(side * 0.2, 4, 7);
  const [centre, middle] = [x + radius + 1, y + radius + 1];
  const arm = radius * 0.6;
  const across = (at) => {
    context.moveTo(centre - arm, at);
    context.lineTo(centre + arm, at);
  };
  context.beginPath();
  context.arc(centre, middle, radius, 0, 2 * Math.PI);
  context.fillStyle = colours.surface;
  context.fill();
  context.beginPath();
  if (opened) {
    const lifted = closed ? arm * 0.5 : 0;
    across(middle - lifted);
    context.moveTo(centre, middle - lifted - arm);
    context.lineTo(centre, middle - lifted + arm);
  }
  if (closed) across(middle + (opened ? arm : 0));
  if (!opened && !closed) context.arc(centre, middle, 0.5, 0, 2 * Math.PI);
  context.strokeStyle = colours.text;
  context.lineWidth = opened || closed ? 1.6 : 2.4;
  context.stroke();
  return undefined;
}

// Where a cell is smaller than a finger it is a pixel, or many are one: the mean of their colours.
// What drifts shows through whatever is around it; of what is unproven at least a third shows.
export const TILE = 256;
let tiles = new Map(); // by "pixels per … row column"; false while it is being made
let wanted = [];
let making = null;

export const tilesToMake = () => wanted.length > 0 || making !== null;

export function forgetTiles() {
  tiles = new Map();
  wanted = [];
  making = null;
}

// Adds the colours of a row's cells from c0 to c1 to sums of [red, green, blue, cells, marks].
function addRow(sums, r, c0, c1, cellsPerPixel) {
  const add = (c, [red, green, blue], weight) => {
    const at = 5 * Math.floor((c - c0) / cellsPerPixel);
    sums[at] += red * weight;
    sums[at + 1] += green * weight;
    sums[at + 2] += blue * weight;
    sums[at + 3] += weight;
  };
  const mark = (c, bits) => {
    sums[5 * Math.floor((c - c0) / cellsPerPixel) + 4] |= bits;
  };
  const fade = (part) => (scene.filtered && !part ? DIM : 1);
  if (scene.level !== "endpoints") {
    const tally = scene.tally(r);
    for (let c = c0; c < c1; c += 1) {
      const counts = tally.subarray(c * FIELDS, (c + 1) * FIELDS);
      const all = counts[0] + counts[1] + counts[2] + counts[3] + counts[4] + counts[5];
      if (!all) continue;
      const strength = fade(counts[HITS]);
      const proven = provenOf(counts);
      if (proven) add(c, shadeOf(counts), (strength * proven) / all);
      for (const v of [4, 5]) if (counts[v]) add(c, pixels[v], (strength * counts[v]) / all);
      if (strength < 1) add(c, pixels[ABSENT], 1 - strength);
      if (counts[DRIFTS]) mark(c, 2);
      if (counts[4] + counts[5]) mark(c, 1);
    }
    return;
  }
  const row = scene.rowLooks(r);
  for (let c = c0; c < c1; c += 1) {
    const look = scene.looks[row[c]];
    if (!look.pixel) preparePixel(look, fade(look.hit));
    const at = 5 * (((c - c0) / cellsPerPixel) | 0);
    const pixel = look.pixel;
    sums[at] += pixel[0];
    sums[at + 1] += pixel[1];
    sums[at + 2] += pixel[2];
    sums[at + 3] += pixel[3];
    sums[at + 4] |= pixel[4];
  }
}

function preparePixel(look, strength) {
  const sum = [0, 0, 0, look.verdicts.length ? 1 : 0, (look.doubt ? 1 : 0) | (look.drift ? 2 : 0)];
  // What is proven has the shade that a pair of groups would have; a mean of blue and orange is grey.
  const counts = new Int32Array(FIELDS);
  for (const verdict of look.verdicts) counts[verdict] += 1;
  const proven = provenOf(counts) ? shadeOf(counts) : null;
  for (const verdict of look.verdicts) {
    const colour = unproven(verdict) ? pixels[verdict] : proven;
    for (let i = 0; i < 3; i += 1)
      sum[i] += (strength * colour[i] + (1 - strength) * pixels[ABSENT][i]) / look.verdicts.length;
  }
  look.pixel = sum;
}

function* makeTile(cellsPerPixel, tileRow, tileColumn) {
  const image = new ImageData(TILE, TILE);
  const span = TILE * cellsPerPixel;
  const c0 = tileColumn * span;
  const c1 = Math.min(scene.columns.length, c0 + span);
  const sums = new Float64Array(5 * TILE);
  for (let y = 0; y < TILE; y += 1) {
    const r0 = (tileRow * TILE + y) * cellsPerPixel;
    if (r0 >= scene.rows.length) break;
    sums.fill(0);
    for (let r = r0; r < Math.min(scene.rows.length, r0 + cellsPerPixel); r += 1) {
      addRow(sums, r, c0, c1, cellsPerPixel);
      yield null;
    }
    for (let x = 0; x < TILE && c0 + x * cellsPerPixel < c1; x += 1)
      settlePixel(image.data, 4 * (y * TILE + x), sums, 5 * x);
  }
  const canvas = document.createElement("canvas");
  canvas.width = TILE;
  canvas.height = TILE;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function settlePixel(bytes, to, sums, at) {
  const count = sums[at + 3];
  const marks = sums[at + 4];
  const doubt = marks & 1 ? 1 / 3 : 0;
  for (let i = 0; i < 3; i += 1) {
    const mean = count ? sums[at + i] / count : pixels[ABSENT][i];
    bytes[to + i] =
      marks & 2 ? pixels[ABSENT + 1][i] : mean * (1 - doubt) + pixels[INCONCLUSIVE][i] * doubt;
  }
  bytes[to + 3] = 255;
}

export function tileAt(cellsPerPixel, tileRow, tileColumn) {
  const key = `${cellsPerPixel} ${tileRow} ${tileColumn}`;
  if (!tiles.has(key)) {
    if (tiles.size > 90) tiles.delete(tiles.keys().next().value);
    tiles.set(key, false);
    wanted.push([key, cellsPerPixel, tileRow, tileColumn]);
  }
  return tiles.get(key);
}

// Makes tiles for a few milliseconds; says whether one was finished. There may be none to make: they were
// of a scene that another has taken the place of since.
export function makeTiles(milliseconds) {
  if (!tilesToMake()) return false;
  const end = performance.now() + milliseconds;
  if (!making) {
    const [key, ...place] = wanted.shift();
    making = { key, steps: makeTile(...place) };
  }
  do {
    const step = making.steps.next();
    if (step.done) {
      tiles.set(making.key, step.value);
      making = null;
      return true;
    }
  } while (performance.now() < end);
  return false;
}
