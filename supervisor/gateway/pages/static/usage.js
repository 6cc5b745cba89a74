/** Who has used how much: tokens, requests and time by key, by model or by day, and the limits of each key. */

import { h, render } from "./dom.js";
import { barTable } from "./plot.js";
import { Reading, shown } from "./readings.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {"key" | "model" | "day"} By */
/** @typedef {{key?: string, model?: string, day?: string, requests: number, failed: number, prompt_tokens: number, cached_tokens: number, output_tokens: number, seconds: number}} UsageRow */
/** @typedef {{since: string, until: string, by: By, rows: UsageRow[]}} Usage */

export const name = "usage";

const BY = /** @type {const} */ (["key", "model", "day"]);
const SINCE = [1, 7, 30, 90]; // days
const FIGURES = /** @type {const} */ (["prompt_tokens", "cached_tokens", "output_tokens", "requests", "failed", "seconds"]);
const AGAIN_SECONDS = 60; // the daemon itself writes them once a minute

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const { t } = app;
  const usage = /** @type {Reading<Usage>} */ (new Reading(() => app.redraw()));
  const keys = /** @type {Reading<any>} */ (new Reading(() => app.redraw()));
  let by = BY.find((each) => each === app.route[0]) ?? "key";
  let days = SINCE.find((each) => String(each) === app.route[1]) ?? 30;
  const read = () => void usage.read("usage", { by, since: dayBefore(app.now(), days - 1) });
  const choose = () => {
    app.replaceRoute(by, String(days));
    usage.forget();
    read();
  };
  read();
  void keys.read("keys");
  app.every(AGAIN_SECONDS, read);
  app.watch(() =>
    render(
      root,
      h("div", { class: "toolbar" },
        h("div", { class: "buttons", role: "group", "aria-label": t("usage.by") },
          BY.map((each) => h("button", { key: each, type: "button", "aria-pressed": String(each === by), onclick: () => { by = each; choose(); } }, t(`usage.by_${each}`)))),
        h("label", { class: "field" }, t("usage.since"),
          h("select", { value: String(days), onchange: (/** @type {any} */ event) => { days = Number(event.target.value); choose(); } },
            SINCE.map((each) => h("option", { value: String(each) }, t("usage.days", { n: each })))))),
      shown(app, usage, (found) => table(app, found)),
      h("section", { class: "section" }, h("h2", null, t("usage.keys")), shown(app, keys, (found) => keyTable(app, found.keys ?? []))),
    ),
  );
  return () => [usage, keys].forEach((each) => each.stop());
}

/** `2026-11-30`, by the clock here. @param {number} epoch @param {number} days */
export function dayBefore(epoch, days) {
  const at = new Date(epoch * 1000);
  at.setDate(at.getDate() - days);
  return [at.getFullYear(), at.getMonth() + 1, at.getDate()].map((each) => String(each).padStart(2, "0")).join("-");
}

/** Everything together. @param {UsageRow[]} rows @returns {UsageRow} */
export function sumOf(rows) {
  const sum = { prompt_tokens: 0, cached_tokens: 0, output_tokens: 0, requests: 0, failed: 0, seconds: 0 };
  for (const row of rows) for (const figure of FIGURES) sum[figure] += row[figure] ?? 0;
  return sum;
}

/** @param {App} app @param {Usage} found */
function table(app, { rows, by, since, until }) {
  const { t, words } = app;
  const caption = t("usage.caption", { by: t(`usage.by_${by}`), since, until });
  if (!rows.length) return h("p", { class: "empty" }, t("usage.nothing", { since }));
  const cells = (/** @type {UsageRow} */ row) => [
    words.number(row.prompt_tokens),
    words.number(row.cached_tokens),
    words.number(row.requests),
    words.number(row.failed),
    words.duration(row.seconds),
  ];
  const bar = (/** @type {UsageRow} */ row, /** @type {string} */ label) => ({
    label, figure: { value: row.output_tokens }, text: words.number(row.output_tokens), cells: cells(row) });
  const sum = sumOf(rows);
  return barTable({
    caption,
    headers: [t(`usage.by_${by}`), t("usage.output_tokens"), ...["prompt_tokens", "cached_tokens", "requests", "failed", "seconds"].map((each) => t(/** @type {any} */ (`usage.${each}`)))],
    bars: rows.map((row) => bar(row, row[by] || t("usage.nobody"))),
    sum: rows.length > 1 ? { label: t("usage.all"), figure: null, text: words.number(sum.output_tokens), cells: cells(sum) } : undefined,
  });
}

// --- keys

/** @param {App} app @param {any[]} keys */
function keyTable({ t, words }, keys) {
  if (!keys.length) return h("p", { class: "empty" }, t("usage.no_keys"), " ", h("code", null, "goss-supervisor key add NAME"));
  const headers = ["key_name", "key_scope", "key_models", "key_rate", "key_tokens", "key_expires"].map((each) => t(/** @type {any} */ (`usage.${each}`)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("usage.keys") },
    h("table", { class: "data" }, h("caption", { class: "hidden" }, t("usage.keys")),
      h("thead", null, h("tr", null, headers.map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", null, keys.map((each) =>
        h("tr", { key: each.name }, h("th", { scope: "row" }, each.name),
          [
            each.scope,
            each.models?.length ? each.models.join(", ") : t("usage.any"),
            each.rate || t("usage.no_limit"),
            tokens({ t, words }, each),
            each.expires ? words.time(Date.parse(each.expires) / 1000) : t("usage.never"),
          ].map((cell) => h("td", null, cell)))))));
}

/** Used today, of what a day allows. @param {Pick<App, "t" | "words">} app @param {any} key */
function tokens({ t, words }, key) {
  const used = key.today?.tokens ?? null;
  if (!key.tokens_per_day) return t("usage.no_limit");
  return used === null ? words.number(key.tokens_per_day) : t("hardware.of", { used: words.number(used), all: words.number(key.tokens_per_day) });
}
