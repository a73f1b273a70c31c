// The map: where everything is on the canvas, which stays where it is.

import { $, clamp, floorIndex } from "./tools.js";
import { scene } from "./scene.js";
import { colours, context, paintOn } from "./paint.js";

export const scroller = $("scroller");
const sizer = $("sizer");
export const canvas = $("canvas");
export const mini = $("mini"); // the small map in the corner
paintOn(canvas);
export const SLANT = Math.PI / 4;
export const FONT = 12;
const LABEL = 190; // longest label in pixels
const GAP = 5; // between groups: practitioners read gapped maps better than plain ones
export const SMALLEST_DRAWN = 8; // pixels of a cell below which it is part of a tile
export const LARGEST = 60;
const WIDEST = 2.4; // times as wide as high
export let layout = null;
// Where the reader is: how near, at which cell, and which one the pointer is over.
export const here = { zoom: 1, cursor: { r: 0, c: 0 }, hover: null };

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

export function arrange() {
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
  let size = clamp(printing() ? least : comfortable * here.zoom, least, LARGEST);
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

// What is under a point of the window: {r, c}, with r or c -1 on the other axis' header.
export function spotAt(clientX, clientY) {
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

export function rectOf(r, c) {
  const box = canvas.getBoundingClientRect();
  return {
    x: box.left + layout.rowHead + layout.x[c] - scroller.scrollLeft,
    y: box.top + layout.columnHead + layout.y[r] - scroller.scrollTop,
    width: layout.wide,
    height: layout.size,
  };
}

export function reveal(r, c) {
  const { size, wide, x, y, rowHead, columnHead } = layout;
  const width = scroller.clientWidth - rowHead;
  const height = scroller.clientHeight - columnHead;
  if (x[c] < scroller.scrollLeft) scroller.scrollLeft = x[c];
  if (x[c] + wide > scroller.scrollLeft + width) scroller.scrollLeft = x[c] + wide - width;
  if (y[r] < scroller.scrollTop) scroller.scrollTop = y[r];
  if (y[r] + size > scroller.scrollTop + height) scroller.scrollTop = y[r] + size - height;
}
