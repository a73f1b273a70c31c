// 7. The panel: one cell, one policy, or one pair of namespaces.

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

// Scrolls a text, not the page, to its first marked line.
function bringMarked(pre) {
  const line = pre.querySelector(".on");
  if (line) pre.scrollTop = Math.max(0, line.offsetTop - 60);
}

function closePanel() {
  panelTurn += 1;
  $("panel").hidden = true;
  $("panel").replaceChildren();
  $("overview").hidden = false;
}

const heading = (text) => el("h3", {}, text);
const head = (...children) => el("div", { class: "head" }, el("div", {}, ...children),
  el("button", { class: "close", type: "button", "aria-label": "Close", testid: "panel-close", on: { click: () => { goBack(); closePanel(); scroller.focus(); } } }, "×"));

function terms(pairs) {
  return el("dl", {}, pairs.filter(([, text]) => text).map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}

async function showCell() {
  panelTurn += 1;
  const turn = panelTurn;
  const { src, dst } = view.cell;
  const cells = await cellsOfPair(src, dst);
  if (turn !== panelTurn) return;
  if (!cells.length) {
    setPanel([head(), el("p", { testid: "panel-sentence", class: "sentence" }, `There is no cell from ${keyOf(src)} to ${keyOf(dst)} in this run.`)]);
    return;
  }
  const cell = cellToShow(cells);
  const verdict = T.verdicts[cell.state.verdict].name;
  const parts = [
    head(el("h2", { class: "verdict", testid: "panel-verdict" }, glyph(verdict), verdict)),
    el("p", { class: "sentence", testid: "panel-sentence", role: "status" }, sentenceOf(src, dst, cell)),
    await pathPart(src, dst, cell),
    sincePart(src, dst, cell),
    cells.length > 1 ? [heading("Every port of this pair"), portTable(cells, cell)] : null,
    planesPart(cell),
    await blamePart(cell),
    meaningPart(src, dst, cell),
    heading("Reply"), replyPart(cell),
    heading("Commands"), commandPart(src, dst, cell),
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
  return some.find((cell) => stops(cell.state.verdict)) || some.find((cell) => unproven(cell.state.verdict)) || some[0];
}

function portTable(cells, shown) {
  return el("div", { class: "box" }, el("table", { class: "ports", testid: "panel-ports" }, el("tbody", {}, cells.map((cell) => {
    const name = T.verdicts[cell.state.verdict].name;
    const reply = passes(cell.state.verdict) && cell.state.reply !== NO_VERDICT && !passes(cell.state.reply) ? `, reply ${T.verdicts[cell.state.reply].name}` : "";
    return el("tr", { class: cell === shown ? "on" : "" },
      el("td", {}, el("button", { type: "button", "aria-current": cell === shown ? "true" : null, on: { click: () => go({ at: sliceName(cell.slice) }) } }, sliceName(cell.slice))),
      el("td", {}, el("span", { class: "state" }, glyph(name), `${name}${reply}`)),
      el("td", {}, cell.state.blame ? cell.state.blame.label : ""));
  }))));
}

async function blamePart(cell) {
  const { blame, verdict, reason } = cell.state;
  const code = terms([["Reason", T.reasons[reason]]]);
  if (!blame) return [heading("Decided by"), el("p", { testid: "panel-policy" }, unproven(verdict) ? "Nothing is proven to have decided it." : "No policy and no ACL."), code];
  const title = heading(verdict === BLOCKED ? "Blocked by" : "Decided by");
  const index = blame.policy;
  const policy = index >= 0 ? T.policies[index] : null;
  const facts = terms([
    ["Direction", blame.direction && `${blame.direction}${ofWhom(blame.direction)}`],
    ["Rule", blame.rule >= 0 ? `spec.${blame.direction}[${blame.rule}]` : policy ? "no single rule" : ""],
    ["Reason", T.reasons[reason]],
    ["ACL", blame.acl && `${blame.acl} (${blame.action})`],
    ["Match", blame.match],
    ["Stage", blame.stage],
    ["Logical flow", blame.flow],
    ["Zone", blame.zone],
  ]);
  const name = policy ? el("p", { class: "name" }, policy.label) : el("p", { class: "name" }, blame.label);
  return [
    title,
    el("div", { testid: "panel-policy" }, name, facts),
    policy ? await yamlPart(index, blame) : null,
    ...await othersPart(blame),
  ];
}

const ofWhom = (direction) => (direction === "ingress" ? " (of the destination)" : direction === "egress" ? " (of the source)" : "");

// A policy's YAML with the rule marked that decided; for a default deny, what makes it one.
async function yamlPart(index, blame, folded) {
  const policy = T.policies[index];
  if (!policy.known) return el("p", { class: "muted" }, "The run does not have this object's text.");
  if (!has("manifests")) return null;
  const [text, ranges] = (await manifests(Math.floor(index / data.manifestsPerChunk)))[index % data.manifestsPerChunk];
  const lines = text.replace(/\n$/, "").split("\n");
  const rules = ranges[blame.direction] || [];
  const marks = blame.rule >= 0 ? rules.slice(blame.rule, blame.rule + 1) : ranges.selector;
  const pre = el("pre", { testid: "panel-yaml", tabindex: "0" }, lines.map((line, n) => el("span", { class: marks.some(([from, to]) => n >= from && n < to) ? "on" : null }, line || " ")));
  return el("details", { open: !folded }, el("summary", {}, folded ? policy.label : "YAML"), pre);
}

async function othersPart(blame) {
  const others = blame.policies.filter((index) => index !== blame.policy);
  if (!others.length) return [];
  const parts = await Promise.all(others.map((index) => yamlPart(index, { ...blame, rule: -1 }, true).then((part) => (part && part.tagName === "DETAILS" ? part : el("p", {}, T.policies[index].label)))));
  return [
    heading(`${others.length} more ${others.length === 1 ? "policy shares" : "policies share"} this decision`),
    el("div", { testid: "panel-others" }, el("p", { class: "muted" }, "A rule in any of them could allow it; taking away one of them alone would not."), ...parts),
  ];
}

function replyPart(cell) {
  const { reply } = cell.state;
  return el("p", { testid: "panel-reply" }, reply === NO_VERDICT ? T.noReply : T.verdicts[reply].reply);
}

function command(text) {
  const code = el("code", {}, text);
  const button = el("button", { type: "button", on: { click: () => copy(code, button) } }, "Copy");
  return el("div", { class: "command" }, code, button);
}

// The clipboard may be closed to a page opened from disk: the text is then selected instead.
async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// The shortest word `audit explain` knows an endpoint by that means nothing else in this run.
function argument(endpoint) {
  const name = shortName(endpoint);
  const kind = T.endpoints[endpoint][1];
  if (kind === "external" || kind === "ingress") return keyOf(endpoint);
  const alone = T.endpoints.filter((_, other) => shortName(other) === name).length === 1;
  return kind === "pod" && alone ? name : `${kind}/${name}`;
}

function kubectl(policy) {
  const space = policy.namespace ? ["-n", policy.namespace] : [];
  return ["kubectl", ...space, "get", policy.kind.toLowerCase(), policy.name, "-o", "yaml"].map(shellWord).join(" ");
}

function commandPart(src, dst, cell) {
  const [family, port] = T.slices[cell.slice];
  const words = ["audit", "explain", T.path, argument(src), argument(dst), T.ports[port]];
  if (T.bothFamilies) words.push("--family", T.families[family]);
  const { blame } = cell.state;
  const policy = blame && blame.policy >= 0 ? T.policies[blame.policy] : null;
  return el("div", { testid: "panel-commands" }, command(words.map(shellWord).join(" ")), policy ? command(kubectl(policy)) : null);
}

// What each plane says, where several were asked; a warning where they do not agree.
function planesPart(cell) {
  if (T.planes.length < 2) return null;
  const word = (verdict) => (verdict === NO_VERDICT ? el("span", { class: "muted" }, "not asked") : el("span", { class: "state" }, glyph(T.verdicts[verdict].name), T.verdicts[verdict].name));
  return [
    heading("By plane"),
    cell.state.drift ? el("p", { class: "warning", testid: "panel-drift" }, "Drift: the planes disagree about this cell. The path above and the traces below say what each of them decided; ", el("a", { class: "view", href: "#findings" }, "the findings say why"), ".") : null,
    el("table", { class: "ports", testid: "panel-planes" }, el("tbody", {}, T.planes.map((plane) => el("tr", {}, el("td", {}, plane), el("td", {}, word(cell.state[plane])))))),
  ].filter(Boolean);
}

// The row of what the policy objects say of a cell; kinds are of two pods, and a pod always reaches itself.
function meaningOf(src, dst, cell) {
  if (!T.meanings || src === dst) return undefined;
  const [family, port] = T.slices[cell.slice];
  const wanted = [T.meanings.kindOf[src], T.meanings.kindOf[dst], family, port];
  return T.meanings.rows.find((row) => wanted.every((value, i) => row[i] === value));
}

// What the policy objects say, side by side, and what would have to change.
function meaningPart(src, dst, cell) {
  const known = T.meanings;
  if (!known || src === dst) return null;
  const found = meaningOf(src, dst, cell);
  if (!found) {
    const left = cell.state.verdict === BLOCKED && known.kindOf[src] >= 0 && known.kindOf[dst] >= 0;
    return left ? [heading("By the policy objects"), el("p", { class: "muted", testid: "panel-meaning" }, "Not in this page: the first command below says it.")] : null;
  }
  const [, , , , verdict, egress, ingress, changes] = found;
  const others = (also, count) => (count < 0 ? null : el("p", { class: "muted" }, count ? `It opens ${cellsText(count)} more: ${also.join("; ")}${count > also.length ? " …" : ""}` : "It opens no other cell."));
  const uncounted = changes.some(([, , count]) => count < 0);
  return [
    heading(`By the policy objects: ${T.verdicts[verdict].name}`),
    el("div", { testid: "panel-meaning" }, terms([["Egress", known.texts[egress]], ["Ingress", known.texts[ingress]]])),
    ...(changes.length ? [heading(`What would open it${passes(cell.state.verdict) ? ", by the policy objects" : ""} (each was tried)`), el("ol", { class: "changes", testid: "panel-changes" }, changes.map(([edits, also, count]) => el("li", {}, edits.join("; and "), others(also, count)))), uncounted ? el("p", { class: "muted" }, "What else these open was not counted; the first command below counts it.") : null] : []),
  ];
}

async function tracePart(cell) {
  if (!data.traced) return [heading("Traces"), el("p", { class: "muted", testid: "panel-hops" }, "None was run: the policy objects alone were asked.")];
  if (!has("hops")) return [heading("Traces"), el("p", { class: "muted", testid: "panel-hops" }, "Not in this page: the first command shows them with --raw.")];
  if (cell.start < 0) return [heading("Traces"), el("p", { class: "muted", testid: "panel-hops" }, "This cell has no trace.")];
  const request = await chain(cell.start);
  const other = cell.other >= 0 ? await chain(cell.other) : [];
  const replies = (hops) => hops.map(({ hop }) => hop[12]).filter((number) => number >= 0);
  const reply = await chain(...replies(request));
  const plane = (hops) => (other.length && hops.length ? `, ${hops[0].hop[13]} plane` : "");
  return [
    heading(`Traces of the request${plane(request)}`),
    data.composes ? el("p", { class: "muted", testid: "panel-composed" }, "If the addresses below are another pod's, an equivalent packet was traced.") : null,
    hopList(request, "panel-hops"),
    ...(other.length ? [heading(`Traces of the request${plane(other)}`), hopList(other, "panel-other-hops")] : []),
    ...(reply.length ? [heading("Traces of the reply"), hopList(reply, "panel-reply-hops")] : []),
  ];
}

async function chain(...queue) {
  const found = new Map();
  for (const number of queue) {
    if (found.has(number)) continue;
    const hop = (await hopChunk(Math.floor(number / data.tracesPerChunk)))[number % data.tracesPerChunk];
    found.set(number, hop);
    queue.push(...hop[11]);
  }
  return [...found].map(([number, hop]) => ({ number, hop }));
}

function hopList(hops, testid) {
  return el("ol", { class: "hops", testid }, hops.map(({ number, hop }) => {
    const [zone, state, outcome, reason, stage, flow, acl, match, policy, microflow, detail] = hop;
    const place = zone ? `zone ${zone}${hop[14] ? `, node ${hop[14]}` : ""}` : whereOf(zone, hop[14]);
    return el("li", {},
      el("p", {}, el("b", {}, `${place}: ${outcome}`), reason && outcome !== "continues" ? ` (${reason})` : "", stage ? ` at ${stage}` : ""),
      terms([["Policy", policy], ["ACL", acl], ["Match", match], ["Logical flow", flow], ["Conntrack", state], ["Microflow", microflow], ["Detail", detail]]),
      has("raw") ? rawPart(number, flow) : el("p", { class: "muted", testid: "panel-raw" }, "The raw trace is not in this page: the first command shows it with --raw."));
  }));
}

function rawPart(number, flow) {
  const details = el("details", { testid: "panel-raw" }, el("summary", {}, "Raw trace"));
  details.addEventListener("toggle", async () => {
    if (!details.open || details.childElementCount > 1) return;
    const pre = el("pre", { tabindex: "0" }, "…");
    details.append(pre);
    const [chunk, lines] = await Promise.all([rawChunk(Math.floor(number / data.tracesPerChunk)), rawLines(0)]);
    const prefix = flow.slice(0, 8);
    pre.replaceChildren(...chunk[number % data.tracesPerChunk].map((n) => el("span", { class: prefix && lines[n].includes(prefix) ? "on" : null }, lines[n] || " ")));
    bringMarked(pre);
  });
  return details;
}

async function showPolicy(index) {
  panelTurn += 1;
  const mine = panelTurn;
  const [label, policy, blocks, allows, shared] = T.deciders[index];
  const about = policy >= 0 ? T.policies[policy] : null;
  const yaml = about ? await yamlPart(policy, { direction: "", rule: -1 }) : null;
  if (mine !== panelTurn) return;
  const link = ([r, c, count]) => {
    const [row, column] = [scene.rows[r], scene.columns[c]];
    return el("li", {}, el("button", { type: "button", on: { click: () => go({ rows: specOf(scene.level, row), columns: specOf(scene.level, column), level: below(scene.level), cell: null }) } },
      el("span", {}, `${row.key} → ${column.key}`), el("span", { class: "number" }, figure(count))));
  };
  const where = el("div");
  const idle = !blocks && !allows && !shared;
  setPanel([
    head(el("h2", { class: "verdict", testid: "panel-policy" }, label)),
    el("p", { testid: "panel-sentence" }, idle ? "Decides no cell of this run." : `Blocks ${cellsText(blocks)} and allows ${figure(allows)}${shared ? `; it shares the default deny of ${figure(shared)} more` : ""}.`),
    where,
    heading("Commands"), about ? command(kubectl(about)) : command(["audit", "explain", T.path, "SRC", "DST", "PORT"].map(shellWord).join(" ")),
    ...(yaml ? [heading("Object"), yaml] : []),
  ]);
  const places = await inSlices(placesOfHits(), () => mine === panelTurn);
  if (places?.length) where.replaceChildren(el("p", { class: "muted" }, "On the map they stand out."), heading("Where it decides most"), el("ul", { class: "links" }, places.map(link)));
  else if (places && !idle && scene.level !== "endpoints" && has("cells")) where.replaceChildren(el("p", { class: "muted" }, "None of them is in this part of the map."));
}

// The pairs of groups with most cells that the filter chooses.
function* placesOfHits() {
  if (scene.level === "endpoints" || !has("cells") || scene.rows.length * scene.columns.length > 400_000) return [];
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
function showPair(r, c) {
  const { title, lines } = describe(r, c);
  const sql = `SELECT src_name, dst_name, protocol, port, verdict, blame_name FROM cells WHERE src_namespace = ${sqlText(scene.rows[r].key)} AND dst_namespace = ${sqlText(scene.columns[c].key)}`;
  const proven = lines.filter((line) => !["inconclusive", "untraced"].includes(line.verdict)).reduce((sum, line) => sum + line.count, 0);
  panelTurn += 1;
  setPanel([
    head(el("h2", { class: "verdict", testid: "panel-sentence" }, title)),
    el("table", { class: "ports" }, el("tbody", {}, lines.map((line) => el("tr", {},
      el("td", {}, el("span", { class: "state" }, glyph(line.verdict), line.text)),
      el("td", { class: "number" }, line.figure),
      el("td", { class: "number" }, ["inconclusive", "untraced"].includes(line.verdict) ? "not counted" : percent(line.count, proven)))))),
    heading("Commands"), command(["audit", "query", T.path, sql].map(shellWord).join(" ")),
  ]);
}
