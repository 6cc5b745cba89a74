/** Who has used how much: tokens, requests and time by key, by model or by day, and the limits of each key. */

import { h, render } from "./dom.js";
import { barTable } from "./plot.js";
import { Reading, shown } from "./readings.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {"key" | "model" | "day"} By */
/** @typedef {{requests: number, failed: number, uncounted: number, prompt_tokens: number | null, cached_tokens: number | null, output_tokens: number | null, seconds: number}} Figures tokens are null where nobody has counted them */
/** @typedef {Figures & {key: string, model: string, day: string}} UsageRow */
/** @typedef {{since: string, until: string, by: By, rows: UsageRow[], totals: Figures}} Usage */

export const name = "usage";

const BY = /** @type {const} */ (["key", "model", "day"]);
const SINCE = [1, 7, 30, 90]; // days
const AGAIN_SECONDS = 60;

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

/** @param {App} app @param {Usage} found */
function table(app, { rows, by, since, until, totals }) {
  const { t, words } = app;
  const caption = t("usage.caption", { by: t(`usage.by_${by}`), since, until });
  if (!rows.length) return h("p", { class: "empty" }, t("usage.nothing", { since }));
  const cells = (/** @type {Figures} */ row) => [
    words.number(row.prompt_tokens),
    words.number(row.cached_tokens),
    words.number(row.requests),
    words.number(row.failed),
    words.duration(row.seconds),
  ];
  const bar = (/** @type {Figures} */ row, /** @type {string} */ label) => ({
    label,
    figure: row.output_tokens === null ? null : { value: row.output_tokens },
    text: words.number(row.output_tokens),
    cells: cells(row),
  });
  return [
    barTable({
      caption,
      headers: [t(`usage.by_${by}`), t("usage.output_tokens"), ...["prompt_tokens", "cached_tokens", "requests", "failed", "seconds"].map((each) => t(/** @type {any} */ (`usage.${each}`)))],
      bars: rows.map((row) => bar(row, row[by] || t(by === "key" ? "usage.nobody" : "usage.no_model"))),
      sum: rows.length > 1 ? { ...bar(totals, t("usage.all")), figure: null } : undefined,
    }),
    totals.uncounted > 0 && h("p", { class: "muted small" }, t("usage.uncounted", { n: totals.uncounted })),
  ];
}

// --- keys

/** @param {App} app @param {any[]} keys */
function keyTable({ t, words }, keys) {
  if (!keys.length) return h("p", { class: "empty" }, t("usage.no_keys"), " ", h("code", null, "goss-supervisor key add NAME"));
  const headers = ["key_name", "key_scope", "key_models", "key_rate", "key_requests", "key_tokens", "key_expires"].map((each) => t(/** @type {any} */ (`usage.${each}`)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("usage.keys") },
    h("table", { class: "data" }, h("caption", { class: "hidden" }, t("usage.keys")),
      h("thead", null, h("tr", null, headers.map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", null, keys.map((each) =>
        h("tr", { key: each.name }, h("th", { scope: "row" }, each.name),
          [
            each.scope,
            each.models?.length ? each.models.join(", ") : t("usage.any"),
            each.rate || t("usage.no_limit"),
            words.number(each.today?.requests),
            tokens({ t, words }, each),
            each.has_expired ? h("span", { class: "pill bad" }, t("usage.expired")) : each.expires ? words.time(Date.parse(each.expires) / 1000) : t("usage.never"),
          ].map((cell) => h("td", null, cell)))))));
}

/** Used today, of what a day allows. @param {Pick<App, "t" | "words">} app @param {any} key */
function tokens({ t, words }, key) {
  const used = words.number(key.today?.tokens);
  return key.tokens_per_day ? t("hardware.of", { used, all: words.number(key.tokens_per_day) }) : used;
}
