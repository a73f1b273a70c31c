// The view: everything a link to it must carry stands in the fragment of the address.

import { has, keyOf, T } from "./data.js";

// rows and columns: null (everything, by network or by group), {network}, {group}, {workload}, {endpoint}, {label} or {all: true}
export const EMPTY = {
  rows: null,
  columns: null,
  level: "",
  network: "",
  port: "",
  family: "",
  plane: "",
  order: "",
  only: "",
  policy: "",
  cell: null,
  at: "",
};
const LEVELS = ["networks", "groups", "workloads", "endpoints"];
const ORDERS = ["exposure", "similarity"];
export const ONLY = [
  "reachable",
  "exits",
  "blocked",
  "unroutable",
  "inconclusive",
  "untraced",
  "unproven",
  "drift",
  "changed",
  "opened",
  "closed",
  "new",
  "reply",
];
export let view = { ...EMPTY }; // what is shown

export function setView(v) {
  view = v;
}

// Whether the filters of a view leave in a port and a family.
export const sliceChosen = (slice, v = view) => {
  const [family, port] = T.slices[slice];
  return (
    (v.port === "" || T.ports[port] === v.port) &&
    (v.family === "" || T.families[family] === v.family)
  );
};

// What a row or a column of a level is called in a link, and the level below where it is not the pods.
export const SPEC_OF = {
  networks: "network",
  groups: "group",
  workloads: "workload",
  endpoints: "endpoint",
};
export const specOf = (level, entry) => (entry ? { [SPEC_OF[level]]: entry.id } : { all: true });
export const below = (level) => (level === "networks" ? "groups" : "");

// Where there are several networks the map begins with them: else one of its steps would be a single cell.
export const manyNetworks = () => T.networks.length > 1 && has("cells");

export const EVERYTHING = { rows: null, columns: null, level: "", cell: null, at: "" };
export const allNamespaces = () => ({ ...EVERYTHING, level: manyNetworks() ? "groups" : "" });
export const isOfNetworks = (v) =>
  Boolean(v.rows) && [v.rows, v.columns].some((spec) => spec.network !== undefined);

const NETWORK = "network ";
const WORKLOAD = "workload ";
const LABELLED = "label ";
export const specText = (spec) =>
  spec.all
    ? "*"
    : spec.label !== undefined
      ? LABELLED + spec.label
      : spec.endpoint !== undefined
        ? keyOf(spec.endpoint)
        : spec.workload !== undefined
          ? WORKLOAD + T.workloads[spec.workload]
          : spec.network !== undefined
            ? NETWORK + T.networkNames[spec.network]
            : T.groups[spec.group];

function parseSpec(text) {
  if (text === "*") return { all: true };
  if (T.byGroup.has(text)) return { group: T.byGroup.get(text) };
  if (T.byKey.has(text)) return { endpoint: T.byKey.get(text) };
  if (text.startsWith(LABELLED) && T.byLabel.has(text.slice(LABELLED.length)))
    return { label: text.slice(LABELLED.length) };
  const network = text.startsWith(NETWORK)
    ? T.networkNames.indexOf(text.slice(NETWORK.length))
    : -1;
  if (network >= 0) return { network };
  const workload = text.startsWith(WORKLOAD)
    ? T.byWorkload.get(text.slice(WORKLOAD.length))
    : undefined;
  return workload === undefined ? null : { workload };
}

// The address of what these parts of a view are, whatever its other parts.
export function hashOf(v, names) {
  return toHash({ ...EMPTY, ...Object.fromEntries(names.map((name) => [name, v[name]])) });
}

export function toHash(v) {
  const parts = [];
  const add = (name, ...texts) => parts.push(`${name}=${texts.map(encodeURIComponent).join(",")}`);
  if (v.rows && v.columns) add("ns", specText(v.rows), specText(v.columns));
  for (const name of ["level", "network", "port", "family", "plane", "order", "only", "policy"])
    if (v[name]) add(name, v[name]);
  if (v.cell) add("cell", keyOf(v.cell.src), keyOf(v.cell.dst));
  if (v.cell && v.at) add("at", v.at);
  return parts.join("&");
}

// What a fragment names and this run does not have is left out, for links outlive runs; `strange` gets it.
export function fromHash(text, strange = []) {
  const v = { ...EMPTY };
  const known = {
    level: LEVELS,
    network: T.networks,
    port: T.ports,
    family: T.families,
    plane: T.planes,
    order: ORDERS,
    only: ONLY,
  };
  for (const part of text.replace(/^#/, "").split("&")) {
    const [name, value = ""] = part.split("=");
    let values;
    try {
      values = value.split(",").map(decodeURIComponent);
    } catch {
      continue;
    }
    if (name === "ns" && values.length === 2) {
      const [rows, columns] = values.map(parseSpec);
      if (rows && columns && has("cells")) Object.assign(v, { rows, columns });
      else strange.push(...values.filter((named) => !parseSpec(named)));
    } else if (known[name] && known[name].includes(values[0])) [v[name]] = values;
    else if (name === "policy" && T.byPolicy.has(values[0])) [v.policy] = values;
    else if (name === "cell" && values.length === 2) {
      const [src, dst] = values.map((key) => T.byKey.get(key));
      if (src !== undefined && dst !== undefined && has("cells")) v.cell = { src, dst };
      else strange.push(...values.filter((key) => !T.byKey.has(key)));
    } else if (name === "at") [v.at] = values;
    else if (name) strange.push(`${name} ${values.join(", ")}`);
  }
  // A link to a cell alone opens the namespaces it is in.
  if (v.cell && !v.rows)
    Object.assign(v, {
      rows: { group: T.groupOf[v.cell.src] },
      columns: { group: T.groupOf[v.cell.dst] },
      level: "",
    });
  const fits = v.rows ? v.level !== "networks" : v.level === "groups" && manyNetworks();
  if (!fits) v.level = "";
  return v;
}

export const levelOf = (v) =>
  v.level || (v.rows ? "endpoints" : manyNetworks() ? "networks" : "groups");

export function go(change) {
  // Not of `view`, which is what is shown: the last change may be on its way.
  const hash = toHash({ ...fromHash(location.hash), ...change });
  // The browser keeps the history, and says what is to be shown by `hashchange`; not where the address
  // stays, which is then shown again.
  if (location.hash.replace(/^#/, "") === hash) window.dispatchEvent(new Event("hashchange"));
  else location.hash = hash;
}

// One step up: from the cell to the map, from pods to their workloads, from there to all namespaces, and
// where there are several, to all networks.
export function goBack() {
  if (view.cell) return go({ cell: null, at: "" });
  if (view.policy || view.only) return go({ policy: "", only: "" });
  if (!view.rows) return view.level ? go({ level: "" }) : undefined;
  if (view.rows.workload !== undefined && view.columns.workload !== undefined) {
    const groupOf = (workload) => T.groupOf[T.workloadOf.indexOf(workload)];
    return go({
      rows: { group: groupOf(view.rows.workload) },
      columns: { group: groupOf(view.columns.workload) },
      level: "workloads",
    });
  }
  return go(isOfNetworks(view) ? EVERYTHING : allNamespaces());
}
