/** A plan for people: whether it fits first, then the account of each memory, then the command line. */

import { h } from "./dom.js";
import { fact } from "./readings.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("./dom.js").Child} Child */
/** @typedef {{name: string, total_bytes: number | null, free_bytes: number | null, needed_bytes: number | null, reserve_bytes: number | null, paged_bytes: number, weights_bytes: number | null, context_bytes: number | null, compute_bytes: number | null, other_bytes: number | null, source: string, verdict: string, text: string}} PlannedDevice */

const PARTS = /** @type {const} */ (["weights", "context", "compute", "other"]);
/** @type {Record<string, string>} */
const GOOD = { fits: "good", tight: "warn", "does not fit": "bad", unknown: "" };

/** @param {App} app @param {any} plan what `plan --json` printed @returns {Child[]} */
export function planOf(app, plan) {
  const { t } = app;
  return [
    verdictOf(app, plan),
    plan.ledger && memoryTable(app, plan.ledger.devices),
    plan.ledger?.advice.length > 0 && h("div", { class: "card advice" }, h("h3", null, t("plan.advice")), h("ul", { class: "notes", lang: "en" }, plan.ledger.advice.map((/** @type {any} */ each) => h("li", null, each.text)))),
    plan.warnings.length > 0 && h("ul", { class: "caution notes", lang: "en", "aria-label": t("plan.warnings") }, plan.warnings.map((/** @type {string} */ each) => h("li", null, each))),
    h("dl", { class: "facts" },
      fact(t("plan.engine"), [plan.build, plan.flavour].filter(Boolean).join(" ") || null),
      fact(t("plan.why_engine"), h("span", { lang: "en" }, plan.engine)),
      fact(t("plan.model"), h("code", null, plan.model))),
    h("details", { open: true }, h("summary", null, t("profiles.command")), h("pre", { class: "code" }, commandLine(plan.argv))),
    environment(app, plan),
    notesOf(app, plan),
  ];
}

/** Fits or not, in the first line. @param {App} app @param {any} plan */
export function verdictOf({ t }, plan) {
  const { ledger } = plan;
  if (!ledger) {
    const why = plan.notes.find((/** @type {string} */ note) => note.startsWith("what it takes of the memory"));
    return h("p", { class: "verdict" }, h("strong", null, t("plan.unknown")), why && h("span", { class: "why", lang: "en" }, why));
  }
  const kind = GOOD[ledger.verdict] ?? "";
  return h("div", { class: `verdict ${kind}` },
    h("strong", null, t(ledger.refused ? "plan.refused" : ledger.verdict === "fits" ? "plan.fits" : ledger.verdict === "tight" ? "plan.tight" : "plan.does_not_fit")),
    h("ul", { lang: "en" }, ledger.devices.filter((/** @type {PlannedDevice} */ each) => each.needed_bytes).map((/** @type {PlannedDevice} */ each) => h("li", null, `${each.name}: ${each.text}`))));
}

/** @param {App} app @param {PlannedDevice[]} devices */
function memoryTable(app, devices) {
  const { t, words } = app;
  const used = devices.filter((each) => each.needed_bytes);
  if (!used.length) return null;
  const figures = (/** @type {PlannedDevice} */ each) => [each.needed_bytes, each.free_bytes, each.total_bytes, ...PARTS.map((part) => each[`${part}_bytes`])];
  return h("div", null,
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("plan.memory") },
      h("table", { class: "data" }, h("caption", null, t("plan.memory")),
        h("thead", null, h("tr", null,
          h("th", { scope: "col" }, t("plan.device")),
          h("th", { scope: "col", class: "bar-cell" }, t("plan.share")),
          ["needed", "free", "total", ...PARTS].map((each) => h("th", { scope: "col", class: "num" }, t(/** @type {any} */ (`plan.${each}`)))))),
        h("tbody", null, used.map((device) =>
          h("tr", { key: device.name },
            h("th", { scope: "row" }, device.name),
            h("td", { class: "bar-cell" }, stack(device)),
            figures(device).map((bytes) => h("td", { class: "num" }, words.size(bytes)))))))),
    h("ul", { class: "plot-legend small", "aria-hidden": "true" }, PARTS.map((part, place) =>
      h("li", null, h("svg", { class: `plot-swatch line-${place + 1}`, viewBox: "0 0 20 10", width: 20, height: 10 }, h("rect", { class: "bar-fill", width: 20, height: 10 })), t(`plan.${part}`)))));
}

/** Its parts beside each other, of all memory of the device. @param {PlannedDevice} device */
function stack(device) {
  const whole = Math.max(device.total_bytes ?? 0, device.needed_bytes ?? 0) || 1;
  let at = 0;
  const parts = PARTS.map((part, place) => {
    const width = (100 * (device[`${part}_bytes`] ?? 0)) / whole;
    const bar = h("rect", { class: `bar-fill line-${place + 1}`, x: at, width, height: 10 });
    at += width;
    return bar;
  });
  const limit = device.free_bytes === null ? null : (100 * device.free_bytes) / whole;
  return h("svg", { class: "bar-chart", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("rect", { class: "bar-ground", width: 100, height: 10 }), parts, limit !== null && h("path", { class: "plot-interval", d: `M${limit} 0V10` }));
}

/** An option with its values a line, quoted for a shell. @param {string[]} argv */
export function commandLine(argv) {
  /** @type {string[][]} */
  const lines = [[]];
  for (const word of argv) {
    if (word.startsWith("-") && Number.isNaN(Number(word))) lines.push([]);
    lines[lines.length - 1].push(/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'"'"'`)}'`);
  }
  return lines.map((words) => words.join(" ")).join(" \\\n  ");
}

/** @param {App} app @param {any} plan */
function environment({ t }, plan) {
  const lines = Object.entries(plan.env ?? {}).map(([name, value]) => `${name}=${value}`);
  return lines.length > 0 && h("details", null, h("summary", null, t("plan.environment")), h("pre", { class: "code" }, lines.join("\n")));
}

/** @param {App} app @param {any} plan */
function notesOf({ t }, plan) {
  const notes = [...plan.notes, ...(plan.ledger?.notes ?? []), ...(plan.ledger?.placement.reasons ?? [])];
  return notes.length > 0 && h("details", null, h("summary", null, t("plan.notes", { n: notes.length })), h("ul", { class: "notes", lang: "en" }, notes.map((each) => h("li", null, each))));
}

