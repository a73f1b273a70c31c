// The traces of a cell, hop by hop, as the engines' own words have them.

import { bringMarked, el, heading, terms } from "./tools.js";
import { chain, data, has, rawChunk, rawLines } from "./data.js";
import { whereOf } from "./path.js";

export async function tracePart(cell) {
  if (!data.traced)
    return [
      heading("Traces"),
      el(
        "p",
        { class: "muted", testid: "panel-hops" },
        "None was run: the policy objects alone were asked.",
      ),
    ];
  if (!has("hops"))
    return [
      heading("Traces"),
      el(
        "p",
        { class: "muted", testid: "panel-hops" },
        "Not in this page: the first command shows them with --raw.",
      ),
    ];
  if (cell.start < 0)
    return [
      heading("Traces"),
      el("p", { class: "muted", testid: "panel-hops" }, "This cell has no trace."),
    ];
  const request = await chain(cell.start);
  const other = cell.other >= 0 ? await chain(cell.other) : [];
  const replies = (hops) => hops.map(({ hop }) => hop[12]).filter((number) => number >= 0);
  const reply = await chain(...replies(request));
  const plane = (hops) => (other.length && hops.length ? `, ${hops[0].hop[13]} plane` : "");
  return [
    heading(`Traces of the request${plane(request)}`),
    data.composes
      ? el(
          "p",
          { class: "muted", testid: "panel-composed" },
          "If the addresses below are another pod's, an equivalent packet was traced.",
        )
      : null,
    hopList(request, "panel-hops"),
    ...(other.length
      ? [heading(`Traces of the request${plane(other)}`), hopList(other, "panel-other-hops")]
      : []),
    ...(reply.length ? [heading("Traces of the reply"), hopList(reply, "panel-reply-hops")] : []),
  ];
}

function hopList(hops, testid) {
  return el(
    "ol",
    { class: "hops", testid },
    hops.map(({ number, hop }) => {
      const [zone, state, outcome, reason, stage, flow, acl, match, policy, microflow, detail] =
        hop;
      const place = zone
        ? `zone ${zone}${hop[14] ? `, node ${hop[14]}` : ""}`
        : whereOf(zone, hop[14]);
      return el(
        "li",
        {},
        el(
          "p",
          {},
          el("b", {}, `${place}: ${outcome}`),
          reason && outcome !== "continues" ? ` (${reason})` : "",
          stage ? ` at ${stage}` : "",
        ),
        terms([
          ["Policy", policy],
          ["ACL", acl],
          ["Match", match],
          ["Logical flow", flow],
          ["Conntrack", state],
          ["Microflow", microflow],
          ["Detail", detail],
        ]),
        has("raw")
          ? rawPart(number, flow)
          : el(
              "p",
              { class: "muted", testid: "panel-raw" },
              "The raw trace is not in this page: the first command shows it with --raw.",
            ),
      );
    }),
  );
}

function rawPart(number, flow) {
  const details = el("details", { testid: "panel-raw" }, el("summary", {}, "Raw trace"));
  details.addEventListener("toggle", async () => {
    if (!details.open || details.childElementCount > 1) return;
    const pre = el("pre", { tabindex: "0" }, "…");
    details.append(pre);
    const [chunk, lines] = await Promise.all([
      rawChunk(Math.floor(number / data.tracesPerChunk)),
      rawLines(0),
    ]);
    const prefix = flow.slice(0, 8);
    pre.replaceChildren(
      ...chunk[number % data.tracesPerChunk].map((n) =>
        el("span", { class: prefix && lines[n].includes(prefix) ? "on" : null }, lines[n] || " "),
      ),
    );
    bringMarked(pre);
  });
  return details;
}
