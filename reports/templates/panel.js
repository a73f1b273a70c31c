// The panel: one cell, one policy, or one pair of namespaces.

import {
  $,
  all,
  bringMarked,
  cellsText,
  el,
  figure,
  glyph,
  heading,
  inSlices,
  percent,
  shellWord,
  sqlText,
} from "./tools.js";
import {
  cellsOfPair,
  has,
  keyOf,
  NO_VERDICT,
  passes,
  sentenceOf,
  sliceName,
  stops,
  T,
  unproven,
} from "./data.js";
import { below, go, goBack, sliceChosen, specOf, view } from "./view.js";
import { HITS, lookups, scene } from "./scene.js";
import { scroller } from "./map.js";
import { describe } from "./describe.js";
import { blamePart, meaningPart, yamlPart } from "./decision.js";
import { pathPart, sincePart } from "./path.js";
import { tracePart } from "./hops.js";
import { command, commandPart, kubectl } from "./commands.js";

let panelTurn = 0; // a slow answer must not replace a later one

function setPanel(children) {
  const panel = $("panel");
  panel.replaceChildren(...children.flat().filter(Boolean));
  panel.hidden = false;
  $("overview").hidden = true;
  panel.scrollTop = 0;
  const [current] = all(".box .on", panel);
  if (current) current.closest(".box").scrollTop = current.offsetTop - 60;
  for (const pre of all("details[open] pre", panel)) bringMarked(pre);
}

export function closePanel() {
  panelTurn += 1;
  $("panel").hidden = true;
  $("panel").replaceChildren();
  $("overview").hidden = false;
}

const head = (...children) =>
  el(
    "div",
    { class: "head" },
    el("div", {}, ...children),
    el(
      "button",
      {
        class: "close",
        type: "button",
        "aria-label": "Close",
        testid: "panel-close",
        on: {
          click: () => {
            goBack();
            closePanel();
            scroller.focus();
          },
        },
      },
      "×",
    ),
  );

export async function showCell() {
  panelTurn += 1;
  const turn = panelTurn;
  const { src, dst } = view.cell;
  const cells = await cellsOfPair(src, dst);
  if (turn !== panelTurn) return;
  if (!cells.length) {
    setPanel([
      head(),
      el(
        "p",
        { testid: "panel-sentence", class: "sentence" },
        `There is no cell from ${keyOf(src)} to ${keyOf(dst)} in this run.`,
      ),
    ]);
    return;
  }
  const cell = cellToShow(cells);
  const verdict = T.verdicts[cell.state.verdict].name;
  const parts = [
    head(el("h2", { class: "verdict", testid: "panel-verdict" }, glyph(verdict), verdict)),
    el(
      "p",
      { class: "sentence", testid: "panel-sentence", role: "status" },
      sentenceOf(src, dst, cell),
    ),
    await pathPart(src, dst, cell),
    sincePart(src, dst, cell),
    cells.length > 1 ? [heading("Every port of this pair"), portTable(cells, cell)] : null,
    planesPart(cell),
    await blamePart(cell),
    meaningPart(src, dst, cell),
    heading("Reply"),
    replyPart(cell),
    heading("Commands"),
    commandPart(src, dst, cell),
    await tracePart(cell),
  ];
  if (turn === panelTurn) setPanel(parts.flat());
}

// The port asked for, in any family where none is named; else of those that the filters choose, if any
// are, the first that is stopped, else the first that is unproven.
function cellToShow(cells) {
  const { at } = view;
  const exact = cells.find((cell) => at && sliceName(cell.slice) === at);
  if (exact) return exact;
  const { hit, filtered } = lookups(view);
  const within = cells.filter((cell) => sliceChosen(cell.slice));
  const choices = [
    cells.filter((cell) => at && T.ports[T.slices[cell.slice][1]] === at),
    within.filter((cell) => filtered && hit[cell.code]),
    within,
    cells,
  ];
  const some = choices.find((choice) => choice.length);
  return (
    some.find((cell) => stops(cell.state.verdict)) ||
    some.find((cell) => unproven(cell.state.verdict)) ||
    some[0]
  );
}

function portTable(cells, shown) {
  return el(
    "div",
    { class: "box" },
    el(
      "table",
      { class: "ports", testid: "panel-ports" },
      el(
        "tbody",
        {},
        cells.map((cell) => {
          const name = T.verdicts[cell.state.verdict].name;
          const reply =
            passes(cell.state.verdict) &&
            cell.state.reply !== NO_VERDICT &&
            !passes(cell.state.reply)
              ? `, reply ${T.verdicts[cell.state.reply].name}`
              : "";
          return el(
            "tr",
            { class: cell === shown ? "on" : "" },
            el(
              "td",
              {},
              el(
                "button",
                {
                  type: "button",
                  "aria-current": cell === shown ? "true" : null,
                  on: { click: () => go({ at: sliceName(cell.slice) }) },
                },
                sliceName(cell.slice),
              ),
            ),
            el("td", {}, el("span", { class: "state" }, glyph(name), `${name}${reply}`)),
            el("td", {}, cell.state.blame ? cell.state.blame.label : ""),
          );
        }),
      ),
    ),
  );
}

function replyPart(cell) {
  const { verdict, reply } = cell.state;
  // Only traces have replies: of what passes by the objects alone none was asked about.
  const none = passes(verdict) ? T.replyNotAsked : T.noReply;
  const text = reply === NO_VERDICT ? none : T.verdicts[reply].reply;
  return el("p", { testid: "panel-reply" }, text);
}

// What each plane says, where several were asked; a warning where they do not agree.
function planesPart(cell) {
  if (T.planes.length < 2) return null;
  const word = (verdict) =>
    verdict === NO_VERDICT
      ? el("span", { class: "muted" }, "not asked")
      : el("span", { class: "state" }, glyph(T.verdicts[verdict].name), T.verdicts[verdict].name);
  return [
    heading("By plane"),
    cell.state.drift
      ? el(
          "p",
          { class: "warning", testid: "panel-drift" },
          "Drift: the planes disagree about this cell. The path above and the traces below say what each of them decided; ",
          el("a", { class: "view", href: "#findings" }, "the findings say why"),
          ".",
        )
      : null,
    el(
      "table",
      { class: "ports", testid: "panel-planes" },
      el(
        "tbody",
        {},
        T.planes.map((plane) =>
          el("tr", {}, el("td", {}, plane), el("td", {}, word(cell.state[plane]))),
        ),
      ),
    ),
  ].filter(Boolean);
}

export async function showPolicy(index) {
  panelTurn += 1;
  const mine = panelTurn;
  const [label, policy, blocks, allows, shared] = T.deciders[index];
  const about = policy >= 0 ? T.policies[policy] : null;
  const yaml = about ? await yamlPart(policy, { direction: "", rule: -1 }) : null;
  if (mine !== panelTurn) return;
  const link = ([r, c, count]) => {
    const [row, column] = [scene.rows[r], scene.columns[c]];
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          on: {
            click: () =>
              go({
                rows: specOf(scene.level, row),
                columns: specOf(scene.level, column),
                level: below(scene.level),
                cell: null,
              }),
          },
        },
        el("span", {}, `${row.key} → ${column.key}`),
        el("span", { class: "number" }, figure(count)),
      ),
    );
  };
  const where = el("div");
  const idle = !blocks && !allows && !shared;
  setPanel([
    head(el("h2", { class: "verdict", testid: "panel-policy" }, label)),
    el(
      "p",
      { testid: "panel-sentence" },
      idle
        ? "Decides no cell of this run."
        : `Blocks ${cellsText(blocks)} and allows ${figure(allows)}${shared ? `; it shares the default deny of ${figure(shared)} more` : ""}.`,
    ),
    where,
    heading("Commands"),
    about
      ? command(kubectl(about))
      : command(["audit", "explain", T.path, "SRC", "DST", "PORT"].map(shellWord).join(" ")),
    ...(yaml ? [heading("Object"), yaml] : []),
  ]);
  const places = await inSlices(placesOfHits(), () => mine === panelTurn);
  if (places?.length)
    where.replaceChildren(
      el("p", { class: "muted" }, "On the map they stand out."),
      heading("Where it decides most"),
      el("ul", { class: "links" }, places.map(link)),
    );
  else if (places && !idle && scene.level !== "endpoints" && has("cells"))
    where.replaceChildren(el("p", { class: "muted" }, "None of them is in this part of the map."));
}

// The pairs of groups with most cells that the filter chooses.
function* placesOfHits() {
  if (
    scene.level === "endpoints" ||
    !has("cells") ||
    scene.rows.length * scene.columns.length > 400_000
  )
    return [];
  const found = [];
  for (let r = 0; r < scene.rows.length; r += 1) {
    for (let c = 0; c < scene.columns.length; c += 1) {
      const count = scene.between(r, c)[HITS];
      if (count) found.push([r, c, count]);
    }
    yield;
  }
  return found.sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1]).slice(0, 8);
}

// A pair of namespaces, where the page does not have the cells below it.
export function showPair(r, c) {
  const { title, lines } = describe(r, c);
  const sql = `SELECT src_name, dst_name, protocol, port, verdict, blame_name FROM cells WHERE src_namespace = ${sqlText(scene.rows[r].key)} AND dst_namespace = ${sqlText(scene.columns[c].key)}`;
  const proven = lines
    .filter((line) => !["inconclusive", "untraced"].includes(line.verdict))
    .reduce((sum, line) => sum + line.count, 0);
  panelTurn += 1;
  setPanel([
    head(el("h2", { class: "verdict", testid: "panel-sentence" }, title)),
    el(
      "table",
      { class: "ports" },
      el(
        "tbody",
        {},
        lines.map((line) =>
          el(
            "tr",
            {},
            el("td", {}, el("span", { class: "state" }, glyph(line.verdict), line.text)),
            el("td", { class: "number" }, line.figure),
            el(
              "td",
              { class: "number" },
              ["inconclusive", "untraced"].includes(line.verdict)
                ? "not counted"
                : percent(line.count, proven),
            ),
          ),
        ),
      ),
    ),
    heading("Commands"),
    command(["audit", "query", T.path, sql].map(shellWord).join(" ")),
  ]);
}

// Who follows a link, from elsewhere or from below the map, is brought to what it leads to; and who opens
// a cell where the panel is below the map.
export let arriving = false;
export const stacked = matchMedia("(max-width: 1080px)");

export function setArriving(whether) {
  arriving = whether;
}

export function arrive() {
  arriving = false;
  const panel = $("panel");
  const target = scroller.closest(panel.hidden ? ".map" : ".work");
  (stacked.matches && !panel.hidden ? panel : target).scrollIntoView({
    block: panel.hidden ? "nearest" : "start",
  });
  (panel.hidden ? scroller : panel).focus({ preventScroll: true });
}
