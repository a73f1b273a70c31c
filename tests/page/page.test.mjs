// What of the page's script needs no document, with node's own runner; the rest is tested in a browser.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { plain, shellWord } from "../../reports/templates/tools.js";
import {
  hasClosed,
  hasOpened,
  setData,
  setTables,
  UNMATCHED,
} from "../../reports/templates/data.js";
import { EMPTY, fromHash, levelOf, toHash } from "../../reports/templates/view.js";
import {
  forgetTiles,
  makeTiles,
  percentOf,
  setPixels,
  shadeOf,
} from "../../reports/templates/paint.js";
import { hopStations, isOwnPacket, waysOf } from "../../reports/templates/path.js";
import {
  groupPair,
  likeness,
  portsNamed,
  search,
  withoutKind,
} from "../../reports/templates/search.js";

setData({ leftOut: [] });
beforeEach(() => setTables(TABLES));

const VERDICTS = ["reachable", "exits", "blocked", "unroutable", "inconclusive", "untraced"].map(
  (name) => ({ name }),
);
const TABLES = {
  verdicts: VERDICTS,
  ports: ["tcp/80", "udp/53", "tcp/8000-8100"],
  families: ["ip4"],
  planes: ["logical"],
  networks: ["default"],
  networkNames: ["default", "(no network)"],
  groups: ["shop", "a,b & c"],
  byGroup: new Map([
    ["shop", 0],
    ["a,b & c", 1],
  ]),
  endpoints: [
    ["pod shop/web-0", "pod", "web-0", "StatefulSet/web", "n1", 0, "10.0.0.1 fd00::1", "default"],
    ["service shop/web", "service", "web", "", "", 1, "", ""],
  ],
  groupOf: [0, 0],
  labelSets: [["app=web"], []],
  byKey: new Map([
    ["pod shop/web-0", 0],
    ["service shop/web", 1],
  ]),
  byLabel: new Map([["app=web", new Set([0])]]),
  byPolicy: new Map([["networkpolicy shop/x", 0]]),
  byWorkload: new Map(),
  workloads: [],
  deciders: [["networkpolicy shop/x", 0, 1, 0, 0]],
  slices: [[0, 0]],
};
const same = assert.deepEqual;

test("0 and 100 percent are none and all of it, whatever is rounded", () => {
  assert.equal(percentOf([0, 0, 5, 0, 9, 9]), 0);
  assert.equal(percentOf([4, 1, 0, 0, 9, 9]), 100);
  assert.equal(percentOf([1, 0, 99_999, 0, 0, 0]), 1);
  assert.equal(percentOf([99_999, 0, 0, 1, 0, 0]), 99);
  assert.equal(percentOf([1, 0, 1, 0, 0, 0]), 50);
});

test("whoever is to make tiles of a scene that is gone has none to make", () => {
  forgetTiles(); // what was wanted is of no use, and the timer that was set for it still comes
  assert.equal(makeTiles(5), false);
});

test("a shade is a verdict's own colour where all is alike, and one colour where all passes or stops", () => {
  const pixels = [
    [0, 0, 9],
    [0, 0, 5],
    [9, 0, 0],
    [5, 0, 0],
  ];
  setPixels(
    pixels,
    Array.from({ length: 101 }, (_, part) => [part, part, part]),
  );
  same(shadeOf([3, 0, 0, 0, 0, 0]), [0, 0, 9]);
  same(shadeOf([0, 0, 0, 2, 0, 0]), [5, 0, 0]);
  same(shadeOf([1, 1, 0, 0, 0, 0]), [0, 0, 9]);
  same(shadeOf([0, 0, 1, 2, 0, 0]), [9, 0, 0]);
  same(shadeOf([1, 0, 3, 0, 0, 0]), [25, 25, 25]);
});

test("a port is named by its number, with its protocol on either side, and within a range", () => {
  same(portsNamed("80", TABLES.ports), ["tcp/80"]);
  same(portsNamed(":53", TABLES.ports), ["udp/53"]);
  same(portsNamed("80/tcp", TABLES.ports), ["tcp/80"]);
  same(portsNamed("udp/80", TABLES.ports), []);
  same(portsNamed("8080", TABLES.ports), ["tcp/8000-8100"]);
  same(portsNamed("web-80", TABLES.ports), []);
});

test("what is typed is an endpoint by its name, its address, its label, the likeliest first", () => {
  const of = (wanted) => likeness(wanted, "pod shop/web-0", "10.0.0.1 fd00::1", ["app=web"]);
  assert.equal(of("shop/web-0"), 0);
  assert.equal(of("10.0.0.1"), 0);
  assert.equal(of("web-0"), 1);
  assert.equal(of("web"), 2);
  assert.equal(of("fd00"), 4);
  assert.equal(of("app=w"), 5);
  assert.equal(of("db"), -1);
});

test("the address of a view says it whole, and gives it back", () => {
  for (const view of [
    {},
    { only: "opened", policy: "networkpolicy shop/x" },
    { rows: { group: 1 }, columns: { all: true }, level: "workloads" },
    { rows: { label: "app=web" }, columns: { endpoint: 1 } },
    { rows: { group: 0 }, columns: { group: 0 }, cell: { src: 0, dst: 1 }, at: "tcp/80" },
  ])
    same(fromHash(toHash({ ...EMPTY, ...view })), { ...EMPTY, ...view });
});

test("what a link names and the run lacks is told", () => {
  const strange = [];
  fromHash("#ns=shop,gone&cell=pod%20x,pod%20shop%2Fweb-0&only=nonsense&policy=none", strange);
  same(strange, ["gone", "pod x", "only nonsense", "policy none"]);
});

test("a cell opened or closed by what it was and what it is, doubt being neither", () => {
  const [reachable, blocked, inconclusive] = [0, 2, 4];
  assert.ok(hasOpened(blocked + 1, reachable));
  assert.ok(hasOpened(inconclusive + 1, reachable));
  assert.ok(hasClosed(reachable + 1, blocked));
  assert.ok(!hasClosed(reachable + 1, inconclusive));
  for (const mark of [0, UNMATCHED])
    assert.ok(!hasOpened(mark, reachable) && !hasClosed(mark, blocked));
});

test("a hop that a policy stops is a zone without a verdict, then the policy with it", () => {
  const hop = (outcome, policy, acl = "") => ({
    hop: [
      "z",
      "new",
      outcome,
      "why",
      "stage",
      "flow",
      acl,
      "",
      policy,
      "",
      "",
      [],
      -1,
      "logical",
      "",
    ],
  });
  const shown = hopStations(
    [hop("continues", ""), hop("blocked", "networkpolicy shop/x ingress")],
    0,
  );
  same(
    shown.map(({ kind, text, verdict }) => [kind, text, verdict]),
    [
      ["hop", "zone z", "reachable"],
      ["hop", "zone z", ""],
      ["policy", "networkpolicy shop/x ingress", "blocked"],
    ],
  );
  same(
    hopStations([hop("a word of tomorrow", "")], 0).map(({ verdict }) => verdict),
    [""],
  );
});

test("a hop of a service's packet names the endpoint it goes to, where that is one alone", () => {
  const service = ["service shop/web", "service", "web", "", "", 1, "10.96.0.9", ""];
  const pods = ["10.0.0.7", "10.0.0.8", "10.0.0.8"].map((address, i) => [
    `pod shop/web-${i}`,
    "pod",
    `web-${i}`,
    "",
    "n1",
    1,
    address,
    "default",
  ]);
  setTables({ ...TABLES, endpoints: [service, ...pods] });
  const hop = (flow) => ({
    hop: ["z", "new", "continues", "", "", "flow", "", "", "", flow, "", [], -1, "logical", ""],
  });
  const shown = (flow, dst) => hopStations([hop(flow)], dst)[0].text;
  assert.equal(
    shown('inport=="a" && ip4.src==10.0.0.1 && ip4.dst==10.96.0.9 && tcp.dst==80', 0),
    "zone z",
  );
  assert.equal(
    shown('inport=="a" && ip4.src==10.0.0.1 && ip4.dst==10.0.0.7 && tcp.dst==8080', 0),
    "zone z, to pod shop/web-0",
  );
  assert.equal(
    shown("tcp,nw_src=10.0.0.1,nw_dst=10.0.0.7,tp_dst=8080", 0),
    "zone z, to pod shop/web-0",
  );
  assert.equal(shown("ip4.dst==10.0.0.8 && tcp.dst==8080", 0), "zone z, to 10.0.0.8");
  assert.equal(shown("ip4.dst==10.0.0.7 && tcp.dst==8080", 1), "zone z");
});

test("a packet is a cell's own when it goes between the addresses of both", () => {
  setTables({
    ...TABLES,
    endpoints: [
      ...TABLES.endpoints,
      ["pod shop/db-0", "pod", "db-0", "", "n2", 1, "10.0.0.12", "default"],
    ],
  });
  const flow = (text) => [{ hop: ["z", "", "", "", "", "", "", "", "", text] }];
  assert.ok(isOwnPacket(flow("ip4.src == 10.0.0.1 && ip4.dst == 10.0.0.12"), 0, 2));
  assert.ok(isOwnPacket(flow("tcp,nw_src=10.0.0.1,nw_dst=10.0.0.12,tp_dst=80"), 0, 2));
  assert.ok(!isOwnPacket(flow("ip4.src == 10.0.0.12 && ip4.dst == 10.0.0.13"), 0, 2));
});

test("names are shown without what turns or hides text, and quoted for a shell", () => {
  assert.equal(plain("a\u202eb\u200bc"), "a\ufffdb\ufffdc");
  assert.equal(shellWord("it's $(x)"), "'it'\\''s $(x)'");
  assert.equal(shellWord("shop/web-0"), "shop/web-0");
});

test("where there are several networks a link names them, their namespaces, and nothing that is not there", () => {
  const several = {
    ...TABLES,
    networks: ["blue", "default"],
    networkNames: ["blue", "default", "(no network)"],
  };
  setTables(several);
  const pair = { ...EMPTY, rows: { network: 0 }, columns: { network: 2 }, level: "groups" };
  assert.equal(toHash(pair), "ns=network%20blue,network%20(no%20network)&level=groups");
  same(fromHash(toHash(pair)), pair);
  same(fromHash("level=groups"), { ...EMPTY, level: "groups" });
  assert.equal(levelOf(fromHash("")), "networks");
  assert.equal(levelOf(fromHash("level=networks")), "networks");
  same(fromHash("ns=network red,network blue"), { ...EMPTY });
});

test("a network is found by its name, as a source and as a destination", () => {
  const several = {
    ...TABLES,
    networks: ["blue", "default"],
    networkNames: ["blue", "default", "(no network)"],
  };
  setTables(several);
  same(
    search("blue").map(({ name, as, change }) => [name, as, change.level]),
    [
      ["blue", "this network, as source", "groups"],
      ["blue", "this network, as destination", "groups"],
    ],
  );
  setTables(TABLES);
  same(search("default"), []);
});

test("one network is no step of the map", () => {
  assert.equal(levelOf(fromHash("")), "groups");
  assert.equal(levelOf(fromHash("level=groups")), "groups");
  assert.equal(levelOf(fromHash("level=networks")), "groups");
});

test("search takes the words of the command line", () => {
  same(["ns/shop", "pod/shop/web-0", "shop/web-0", "node/n1"].map(withoutKind), [
    "shop",
    "shop/web-0",
    "shop/web-0",
    "n1",
  ]);
  same(
    groupPair("shop", "a,b & c").map(({ name, change }) => [name, change.level]),
    [["shop → a,b & c", "workloads"]],
  );
  same(groupPair("shop", "nowhere"), []);
});

test("where a packet may go on in several ways, each is for itself", () => {
  const hop = (number, ...next) => ({ number, hop: [...Array(11), next] });
  const numbers = ({ straight, ways }) =>
    [straight, ...ways].map((some) => some.map(({ number }) => number));
  same(numbers(waysOf([hop(7, 8), hop(8, 1, 2), hop(1), hop(2, 3), hop(3)])), [
    [7, 8],
    [1],
    [2, 3],
  ]);
  same(numbers(waysOf([hop(7, 8), hop(8)])), [[7, 8]]);
});
