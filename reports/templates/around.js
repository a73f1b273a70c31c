// Around the map: breadcrumbs, selectors, policies, export, the table for screen readers.

import { $, all, el, figure, inSlices, inTurns, plain, SVG } from "./tools.js";
import {
  ABSENT,
  has,
  NO_VERDICT,
  shortName,
  sliceName,
  stateOf,
  T,
  UNMATCHED,
  VERDICTS,
} from "./data.js";
import {
  allNamespaces,
  EVERYTHING,
  go,
  isOfNetworks,
  manyNetworks,
  ONLY,
  specText,
  view,
} from "./view.js";
import { HITS, scene } from "./scene.js";
import { here, layout, scroller } from "./map.js";
import { redraw } from "./draw.js";
import { countLines } from "./describe.js";
import { zoomBy, zoomTo } from "./point.js";

export function drawCrumbs() {
  const crumb = (text, change) =>
    change
      ? el(
          "button",
          {
            type: "button",
            on: {
              click: () => {
                go(change);
                scroller.focus({ preventScroll: true });
              },
            },
          },
          text,
        )
      : el("span", {}, text);
  const next = () => el("span", { class: "next", "aria-hidden": "true" }, "›");
  const name = (spec) => plain(spec.all ? "everything" : specText(spec));
  const parts = [];
  if (manyNetworks())
    parts.push(crumb("All networks", scene.level === "networks" ? null : EVERYTHING));
  if (scene.level !== "networks" && !isOfNetworks(view))
    parts.push(
      ...parts.slice(0, 1).map(next),
      crumb("All namespaces", view.rows ? allNamespaces() : null),
    );
  const groupOf = (spec) =>
    spec.workload !== undefined ? T.groupOf[T.workloadOf.indexOf(spec.workload)] : -1;
  if (view.rows && groupOf(view.rows) >= 0 && groupOf(view.columns) >= 0) {
    const [g, h] = [groupOf(view.rows), groupOf(view.columns)];
    parts.push(
      next(),
      crumb(`${plain(T.groups[g])} → ${plain(T.groups[h])}`, {
        rows: { group: g },
        columns: { group: h },
        level: "workloads",
        cell: null,
        at: "",
      }),
    );
  }
  if (view.rows)
    parts.push(
      next(),
      crumb(
        `${name(view.rows)} → ${name(view.columns)}`,
        view.cell ? { cell: null, at: "" } : null,
      ),
    );
  if (view.cell)
    parts.push(
      next(),
      crumb(`${plain(shortName(view.cell.src))} → ${plain(shortName(view.cell.dst))}`, null),
    );
  const filters = [
    view.only && (ONLY_NAMES[view.only] || view.only),
    view.policy && plain(view.policy),
  ].filter(Boolean);
  if (filters.length)
    parts.push(
      next(),
      crumb(`only ${filters.join(", ")}`, null),
      el(
        "button",
        {
          type: "button",
          "aria-label": "Show everything",
          on: { click: () => go({ policy: "", only: "" }) },
        },
        "×",
      ),
    );
  const sides = [
    [scene.rows, "source"],
    [scene.columns, "destination"],
  ].map(([side, noun]) => `${figure(side.length)} ${noun}${side.length === 1 ? "" : "s"}`);
  parts.push(
    el(
      "span",
      {
        class: "sides",
        title: "What only sends has no column, and what has no port of those asked for none either",
      },
      sides.join(" × "),
    ),
  );
  $("crumbs").replaceChildren(...parts);
}

const ONLY_NAMES = {
  drift: "drift: planes disagree",
  changed: "changed since the earlier run",
  opened: "opened since",
  closed: "closed since",
  new: "not in the earlier run",
  reply: "reply stopped",
};
export const SELECTORS = ["level", "network", "port", "family", "plane", "order", "only"];

export function fillSelectors() {
  const option = ([value, text]) => el("option", { value }, text);
  const used = T.ports.filter((_, p) => T.slices.some(([, port]) => port === p));
  const only = ONLY.filter(
    (name) =>
      (!["changed", "opened", "closed"].includes(name) || T.changed) &&
      (name !== "new" || T.unmatched) &&
      (name !== "drift" || T.planes.length > 1),
  );
  const choices = {
    level: [
      ...(manyNetworks() ? [["networks", "networks"]] : []),
      ["groups", "namespaces"],
      ["workloads", "workloads"],
      ["endpoints", "pods"],
    ],
    network: [["", "all"], ...T.networks.map((network) => [network, network])],
    port: [["", "all"], ...used.map((port) => [port, port])],
    family: [["", "both"], ...T.families.map((family) => [family, family])],
    plane: [["", "strongest"], ...T.planes.map((plane) => [plane, plane])],
    order: [
      ["", "name"],
      ["exposure", "exposure"],
      ["similarity", "similarity"],
    ],
    only: [["", "everything"], ...only.map((name) => [name, ONLY_NAMES[name] || name])],
  };
  for (const name of SELECTORS) {
    $(name).replaceChildren(...choices[name].map(option));
    if (name !== "level")
      $(name).addEventListener("change", () => go({ [name]: $(name).value, at: "" }));
  }
  $("family-label").hidden = !T.bothFamilies;
  $("plane-label").hidden = T.planes.length < 2;
  $("network-label").hidden = T.networks.length < 2;
  for (const name of ["level", "network", "order", "only", "plane"])
    $(`${name}-label`).hidden ||= !has("cells");
  $("level").addEventListener("change", () => {
    const level = $("level").value;
    if (level === "networks") go(EVERYTHING);
    else if (level === "groups") go(allNamespaces());
    else
      go({
        rows: view.rows || { all: true },
        columns: view.columns || { all: true },
        level: level === "endpoints" ? "" : level,
        cell: null,
        at: "",
      });
  });
  $("smaller").addEventListener("click", () => zoomBy(1 / 1.3));
  $("larger").addEventListener("click", () => zoomBy(1.3));
  $("whole").addEventListener("click", () => zoomTo(layout.least));
  $("export").addEventListener("click", exportCsv);
  $("filters").addEventListener("click", () => {
    const unfolded = all(".tools")[0].classList.toggle("unfolded");
    $("filters").setAttribute("aria-expanded", String(unfolded));
    redraw();
  });
}

// The policies: the first of them, or of those that match what is typed.
const MOST_POLICIES = 100;

export function listPolicies() {
  const input = $("policy-filter");
  const body = $("policy-rows");
  const most = T.deciders.reduce((top, [, , blocks]) => Math.max(top, blocks), 1);
  const row = ([label, policy, blocks, allows, shared]) => {
    const known = policy >= 0 ? T.policies[policy] : null;
    const name = known ? [known.namespace, known.name].filter(Boolean).join("/") : label;
    const bar = document.createElementNS(SVG, "svg");
    for (const [attribute, value] of [
      ["class", "bar"],
      ["viewBox", "0 0 1000 4"],
      ["preserveAspectRatio", "none"],
      ["aria-hidden", "true"],
    ])
      bar.setAttribute(attribute, String(value));
    const rect = document.createElementNS(SVG, "rect");
    for (const [attribute, value] of [
      ["class", "blocked"],
      ["width", (1000 * blocks) / most],
      ["height", 4],
    ])
      rect.setAttribute(String(attribute), String(value));
    bar.append(rect);
    return el(
      "tr",
      {},
      el(
        "td",
        {},
        el(
          "button",
          {
            type: "button",
            class: "policy",
            title: label,
            on: { click: () => go({ policy: label, cell: null, at: "" }) },
          },
          plain(name),
        ),
        el(
          "span",
          { class: "kind" },
          [
            known ? known.kind : "",
            shared ? `shares ${figure(shared)} more` : "",
            blocks || allows || shared ? "" : "decides no cell",
          ]
            .filter(Boolean)
            .join(" · "),
        ),
        bar,
      ),
      el("td", { class: "number" }, figure(blocks)),
      el("td", { class: "number" }, figure(allows)),
    );
  };
  const list = () => {
    const wanted = input.value.trim().toLowerCase();
    const found = T.deciders.filter(([label]) => label.toLowerCase().includes(wanted));
    body.replaceChildren(...found.slice(0, MOST_POLICIES).map(row));
    $("policy-count").textContent =
      found.length > MOST_POLICIES
        ? `${figure(MOST_POLICIES)} of ${figure(found.length)} shown: type to find others.`
        : `${figure(found.length)} shown.`;
  };
  $("policy-tools").hidden = false;
  input.addEventListener("input", list);
  list();
}

// A spreadsheet must not take a name for a formula: such a text gets an apostrophe before it.
const csvField = (value) => {
  const text = String(value);
  const safe = /^[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]/.test(text) ? `'${text}` : text;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const MOST_EXPORTED = 200_000;

// The lines of what is shown, made between frames; undefined when something else is shown meanwhile.
export function csvOf() {
  const shown = scene;
  return inSlices(shown.level === "endpoints" ? cellLines() : tallyLines(), () => scene === shown);
}

const csvLine = (values) => `${values.map(csvField).join(",")}\r\n`;

// What a cell was in the earlier run, where it has a counterpart there.
const beforeOf = ({ changed, verdict }) =>
  changed === UNMATCHED ? "" : T.verdicts[changed ? changed - 1 : verdict].name;

function* cellLines() {
  const lines = [
    csvLine([
      "source",
      "destination",
      "family",
      "protocol",
      "port",
      "verdict",
      "reply",
      "drift",
      ...(T.since ? ["before"] : []),
      ...T.planes,
      "decided_by",
      "direction",
      "rule",
      "reason",
    ]),
  ];
  const word = (verdict) =>
    verdict === NO_VERDICT || verdict === ABSENT ? "" : T.verdicts[verdict].name;
  for (let r = 0; r < scene.rows.length; r += 1) {
    const looks = scene.rowLooks(r);
    for (let c = 0; c < scene.columns.length; c += 1) {
      if (scene.filtered && !scene.looks[looks[c]].hit) continue;
      for (const { code, slice } of scene.between(r, c)) {
        if (!scene.hit[code]) continue;
        if (lines.length > MOST_EXPORTED) return lines;
        const state = stateOf(code);
        const [family, port] = T.slices[slice];
        const [protocol, number = "0"] = T.ports[port].split("/");
        const rule = state.blame && state.blame.rule >= 0 ? state.blame.rule : "";
        const policy = state.decider >= 0 ? T.deciders[state.decider][0] : "";
        lines.push(
          csvLine([
            scene.rows[r].key,
            scene.columns[c].key,
            T.families[family],
            protocol,
            number,
            word(scene.shown[code]),
            word(state.reply),
            state.drift,
            ...(T.since ? [beforeOf(state)] : []),
            ...T.planes.map((plane) => word(T.planes.length > 1 ? state[plane] : state.verdict)),
            policy,
            state.blame ? state.blame.direction : "",
            rule,
            T.reasons[state.reason],
          ]),
        );
      }
      if (c % 500 === 499) yield;
    }
    yield;
  }
  return lines;
}

function* tallyLines() {
  const lines = [
    csvLine([
      "source",
      "destination",
      ...T.verdicts.map(({ name }) => name),
      "drift",
      "chosen_by_filter",
    ]),
  ];
  for (let r = 0; r < scene.rows.length; r += 1) {
    for (let c = 0; c < scene.columns.length; c += 1) {
      if (lines.length > MOST_EXPORTED) return lines;
      const counts = scene.between(r, c);
      if (scene.filtered ? counts[HITS] : counts.subarray(0, VERDICTS).some(Boolean))
        lines.push(csvLine([scene.rows[r].key, scene.columns[c].key, ...counts]));
    }
    yield;
  }
  return lines;
}

async function exportCsv() {
  const lines = await csvOf();
  if (!lines) return;
  const link = el("a", {
    download: `audit-${scene.level}.csv`,
    href: URL.createObjectURL(new Blob(lines, { type: "text/csv" })),
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  const many = lines.length - 1;
  $("status").textContent =
    many === MOST_EXPORTED
      ? `The first ${figure(many)} lines were exported; choose less to have all.`
      : `${figure(many)} lines exported.`;
}

const MOST_LISTED = 200;

// What the canvas shows, for who does not see it: from the row of the cursor on.
export async function listCells(shown) {
  const wanted = () => scene === shown;
  const found = await inSlices(listedRows(), wanted);
  if (!found) return;
  const body = el("tbody");
  $("cells-table").replaceChildren(el("table", {}, ...found.top, body));
  await inTurns(found.rows, (some) => body.append(...some), wanted);
}

function* listedRows() {
  const rows = [];
  const first = here.cursor.r;
  let last = first;
  for (let r = first; r < scene.rows.length && rows.length < MOST_LISTED; r += 1) {
    last = r;
    const looks = scene.level === "endpoints" ? scene.rowLooks(r) : null;
    for (let c = 0; c < scene.columns.length && rows.length < MOST_LISTED; c += 1) {
      if (looks && scene.filtered && !scene.looks[looks[c]].hit) continue;
      rows.push(...tableRows(r, c));
      if (rows.length % 20 === 19) yield;
    }
    yield;
  }
  const part =
    first || last < scene.rows.length - 1
      ? `, rows ${first + 1} to ${last + 1} of ${figure(scene.rows.length)}`
      : "";
  const what = view.rows
    ? `from ${plain(specText(view.rows))} to ${plain(specText(view.columns))}`
    : scene.level === "networks"
      ? "from network to network"
      : "from namespace to namespace";
  const head =
    scene.level === "endpoints"
      ? ["Source", "Destination", "Port", "Verdict", "Why"]
      : ["Source", "Destination", "Cells"];
  const top = [
    el("caption", {}, `Cells ${what}${part}`),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        head.map((text) => el("th", { scope: "col" }, text)),
      ),
    ),
  ];
  return { top, rows };
}

function tableRows(r, c) {
  const ends = () => [
    el("th", { scope: "row" }, plain(scene.rows[r].key)),
    el("td", {}, plain(scene.columns[c].key)),
  ];
  if (scene.level !== "endpoints") {
    const lines = countLines(r, c);
    return lines.length
      ? [
          el(
            "tr",
            {},
            ends(),
            el("td", {}, lines.map((line) => `${line.figure} ${line.text}`.trim()).join(", ")),
          ),
        ]
      : [];
  }
  return scene
    .between(r, c)
    .map(({ code, slice }) =>
      el(
        "tr",
        {},
        ends(),
        el("td", {}, sliceName(slice)),
        el("td", {}, T.verdicts[scene.shown[code]].name),
        el("td", {}, plain(stateOf(code).cause)),
      ),
    );
}
