// Drawing the map: cells or tiles, marks, headers, the small map in the corner.

import { floorIndex, plain } from "./tools.js";
import { remembering } from "./data.js";
import { view } from "./view.js";
import { FIELDS, HITS, scene } from "./scene.js";
import {
  colours,
  context,
  DIM,
  makeTiles,
  paintCell,
  paintMix,
  paintWhole,
  TILE,
  tileAt,
  tilesToMake,
  wholeOf,
} from "./paint.js";
import { canvas, FONT, here, layout, mini, scroller, SLANT, SMALLEST_DRAWN } from "./map.js";

// A frame paints for so many milliseconds, and one row at least; what it does not come to, the next one does.
const PAINTING = 8;
export let pending = 0;
let unpainted = -1; // the first row that the last frame did not come to

export function redraw() {
  unpainted = -1;
  soon();
}

function soon() {
  if (!pending)
    pending = requestAnimationFrame(() => {
      pending = 0;
      draw(PAINTING);
    });
}

// All of it, at once.
export function drawNow() {
  unpainted = -1;
  draw();
}

function draw(milliseconds = Infinity) {
  if (!scene || scroller.hidden) return;
  const end = performance.now() + milliseconds;
  const { width, height } = layout;
  if (unpainted < 0) clear(width, height);
  if (!scene.rows.length || !scene.columns.length) return drawNothing(width, height);
  const seen = visible(width, height);
  const first = unpainted < 0;
  if (first) {
    drawHeads(seen, width, height);
    drawMini(seen, width, height);
  }
  if (layout.size >= SMALLEST_DRAWN)
    unpainted = drawCells(first ? seen : { ...seen, r0: unpainted }, width, height, end);
  else drawTiles(seen, width, height);
  drawMarks(seen, width, height);
  if (unpainted >= 0) soon();
  makeMore();
  return undefined;
}

function clear(width, height) {
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
}

// Tiles are made between frames; the map is drawn again when there are new ones.
let tiling = 0;
function makeMore() {
  if (tiling || !tilesToMake()) return;
  tiling = setTimeout(() => {
    tiling = 0;
    if (makeTiles(6)) redraw();
    else makeMore();
  }, 4);
}

function drawNothing(width, height) {
  context.fillStyle = colours.muted;
  context.font = `14px ${colours.sans}`;
  context.textAlign = "center";
  context.fillText("There are no cells here.", width / 2, height / 2);
}

function visible(width, height) {
  const { x, y, rowHead, columnHead } = layout;
  const left = scroller.scrollLeft;
  const top = scroller.scrollTop;
  return {
    left,
    top,
    c0: floorIndex(x.subarray(0, scene.columns.length), left),
    c1: floorIndex(x.subarray(0, scene.columns.length), left + width - rowHead),
    r0: floorIndex(y.subarray(0, scene.rows.length), top),
    r1: floorIndex(y.subarray(0, scene.rows.length), top + height - columnHead),
  };
}

function clipped(width, height, paint, over = 0) {
  const { rowHead, columnHead } = layout;
  context.save();
  context.beginPath();
  context.rect(rowHead - over, columnHead - over, width, height);
  context.clip();
  paint();
  context.restore();
}

const gutter = (size) => (size >= 12 ? 2 : 1); // between cells

// Paints rows until `end`; returns the first that is left, -1 when none is.
function drawCells(seen, width, height, end) {
  const { size, y, columnHead } = layout;
  const side = size - gutter(size);
  let r = seen.r0;
  clipped(width, height, () => {
    for (; r <= seen.r1; r += 1) {
      if (r > seen.r0 && performance.now() > end) return;
      const top = columnHead + y[r] - seen.top;
      if (scene.level === "endpoints") drawLooks(scene.rowLooks(r), seen, top, side);
      else drawTally(scene.tally(r), seen, top, side);
    }
  });
  return r <= seen.r1 ? r : -1;
}

// The last of the columns from c on that stand without a gap and are `alike` the first.
function lastAlike(c, last, alike) {
  const { wide, x } = layout;
  let to = c;
  while (to < last && x[to + 1] - x[to] === wide && alike(to + 1)) to += 1;
  return to;
}

function drawLooks(looks, seen, top, side) {
  const { size, wide, x, rowHead } = layout;
  const across = wide - gutter(size);
  for (let c = seen.c0; c <= seen.c1; c += 1) {
    const left = rowHead + x[c] - seen.left;
    const look = scene.looks[looks[c]];
    if (look.plain) {
      const to = lastAlike(c, seen.c1, (other) => looks[other] === looks[c]);
      paintAlike(left, top, across, side, look.verdicts[0], look.hit, to + 1 - c, wide);
      c = to;
    } else paintCell(left, top, across, side, look);
  }
}

function drawTally(tally, seen, top, side) {
  const { size, wide, x, rowHead } = layout;
  const across = wide - gutter(size);
  const at = (c) => tally.subarray(c * FIELDS, (c + 1) * FIELDS);
  for (let c = seen.c0; c <= seen.c1; c += 1) {
    const left = rowHead + x[c] - seen.left;
    const counts = at(c);
    const whole = wholeOf(counts);
    if (whole >= 0) {
      const hit = counts[HITS] > 0;
      const to = lastAlike(
        c,
        seen.c1,
        (other) => wholeOf(at(other)) === whole && at(other)[HITS] > 0 === hit,
      );
      paintAlike(left, top, across, side, whole, hit, to + 1 - c, wide);
      c = to;
    } else paintMix(left, top, across, side, counts);
  }
}

function paintAlike(left, top, across, side, verdict, hit, many, distance) {
  if (scene.filtered && !hit) context.globalAlpha = DIM;
  paintWhole(left, top, across, side, verdict, many, distance);
  context.globalAlpha = 1;
}

function drawTiles(seen, width, height) {
  const { size, rowHead, columnHead } = layout;
  const per = size >= 1 ? 1 : 2 ** Math.ceil(Math.log2(1 / size) - 0.01);
  const side = TILE * per * size; // of a tile, in pixels of the window
  clipped(width, height, () => {
    let unfinished = false;
    context.imageSmoothingEnabled = false;
    for (let i = Math.floor(seen.r0 / (TILE * per)); i * TILE * per <= seen.r1; i += 1) {
      for (let j = Math.floor(seen.c0 / (TILE * per)); j * TILE * per <= seen.c1; j += 1) {
        const tile = tileAt(per, i, j);
        if (tile)
          context.drawImage(
            tile,
            rowHead + j * side - seen.left,
            columnHead + i * side - seen.top,
            side,
            side,
          );
        else unfinished = true;
      }
    }
    if (unfinished) {
      context.fillStyle = colours.muted;
      context.font = `13px ${colours.sans}`;
      context.textAlign = "left";
      context.fillText("drawing …", rowHead + 12, columnHead + 20);
    }
  });
}

function drawMarks(seen, width, height) {
  const { size, wide, x, y, rowHead, columnHead } = layout;
  const edge = size >= SMALLEST_DRAWN ? gutter(size) : 0;
  const [across, side] = [Math.max(4, wide - edge), Math.max(4, size - edge)];
  clipped(
    width,
    height,
    () => {
      for (const [spot, colour, line] of [
        [here.hover, colours.muted, 1.5],
        [chosen(), colours.accent, 3],
        [here.cursor, colours.cursor, 2],
      ]) {
        if (!spot) continue;
        context.strokeStyle = colour;
        context.lineWidth = line;
        context.strokeRect(
          rowHead + x[spot.c] - seen.left - 0.5,
          columnHead + y[spot.r] - seen.top - 0.5,
          across + 1,
          side + 1,
        );
      }
    },
    2,
  ); // the frame of the first cell is as thick as any other's
}

export function chosen() {
  if (!view.cell || scene.level !== "endpoints") return null;
  const r = scene.rows.findIndex((entry) => entry.id === view.cell.src);
  const c = scene.columns.findIndex((entry) => entry.id === view.cell.dst);
  return r >= 0 && c >= 0 ? { r, c } : null;
}

function drawHeads(seen, width, height) {
  const { size, wide, x, y, rowHead, columnHead, most } = layout;
  context.fillStyle = colours.surface;
  context.fillRect(0, 0, width, columnHead);
  context.fillRect(0, 0, rowHead, height);
  context.font = `${FONT}px ${colours.sans}`;
  context.textBaseline = "middle";
  const lit = here.hover || here.cursor;
  // Labels that would overlap are left out, never the one the reader is at.
  const stride = Math.ceil(13 / size);
  const slanted = 13 / Math.sin(SLANT); // slanted lines stand closer together than upright ones
  const columnStride = Math.ceil(slanted / wide);
  context.save();
  context.beginPath();
  context.rect(0, columnHead - 8, rowHead, height - columnHead + 8); // a label may be taller than its row
  context.clip();
  context.textAlign = "right";
  const rowAt = (r) => {
    if (stride > 1 && r !== lit.r && Math.abs(r - lit.r) * size < 13) return;
    label(
      scene.rows[r].label,
      rowHead - 8,
      columnHead + y[r] - seen.top + size / 2 - 1,
      rowHead - 12,
      r === lit.r,
    );
  };
  for (let r = seen.r0 - (seen.r0 % stride); r <= seen.r1; r += stride) rowAt(r);
  if (lit.r % stride && lit.r >= seen.r0 && lit.r <= seen.r1) rowAt(lit.r);
  context.restore();
  context.save();
  context.beginPath();
  context.rect(rowHead - 4, 0, width - rowHead + 4, columnHead);
  context.clip();
  context.textAlign = "left";
  const columnAt = (c) => {
    const middle = rowHead + x[c] - seen.left + wide / 2;
    if (
      middle < rowHead ||
      (columnStride > 1 && c !== lit.c && Math.abs(c - lit.c) * wide < slanted)
    )
      return;
    context.save();
    context.translate(middle + 1, columnHead - 7);
    context.rotate(-SLANT);
    label(scene.columns[c].label, 0, 0, most, c === lit.c);
    context.restore();
  };
  for (let c = seen.c0 - (seen.c0 % columnStride); c <= seen.c1; c += columnStride) columnAt(c);
  if (lit.c % columnStride && lit.c >= seen.c0 && lit.c <= seen.c1) columnAt(lit.c);
  context.restore();
  context.fillStyle = colours.muted;
  context.font = `11px ${colours.sans}`;
  context.textAlign = "right";
  context.fillText("from ↓   to →", rowHead - 8, columnHead - 10);
}

const shortened = remembering(4000, (key) => {
  const [most, text] = [Number(key.slice(0, key.indexOf(" "))), key.slice(key.indexOf(" ") + 1)];
  context.font = `600 ${FONT}px ${colours.sans}`; // the wider of the two, so that it fits in both
  if (context.measureText(text).width <= most) return text;
  // In the middle: names of one workload begin alike, and end otherwise.
  const letters = [...text];
  let left = letters.length - 1;
  const short = () =>
    `${letters.slice(0, Math.ceil(left / 2)).join("")}…${letters.slice(letters.length - Math.floor(left / 2)).join("")}`;
  while (left > 3 && context.measureText(short()).width > most) left -= Math.ceil(left / 12);
  return short();
});

function label(text, x, y, most, strong) {
  const short = shortened(`${Math.round(most)} ${plain(text)}`);
  context.fillStyle = strong ? colours.text : colours.muted;
  context.font = `${strong ? "600 " : ""}${FONT}px ${colours.sans}`;
  context.fillText(short, x, y);
}

// The whole map in the corner of both heads, where no cell is, with what the window shows of it, where
// that is not all of it.
const SLIVER = 16; // pixels; what is narrower shows nothing

function drawMini(seen, width, height) {
  const { total, rowHead, columnHead, x, y } = layout;
  mini.hidden = !layout.scrolls || (total.width <= width + 60 && total.height <= height + 60);
  if (mini.hidden) return;
  const most = Math.max(scene.rows.length, scene.columns.length);
  const per = 2 ** Math.max(0, Math.ceil(Math.log2(most / TILE)));
  const tile = tileAt(per, 0, 0);
  const scale = Math.min(
    (rowHead - 12) / scene.columns.length,
    (columnHead - 30) / scene.rows.length,
  );
  const [w, h] = [
    Math.max(1, scene.columns.length * scale),
    Math.max(1, scene.rows.length * scale),
  ];
  mini.hidden = Math.min(w, h) < SLIVER;
  if (mini.hidden) return;
  if (mini.width !== Math.ceil(w) || mini.height !== Math.ceil(h)) {
    mini.width = Math.ceil(w);
    mini.height = Math.ceil(h);
  }
  const pen = mini.getContext("2d");
  pen.fillStyle = colours.sunken;
  pen.fillRect(0, 0, w, h);
  if (tile)
    pen.drawImage(tile, 0, 0, scene.columns.length / per, scene.rows.length / per, 0, 0, w, h);
  const across = w / x[x.length - 1];
  const down = h / y[y.length - 1];
  pen.strokeStyle = colours.cursor;
  pen.lineWidth = 1.5;
  pen.strokeRect(
    seen.left * across + 0.5,
    seen.top * down + 0.5,
    Math.min(w, (width - rowHead) * across) - 1,
    Math.min(h, (height - columnHead) * down) - 1,
  );
}
