// What the page adds to the window, for who drives it from outside.
interface Window {
  auditReport: Record<string, unknown>;
}
