// The path of a cell as a picture: where its packet goes, and what decides on the way, plane by plane.

import { el, glyph, heading, terms } from "./tools.js";
import {
  BLOCKED,
  chain,
  data,
  EXITS,
  has,
  hasClosed,
  hasOpened,
  keyOf,
  NO_VERDICT,
  passes,
  stops,
  T,
  UNMATCHED,
} from "./data.js";
import { manyNetworks } from "./view.js";
import { meaningOf } from "./decision.js";

// A station of a path: {kind: "end" | "hop" | "policy", text, note, verdict}. A verdict is the name of
// one, or the empty text for what was not reached.
const station = (kind, text, note, verdict) => ({ kind, text, note, verdict });

const PACKET_SRC = /(?:ip[46]\.src==|nw_src=|ipv6_src=)([^\s,]+)/;
const PACKET_DST = /(?:ip[46]\.dst==|nw_dst=|ipv6_dst=)([^\s,]+)/;

// Whom a trace's packet goes to where that is not the Service that was asked for: one of its endpoints.
function backendOf(hop, dst) {
  const [, kind, , , , , own] = T.endpoints[dst];
  const address = PACKET_DST.exec(hop[9])?.[1];
  if (kind !== "service" || !address || own.split(" ").includes(address)) return "";
  const there = T.endpoints.filter((endpoint) => endpoint[6].split(" ").includes(address));
  return there.length === 1 ? there[0][0] : address;
}

// The stations between the ends that a plane's traces show: each zone or node that the packet comes to,
// and what decided there.
export const whereOf = (zone, node) =>
  node ? `node ${node}` : zone ? `zone ${zone}` : "the Service's endpoints";

export function hopStations(hops, dst) {
  return hops.flatMap(({ hop }) => {
    const [zone, , outcome, reason, stage, , acl, , policy, , , , , , node] = hop;
    const word =
      outcome === "continues"
        ? "reachable"
        : T.verdicts.some(({ name }) => name === outcome)
          ? outcome
          : "";
    const decides = policy || (outcome === "blocked" ? acl : "");
    const backend = backendOf(hop, dst);
    const where = `${whereOf(zone, node)}${backend ? `, to ${backend}` : ""}`;
    const why = outcome === "continues" ? "" : reason;
    if (!decides) return [station("hop", where, why || "goes on", word)];
    return [
      station("hop", where, "", ""),
      station("policy", decides, [why, stage].filter(Boolean).join(", at "), word),
    ];
  });
}

// The traces up to where a packet may go on in several ways, and those of each way.
export function waysOf(hops) {
  const byNumber = new Map(hops.map((entry) => [entry.number, entry]));
  const straight = [];
  let at = hops[0];
  while (at) {
    straight.push(at);
    const next = at.hop[11].filter((number) => byNumber.has(number));
    if (next.length > 1)
      return { straight, ways: next.map((number) => following(number, byNumber)) };
    at = byNumber.get(next[0]);
  }
  return { straight, ways: [] };
}

function following(number, byNumber) {
  const way = [];
  const queue = [number];
  for (const next of queue) {
    way.push(byNumber.get(next));
    for (const after of byNumber.get(next).hop[11])
      if (byNumber.has(after) && !queue.includes(after)) queue.push(after);
  }
  return way;
}

// Without traces, what is known: who decided, at which end.
function decidedStations(cell) {
  const { blame, verdict } = cell.state;
  if (!blame) return [];
  const of =
    blame.direction === "egress"
      ? "egress of the source"
      : blame.direction === "ingress"
        ? "ingress of the destination"
        : "";
  return [
    station(
      "policy",
      blame.policy >= 0 ? T.policies[blame.policy].label : blame.label,
      of,
      T.verdicts[verdict].name,
    ),
  ];
}

// Whose addresses a trace's packet has, in words.
function endsOfPacket(hop) {
  const owner = (pattern) => {
    const address = pattern.exec(hop[9])?.[1] || "";
    const owners = T.endpoints.filter(
      ([, kind, , , , , own]) => kind !== "service" && own.split(" ").includes(address),
    );
    return owners.length === 1 ? owners[0][0] : address;
  };
  return `${owner(PACKET_SRC)} to ${owner(PACKET_DST)}`;
}

// Whether a trace's packet went from one endpoint to the other itself: else an equivalent one did.
export function isOwnPacket(hops, src, dst) {
  const named = new Set(hops[0].hop[9].split(/[^0-9a-fA-F.:]+/));
  return [src, dst].every((endpoint) =>
    T.endpoints[endpoint][6].split(" ").some((address) => named.has(address)),
  );
}

// The network that an end is attached to, where the run has several.
const networkOf = (endpoint) =>
  manyNetworks() && T.endpoints[endpoint][7] ? `network ${T.endpoints[endpoint][7]}` : "";

function pathRow(title, src, dst, between, verdict, hops = []) {
  const arrives = passes(verdict);
  const first = station(
    "end",
    keyOf(src),
    [T.endpoints[src][4] && `on ${T.endpoints[src][4]}`, networkOf(src)].filter(Boolean).join(", "),
    "",
  );
  const became = arrives
    ? verdict === EXITS
      ? "left OVN on the way there"
      : "arrives"
    : stops(verdict)
      ? "not reached"
      : "whether it arrives is not known";
  const last = station(
    "end",
    keyOf(dst),
    [networkOf(dst), became].filter(Boolean).join(", "),
    arrives ? T.verdicts[verdict].name : "",
  );
  const { straight, ways } = hops.length ? waysOf(hops) : { straight: [], ways: [] };
  const lists = ways.length
    ? [
        stationList([first, ...hopStations(straight, dst)], false),
        el(
          "p",
          { class: "muted", testid: "panel-ways" },
          `From here the packet may go ${ways.length} ways:`,
        ),
        ...ways.map((way) => stationList(hopStations(way, dst), false)),
        stationList([last], !arrives),
      ]
    : [stationList([first, ...between, last], !arrives)];
  return [
    title
      ? el(
          "p",
          { class: "plane" },
          el(
            "span",
            { class: "state" },
            glyph(T.verdicts[verdict].name),
            el("b", {}, title),
            ` ${T.verdicts[verdict].name}`,
          ),
        )
      : null,
    ...lists,
    hops.length && !isOwnPacket(hops, src, dst)
      ? el(
          "p",
          { class: "muted", testid: "panel-equivalent" },
          `These steps are those of an equivalent packet, which every flow treats alike: ${endsOfPacket(hops[0].hop)}.`,
        )
      : null,
  ];
}

const isStop = (entry) =>
  entry.kind !== "end" &&
  entry.verdict &&
  entry.verdict !== "reachable" &&
  entry.verdict !== "exits";

// Stations on a line, of which the last may lie beyond what was reached.
function stationList(stations, beyond) {
  return el(
    "ol",
    { class: "path", testid: "panel-path" },
    stations.map((entry, i) =>
      el(
        "li",
        {
          class: [
            entry.kind,
            beyond && i === stations.length - 1 ? "beyond" : "",
            isStop(entry) ? "stop" : "",
          ]
            .filter(Boolean)
            .join(" "),
        },
        entry.verdict ? glyph(entry.verdict) : el("span", { class: "dot", "aria-hidden": "true" }),
        el(
          "span",
          {},
          el("b", {}, entry.text),
          entry.note ? el("span", { class: "muted" }, ` ${entry.note}`) : "",
        ),
      ),
    ),
  );
}

// The path in each plane that was asked; of the objects alone the two sides that have a say.
export async function pathPart(src, dst, cell) {
  const { state } = cell;
  const request = has("hops") && data.traced && cell.start >= 0 ? await chain(cell.start) : [];
  const other = has("hops") && data.traced && cell.other >= 0 ? await chain(cell.other) : [];
  const planes = T.planes.filter((plane) => state[plane] !== NO_VERDICT);
  if (planes.length < 2)
    return [
      heading("Path"),
      ...pathRow(
        "",
        src,
        dst,
        betweenOf(request, dst, cell, state.verdict),
        state.verdict,
        request,
      ),
    ];
  const rows = planes.map((plane) => {
    const hops = [request, other].find((some) => some.length && some[0].hop[13] === plane) || [];
    const verdict = state[plane];
    const between =
      plane === "probe"
        ? []
        : plane === "intent"
          ? intentStations(src, dst, cell, verdict)
          : betweenOf(hops, dst, cell, verdict);
    return pathRow(plane, src, dst, between, verdict, hops);
  });
  return [heading("Path, plane by plane"), ...rows.flat()];
}

const betweenOf = (hops, dst, cell, verdict) =>
  hops.length
    ? hopStations(hops, dst)
    : cell.state.verdict === verdict
      ? decidedStations(cell)
      : [];

// What the policy objects say at either end, where the page has it; else who decided, if they agree.
function intentStations(src, dst, cell, verdict) {
  const found = meaningOf(src, dst, cell);
  if (!found && cell.state.verdict === verdict) return decidedStations(cell);
  if (!found)
    return [
      station(
        "policy",
        "the policy objects",
        "the first command below says which of them",
        T.verdicts[verdict].name,
      ),
    ];
  const sides = [found[5], found[6]].map((text) => T.meanings.texts[text]);
  const denies = sides.map((text) => /\] decides: (?:Deny|no rule allows)/.test(text));
  // Only what the chains and the verdict say alike is shown as either.
  const known = passes(verdict)
    ? !denies.some(Boolean)
    : verdict === BLOCKED && denies.some(Boolean);
  return ["egress", "ingress"].map((name, i) =>
    station(
      "policy",
      `${name} policies`,
      sides[i],
      known ? (denies[i] ? "blocked" : "reachable") : "",
    ),
  );
}

// What a cell was in the earlier run that the page was compared with, what it is, and why.
export function sincePart(src, dst, cell) {
  if (!T.since) return null;
  const { changed, verdict } = cell.state;
  const word = (code) =>
    el("span", { class: "state" }, glyph(T.verdicts[code].name), T.verdicts[code].name);
  if (!changed) return null;
  const title = el("h3", { class: "as-is" }, `Compared with ${T.since}`);
  if (changed === UNMATCHED)
    return [
      title,
      el("p", { testid: "panel-since" }, "The earlier run has no counterpart of this cell."),
    ];
  const path = pathOfChange(src, dst, cell);
  const way = hasOpened(changed, verdict)
    ? "Opened"
    : hasClosed(changed, verdict)
      ? "Closed"
      : "Changed";
  return [
    el("h3", { class: "as-is" }, `${way}, compared with ${T.since}`),
    el(
      "div",
      { testid: "panel-since" },
      terms([
        ["Before", el("span", {}, word(changed - 1), path?.[5] ? ` ${path[5]}` : "")],
        ["After", el("span", {}, word(verdict), path?.[6] ? ` ${path[6]}` : "")],
        ["Because", path ? path[7].join("; ") : "not in this page: `audit diff` says it"],
      ]),
    ),
  ];
}

function pathOfChange(src, dst, cell) {
  const port = T.ports[T.slices[cell.slice][1]];
  const names = (endpoint) => [belongsTo(endpoint), keyOf(endpoint)];
  return T.changes.find(
    ([from, to, ports, before, after]) =>
      names(src).includes(from) &&
      names(dst).includes(to) &&
      ports.includes(port) &&
      before === cell.state.changed - 1 &&
      after === cell.state.verdict,
  );
}

// `deployment shop/web`, or itself where nothing made it: as in the model.
function belongsTo(endpoint) {
  const [key, , , workload] = T.endpoints[endpoint];
  if (!workload) return key;
  const [kind, ...name] = workload.split("/");
  return `${kind.toLowerCase()} ${T.groups[T.groupOf[endpoint]]}/${name.join("/")}`;
}
