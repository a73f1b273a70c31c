// Who decided a cell, and what the policy objects say of it.

import { cellsText, el, heading, terms } from "./tools.js";
import { BLOCKED, data, has, manifests, passes, T, unproven } from "./data.js";

export async function blamePart(cell) {
  const { blame, verdict, reason } = cell.state;
  const code = terms([["Reason", T.reasons[reason]]]);
  if (!blame)
    return [
      heading("Decided by"),
      el(
        "p",
        { testid: "panel-policy" },
        unproven(verdict) ? "Nothing is proven to have decided it." : "No policy and no ACL.",
      ),
      code,
    ];
  const title = heading(verdict === BLOCKED ? "Blocked by" : "Decided by");
  const index = blame.policy;
  const policy = index >= 0 ? T.policies[index] : null;
  const facts = terms([
    ["Direction", blame.direction && `${blame.direction}${ofWhom(blame.direction)}`],
    [
      "Rule",
      blame.rule >= 0 ? `spec.${blame.direction}[${blame.rule}]` : policy ? "no single rule" : "",
    ],
    ["Reason", T.reasons[reason]],
    ["ACL", blame.acl && `${blame.acl} (${blame.action})`],
    ["Match", blame.match],
    ["Stage", blame.stage],
    ["Logical flow", blame.flow],
    ["Zone", blame.zone],
  ]);
  const name = policy
    ? el("p", { class: "name" }, policy.label)
    : el("p", { class: "name" }, blame.label);
  return [
    title,
    el("div", { testid: "panel-policy" }, name, facts),
    policy ? await yamlPart(index, blame) : null,
    ...(await othersPart(blame)),
  ];
}

const ofWhom = (direction) =>
  direction === "ingress"
    ? " (of the destination)"
    : direction === "egress"
      ? " (of the source)"
      : "";

// A policy's YAML with the rule marked that decided; for a default deny, what makes it one.
export async function yamlPart(index, blame, folded) {
  const policy = T.policies[index];
  if (!policy.known)
    return el("p", { class: "muted" }, "The run does not have this object's text.");
  if (!has("manifests")) return null;
  const [text, ranges] = (await manifests(Math.floor(index / data.manifestsPerChunk)))[
    index % data.manifestsPerChunk
  ];
  const lines = text.replace(/\n$/, "").split("\n");
  const rules = ranges[blame.direction] || [];
  const marks = blame.rule >= 0 ? rules.slice(blame.rule, blame.rule + 1) : ranges.selector;
  const pre = el(
    "pre",
    { testid: "panel-yaml", tabindex: "0" },
    lines.map((line, n) =>
      el(
        "span",
        { class: marks.some(([from, to]) => n >= from && n < to) ? "on" : null },
        line || " ",
      ),
    ),
  );
  return el("details", { open: !folded }, el("summary", {}, folded ? policy.label : "YAML"), pre);
}

async function othersPart(blame) {
  const others = blame.policies.filter((index) => index !== blame.policy);
  if (!others.length) return [];
  const parts = await Promise.all(
    others.map((index) =>
      yamlPart(index, { ...blame, rule: -1 }, true).then((part) =>
        part && part.tagName === "DETAILS" ? part : el("p", {}, T.policies[index].label),
      ),
    ),
  );
  return [
    heading(
      `${others.length} more ${others.length === 1 ? "policy shares" : "policies share"} this decision`,
    ),
    el(
      "div",
      { testid: "panel-others" },
      el(
        "p",
        { class: "muted" },
        "A rule in any of them could allow it; taking away one of them alone would not.",
      ),
      ...parts,
    ),
  ];
}

// The row of what the policy objects say of a cell; kinds are of two pods, and a pod always reaches itself.
export function meaningOf(src, dst, cell) {
  if (!T.meanings || src === dst) return undefined;
  const [family, port] = T.slices[cell.slice];
  const wanted = [T.meanings.kindOf[src], T.meanings.kindOf[dst], family, port];
  return T.meanings.rows.find((row) => wanted.every((value, i) => row[i] === value));
}

// What the policy objects say, side by side, and what would have to change.
export function meaningPart(src, dst, cell) {
  const known = T.meanings;
  if (!known || src === dst) return null;
  const found = meaningOf(src, dst, cell);
  if (!found) {
    const left = cell.state.verdict === BLOCKED && known.kindOf[src] >= 0 && known.kindOf[dst] >= 0;
    return left
      ? [
          heading("By the policy objects"),
          el(
            "p",
            { class: "muted", testid: "panel-meaning" },
            "Not in this page: the first command below says it.",
          ),
        ]
      : null;
  }
  const [, , , , verdict, egress, ingress, changes] = found;
  const others = (also, count, more) =>
    count < 0
      ? null
      : el(
          "p",
          { class: "muted" },
          count
            ? `It opens ${cellsText(count)} more: ${also.join("; ")}${more ? " …" : ""}`
            : "It opens no other cell.",
        );
  const uncounted = changes.some(([, , count]) => count < 0);
  return [
    heading(`By the policy objects: ${T.verdicts[verdict].name}`),
    el(
      "div",
      { testid: "panel-meaning" },
      terms([
        ["Egress", known.texts[egress]],
        ["Ingress", known.texts[ingress]],
      ]),
    ),
    ...(changes.length
      ? [
          heading(
            `What would open it${passes(cell.state.verdict) ? ", by the policy objects" : ""} (each was tried)`,
          ),
          el(
            "ol",
            { class: "changes", testid: "panel-changes" },
            changes.map(([edits, also, count, more]) =>
              el("li", {}, edits.join("; and "), others(also, count, more)),
            ),
          ),
          uncounted
            ? el(
                "p",
                { class: "muted" },
                "What else these open was not counted; the first command below counts it.",
              )
            : null,
        ]
      : []),
  ];
}
