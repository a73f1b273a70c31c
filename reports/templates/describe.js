// What there is between a row and a column of the map, in words.

import { figure, plain } from "./tools.js";
import { BLOCKED, codeAt, firstColumn, has, rowOf, S, sliceName, stateOf, T } from "./data.js";
import { sliceChosen, view } from "./view.js";
import { CLOSED, DRIFTS, FRESH, HITS, OPENED, scene } from "./scene.js";

export function describe(r, c) {
  const title = `${plain(scene.rows[r].key)} → ${plain(scene.columns[c].key)}`;
  if (scene.level !== "endpoints") {
    return { title, lines: [...countLines(r, c), ...blockersOf(r, c)], more: 0 };
  }
  const found = scene.between(r, c);
  const lines = found.slice(0, 8).map(({ code, slice }) => {
    const state = stateOf(code);
    const name = T.verdicts[scene.shown[code]].name;
    const planes = state.drift ? " (the planes disagree)" : "";
    const change = scene.opened[code] ? ", opened" : scene.closed[code] ? ", closed" : "";
    const why = view.plane
      ? `${name} by the ${view.plane} plane`
      : state.blame && state.verdict === BLOCKED
        ? `${name} by ${plain(state.blame.label)}`
        : `${name}: ${plain(state.cause)}`;
    return { verdict: name, text: `${sliceName(slice)} ${why}${planes}${change}`, figure: "" };
  });
  return { title, lines, more: found.length - lines.length };
}

export function countLines(r, c) {
  const counts = scene.between(r, c);
  const lines = T.verdicts
    .map((v, i) => ({ verdict: v.name, text: v.name, count: counts[i] }))
    .filter(({ count }) => count);
  if (counts[DRIFTS])
    lines.push({ verdict: "drift", text: "planes disagree", count: counts[DRIFTS] });
  if (counts[OPENED]) lines.push({ verdict: "opened", text: "opened", count: counts[OPENED] });
  if (counts[CLOSED]) lines.push({ verdict: "closed", text: "closed", count: counts[CLOSED] });
  if (counts[FRESH])
    lines.push({ verdict: "new", text: "not in the earlier run", count: counts[FRESH] });
  if (scene.filtered)
    lines.push({ verdict: "hit", text: "chosen by the filter", count: counts[HITS] });
  return lines.map((line) => ({ ...line, figure: figure(line.count) }));
}

// The policies that block most between two groups, by a sample of what is below them.
function blockersOf(r, c) {
  if (!has("cells") || !scene.between(r, c)[BLOCKED]) return [];
  const counts = new Map();
  const some = (members) =>
    members.length <= 12
      ? members
      : members.filter((_, i) => i % Math.ceil(members.length / 12) === 0);
  for (const src of some(scene.rows[r].members)) {
    for (const dst of some(scene.columns[c].members)) {
      for (let column = firstColumn[dst]; column < firstColumn[dst + 1]; column += 1) {
        const code = codeAt(rowOf[src], column);
        if (
          code &&
          sliceChosen(T.columnSlice[column]) &&
          T.states[code - 1][S.verdict] === BLOCKED
        ) {
          const decider = T.states[code - 1][S.decider];
          counts.set(decider, (counts.get(decider) || 0) + 1);
        }
      }
    }
  }
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, 3)
    .map(([decider]) => ({
      verdict: "blocked",
      text: `by ${plain(T.deciders[decider][0])}`,
      count: 0,
      figure: "",
    }));
}
