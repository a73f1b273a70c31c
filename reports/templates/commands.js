// Commands that say more of a cell or a policy, to be copied.

import { el, shellWord } from "./tools.js";
import { keyOf, shortName, T } from "./data.js";

export function command(text) {
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
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}

// The shortest word `audit explain` knows an endpoint by that means nothing else in this run.
function argument(endpoint) {
  const name = shortName(endpoint);
  const kind = T.endpoints[endpoint][1];
  if (kind === "external" || kind === "ingress") return keyOf(endpoint);
  const alone = T.endpoints.filter((_, other) => shortName(other) === name).length === 1;
  return kind === "pod" && alone ? name : `${kind}/${name}`;
}

export function kubectl(policy) {
  const space = policy.namespace ? ["-n", policy.namespace] : [];
  return ["kubectl", ...space, "get", policy.kind.toLowerCase(), policy.name, "-o", "yaml"]
    .map(shellWord)
    .join(" ");
}

export function commandPart(src, dst, cell) {
  const [family, port] = T.slices[cell.slice];
  const words = ["audit", "explain", T.path, argument(src), argument(dst), T.ports[port]];
  if (T.bothFamilies) words.push("--family", T.families[family]);
  const { blame } = cell.state;
  const policy = blame && blame.policy >= 0 ? T.policies[blame.policy] : null;
  return el(
    "div",
    { testid: "panel-commands" },
    command(words.map(shellWord).join(" ")),
    policy ? command(kubectl(policy)) : null,
  );
}
