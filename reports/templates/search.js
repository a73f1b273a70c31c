// Search: networks, namespaces, workloads, endpoints, labels, addresses, ports, policies, and pairs.

import { $, clamp, el, plain } from "./tools.js";
import { firstColumn, has, keyOf, rowOf, sliceName, T } from "./data.js";
import { go, manyNetworks } from "./view.js";

const MOST_FOUND = 14;
const PAIR = /\s*(?:→|->|=>|>)\s*|\s+to\s+/;
// Two names with a slash are a pair without anything between them; a kind before a name may be left out.
const BARE_PAIR = /^(\S+\/\S+)\s+(\S+\/\S+(?:\s.*)?)$/;
const KIND =
  /^(?:ns|namespaces?|po|pods?|svc|services?|no|nodes?|deploy|deployments?|sts|statefulsets?|ds|daemonsets?|cj|cronjobs?|jobs?)\//;
export const withoutKind = (word) => word.replace(KIND, "");
const PORT = /^:?(?:([a-z]+)\/)?(\d+)(?:\/([a-z]+))?$/;

// The ports of the run that a word names: `80`, `:80`, `tcp/80`, `80/tcp`.
export function portsNamed(word, ports) {
  const named = PORT.exec(word);
  if (!named) return [];
  const [, before, number, after] = named;
  return ports.filter((port) => {
    const [protocol, numbers = "0"] = port.split("/"); // icmp has none
    const [first, last = first] = numbers.split("-").map(Number);
    return (
      (!(before || after) || protocol === (before || after)) &&
      first <= Number(number) &&
      Number(number) <= last
    );
  });
}

// How well an endpoint is what was typed: 0 is best, -1 is not at all.
export function likeness(wanted, key, addresses, labels) {
  const name = key.slice(key.indexOf(" ") + 1);
  if (key === wanted || name === wanted || addresses.split(" ").includes(wanted)) return 0;
  const own = name.slice(name.indexOf("/") + 1);
  if (own === wanted) return 1;
  if (name.startsWith(wanted) || own.startsWith(wanted)) return 2;
  if (key.includes(wanted)) return 3;
  if (addresses.split(" ").some((address) => address.startsWith(wanted))) return 4;
  return labels.some((label) => label.toLowerCase().includes(wanted)) ? 5 : -1;
}

// The endpoints that are what was typed, the best first: {endpoint, rank, as}.
function endpointsNamed(wanted, most) {
  const labelled = T.labelSets.map((labels) => likeness(wanted, "", "", labels) === 5);
  const ranks = [[], [], [], [], [], []];
  T.endpoints.forEach(([key, , , , , set, addresses], endpoint) => {
    const rank = likeness(wanted, key.toLowerCase(), addresses, []);
    if (rank >= 0) ranks[rank].push(endpoint);
    else if (labelled[set]) ranks[5].push(endpoint);
  });
  const as = (endpoint, rank) => {
    const [, , , , , set, addresses] = T.endpoints[endpoint];
    if (rank === 5) return T.labelSets[set].find((label) => label.toLowerCase().includes(wanted));
    return addresses.split(" ").find((address) => address.startsWith(wanted)) || "";
  };
  return ranks
    .flatMap((endpoints, rank) =>
      endpoints.slice(0, most).map((endpoint) => ({ endpoint, rank, as: as(endpoint, rank) })),
    )
    .slice(0, most);
}

const isSource = (endpoint) => rowOf[endpoint] >= 0;
const isDestination = (endpoint) => firstColumn[endpoint + 1] > firstColumn[endpoint];

// Two namespaces of these names, if there are.
export function groupPair(from, to) {
  const [rows, columns] = [from, to].map((name) =>
    T.groups.findIndex((group) => group.toLowerCase() === name),
  );
  if (rows < 0 || columns < 0) return [];
  return [
    {
      name: `${T.groups[rows]} → ${T.groups[columns]}`,
      as: "these namespaces",
      change: { rows: { group: rows }, columns: { group: columns }, level: "workloads" },
    },
  ];
}

// Two endpoints, and perhaps a port after the second: `shop/front -> data/db 5432`.
function pairsNamed(from, to) {
  const words = to.split(/\s+/);
  const ports = words.length > 1 ? portsNamed(words.at(-1), T.ports) : [];
  const target = ports.length
    ? words
        .slice(0, -1)
        .join(" ")
        .replace(/\s+on$/, "")
    : to;
  const sources = endpointsNamed(from, 60)
    .filter(({ endpoint }) => isSource(endpoint))
    .slice(0, 4);
  const destinations = endpointsNamed(target, 60)
    .filter(({ endpoint }) => isDestination(endpoint))
    .slice(0, 4);
  const at = T.slices.findIndex(([, port]) => ports.includes(T.ports[port]));
  return sources.flatMap(({ endpoint: src }) =>
    destinations.map(({ endpoint: dst }) => ({
      name: `${keyOf(src)} → ${keyOf(dst)}`,
      as: at >= 0 ? sliceName(at) : "this pair",
      change: {
        rows: { group: T.groupOf[src] },
        columns: { group: T.groupOf[dst] },
        level: "",
        cell: { src, dst },
        at: at >= 0 ? sliceName(at) : "",
        ...(at >= 0 ? { port: "" } : {}), // else the map may show another port than was asked for
      },
    })),
  );
}

export function search(text) {
  const typed = text.trim().toLowerCase();
  const bare = BARE_PAIR.exec(typed);
  const ends = (bare ? bare.slice(1) : typed.split(PAIR)).map(withoutKind);
  if (ends.length === 2 && ends.every(Boolean))
    return [...groupPair(...ends), ...pairsNamed(...ends)].slice(0, MOST_FOUND);
  const wanted = withoutKind(typed);
  if (!wanted) return [];
  const matches = (name) => name.toLowerCase().includes(wanted);
  const both = (name, spec, as, level) => [
    {
      name,
      as: [as, "as source"].filter(Boolean).join(", "),
      change: { rows: spec, columns: { all: true }, level },
    },
    {
      name,
      as: [as, "as destination"].filter(Boolean).join(", "),
      change: { rows: { all: true }, columns: spec, level },
    },
  ];
  const ports = portsNamed(wanted, T.ports).map((port) => ({
    name: port,
    as: "this port alone",
    change: { port },
  }));
  const groups = T.groups
    .flatMap((name, group) =>
      matches(name) ? both(name, { group }, "all of it", "workloads") : [],
    )
    .slice(0, 6);
  const networks = (manyNetworks() ? T.networks : [])
    .flatMap((name, network) =>
      matches(name) ? both(name, { network }, "this network", "groups") : [],
    )
    .slice(0, 4);
  const labels = wanted.includes("=")
    ? [...T.byLabel.keys()]
        .filter((label) => label.toLowerCase() === wanted)
        .flatMap((label) => both(label, { label }, "all that have it", ""))
    : [];
  const endpoints = endpointsNamed(wanted, MOST_FOUND).flatMap(({ endpoint, as }) =>
    both(keyOf(endpoint), { endpoint }, as, "").filter((_, side) =>
      (side ? isDestination : isSource)(endpoint),
    ),
  );
  const policies =
    wanted.length > 2
      ? T.deciders
          .filter(([label]) => matches(label))
          .slice(0, 6)
          .map(([label]) => ({ name: label, as: "policy", change: { policy: label } }))
      : [];
  const rest =
    MOST_FOUND -
    ports.length -
    networks.length -
    groups.length -
    labels.length -
    Math.min(policies.length, 4);
  return [
    ...ports,
    ...labels,
    ...networks,
    ...groups,
    ...endpoints.slice(0, Math.max(4, rest)),
    ...policies,
  ].slice(0, MOST_FOUND);
}

export function listenToSearch() {
  const input = $("search");
  const list = $("found");
  let found = [];
  let at = 0;
  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const choose = (index) => {
    if (!found[index]) return;
    close();
    input.value = "";
    go({ cell: null, at: "", ...found[index].change });
    $("scroller").focus({ preventScroll: true });
  };
  const render = () => {
    list.replaceChildren(
      ...found.map((entry, i) =>
        el(
          "li",
          {
            id: `found-${i}`,
            role: "option",
            "aria-selected": String(i === at),
            on: {
              mousedown: (event) => {
                event.preventDefault();
                choose(i);
              },
            },
          },
          el("span", {}, plain(entry.name)),
          el("span", { class: "as" }, entry.as),
        ),
      ),
    );
    if (!found.length)
      list.replaceChildren(
        el(
          "li",
          { role: "option", "aria-disabled": "true", "aria-selected": "false" },
          el("span", { class: "as" }, "nothing in this run"),
        ),
      );
    list.hidden = !input.value.trim();
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (found.length) input.setAttribute("aria-activedescendant", `found-${at}`);
  };
  input.addEventListener("input", () => {
    found = has("cells") ? search(input.value) : [];
    at = 0;
    render();
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      at = clamp(at + (event.key === "ArrowDown" ? 1 : -1), 0, Math.max(0, found.length - 1));
      render();
    } else if (event.key === "Enter") choose(at);
    else if (event.key === "Escape") {
      input.value = "";
      close();
      $("scroller").focus({ preventScroll: true });
    } else return;
    event.preventDefault();
  });
}
