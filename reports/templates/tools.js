// Small tools. Every name in the data is anyone's to choose: text enters the page by textContent
// only; nothing in this script writes markup, and nothing asks the network for anything.

// A name as it is read: characters that would turn the text around, or hide in it, are shown as marks.
export const plain = (text) =>
  text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    "\ufffd",
  );

/** @type {(id: string) => any} */
export const $ = (id) => document.getElementById(id);
/** @type {(selector: string, within?: ParentNode) => any[]} */
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];
export const SVG = "http://www.w3.org/2000/svg";

export function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "testid") node.dataset.testid = value;
    else if (name === "class") node.className = value;
    else if (name === "on")
      for (const [type, act] of Object.entries(value)) node.addEventListener(type, act);
    else node.setAttribute(name, value === true ? "" : value);
  }
  // append() makes text nodes of strings: what a name contains stays text.
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== "")
      .map((child) => (typeof child === "string" ? plain(child) : child)),
  );
  return node;
}

export function glyph(verdict) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `glyph ${verdict}`);
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of [
    ["width", 16],
    ["height", 16],
    ["rx", 3],
  ])
    rect.setAttribute(String(name), String(value));
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#glyph-${verdict}`);
  svg.append(rect, use);
  return svg;
}

export const heading = (text) => el("h3", {}, text);

export function terms(pairs) {
  return el(
    "dl",
    {},
    pairs
      .filter(([, text]) => text)
      .map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]),
  );
}

// Scrolls a text, not the page, to its first marked line.
export function bringMarked(pre) {
  const line = pre.querySelector(".on");
  if (line) pre.scrollTop = Math.max(0, line.offsetTop - 60);
}

// As toLocaleString("en-US") would, which takes milliseconds for some hundred of them.
export const figure = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
export const cellsText = (count) => `${figure(count)} ${count === 1 ? "cell" : "cells"}`;

// The same rounding as the figures above the heatmap: 0 is none of it and 100 is all of it.
export function percent(part, whole) {
  if (!whole) return "–";
  if (part === 0) return "0 %";
  if (part === whole) return "100 %";
  const tenths = Math.floor((2000 * part + whole) / (2 * whole));
  if (tenths === 0) return "<0.1 %";
  return tenths >= 1000 ? ">99.9 %" : `${(tenths / 10).toFixed(1)} %`;
}

export const shellWord = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
export const sqlText = (text) => `'${text.replaceAll("'", "''")}'`;
export const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

// Runs a generator a few milliseconds at a time: no frame waits for what takes long. In between it
// rests: a moment, where somebody waits for it, else until there is nothing else to do. Undefined
// when its result is no longer wanted.
const SLICE = 6;
export const moment = () =>
  new Promise((done) => {
    setTimeout(done);
  });
// Rests when this has not been done for some milliseconds.
let breath = 0; // until when
export async function breathe() {
  if (performance.now() < breath) return;
  await moment();
  breath = performance.now() + SLICE;
}
const pause = () =>
  new Promise((done) => {
    if (typeof requestIdleCallback === "function") requestIdleCallback(done, { timeout: 200 });
    else setTimeout(done, 10);
  });

export async function inSlices(steps, wanted = () => true, rest = pause) {
  for (;;) {
    await rest();
    if (!wanted()) return undefined;
    const end = performance.now() + SLICE;
    do {
      const step = steps.next();
      if (step.done) return step.value;
    } while (performance.now() < end);
  }
}

// Hands on rows of a table a few at a time: laying them out takes longer than making them.
export async function inTurns(rows, take, wanted = () => true) {
  for (let at = 0; at < rows.length; at += 50) {
    await pause();
    if (!wanted()) return;
    take(rows.slice(at, at + 50));
  }
}

// The position of the last element that is not greater than `value`, in an ascending array.
export function floorIndex(array, value) {
  let low = 0;
  let high = array.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (array[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
