// The page's script is one module in several files, which share their names (audit/report/render.py);
// so each file is linted with the names of all.
import { readdirSync, readFileSync } from "node:fs";
import js from "@eslint/js";
import globals from "globals";

const templates = new URL("../../reports/templates/", import.meta.url);
const shared = {};
for (const name of readdirSync(templates).filter((file) => file.endsWith(".js"))) {
  const text = readFileSync(new URL(name, templates), "utf8");
  for (const [, declared] of text.matchAll(/^(?:async )?(?:const|let|function\*?) ([\w$]+)/gm))
    shared[declared] = "writable";
}

export default [
  js.configs.recommended,
  {
    files: ["**/reports/templates/*.js"],
    languageOptions: { sourceType: "script", globals: { ...globals.browser, ...shared } },
    rules: {
      "no-redeclare": ["error", { builtinGlobals: false }],
      "no-unused-vars": ["error", { vars: "local", ignoreRestSiblings: true }],
      "no-control-regex": "off", // what hides in names is what it is about
      eqeqeq: "error",
      "no-var": "error",
      "no-shadow": "error",
      "no-implied-eval": "error",
      "no-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "names are anyone's to choose: el() inserts text" },
        { property: "outerHTML", message: "names are anyone's to choose: el() inserts text" },
        {
          property: "insertAdjacentHTML",
          message: "names are anyone's to choose: el() inserts text",
        },
        { object: "document", property: "write", message: "names are anyone's to choose" },
      ],
      "no-restricted-globals": ["error", "fetch", "XMLHttpRequest", "WebSocket", "localStorage"],
    },
  },
  { files: ["**/*.mjs"], languageOptions: { globals: globals.node } },
];
