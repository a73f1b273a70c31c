// The page's script is ES modules, which share one scope in the page (audit/report/script.py): so only
// what that joins may be used, and nothing at the top may have the name of something of the browser's.
import js from "@eslint/js";
import globals from "globals";

// What the page uses of the browser, by name: of all that a window has, `open` or `name` without an
// import would pass for the window's own.
const BROWSER = [
  "Blob",
  "DecompressionStream",
  "Element",
  "Event",
  "ImageData",
  "Path2D",
  "ResizeObserver",
  "Response",
  "TextDecoder",
  "URL",
  "atob",
  "document",
  "getComputedStyle",
  "getSelection",
  "location",
  "matchMedia",
  "navigator",
  "performance",
  "requestAnimationFrame",
  "requestIdleCallback",
  "setTimeout",
  "window",
];

export default [
  js.configs.recommended,
  {
    files: ["**/reports/templates/*.js"],
    languageOptions: {
      sourceType: "module",
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    rules: {
      "no-unused-vars": ["error", { ignoreRestSiblings: true }],
      "no-control-regex": "off", // what hides in names is what it is about
      eqeqeq: "error",
      "no-var": "error",
      "one-var": ["error", "never"],
      "prefer-const": "error",
      "no-shadow": ["error", { builtinGlobals: true }],
      "no-use-before-define": ["error", { functions: false, classes: true, variables: false }],
      "no-duplicate-imports": "error",
      "no-implied-eval": "error",
      "no-eval": "error",
      "no-new-func": "error",
      "no-restricted-syntax": [
        "error",
        { selector: "ImportExpression", message: "the page is one script, which loads nothing" },
        { selector: "MetaProperty", message: "the page is one script, not a module" },
        {
          selector: "Program > ExpressionStatement > AwaitExpression",
          message: "the page is one script, not a module",
        },
      ],
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
