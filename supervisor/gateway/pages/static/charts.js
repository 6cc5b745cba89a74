/** What bench and tune have measured: results, two of them compared, and what each setting does. */

import { h, render } from "./dom.js";
import { median } from "./figures.js";
import { barTable, lineChart, plainTable } from "./plot.js";
import { Reading, fact, shown } from "./readings.js";
import { ofValues } from "./scale.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("./dom.js").VNode} VNode */
/** @typedef {import("./dom.js").Children} Children */
/** @typedef {typeof METRICS[number]} Metric */
/** @typedef {{median: number, low: number | null, high: number | null} | null} Interval */
/** @typedef {{prompt_tokens: number, answer_tokens: number, depth_tokens: number, clients: number, warm: boolean, text: string}} Workload */
/** @typedef {{scenario: string, workload: Workload, samples: any[], disturbed: string[], prompt_per_second: Interval, generated_per_second: Interval, first_token_seconds: Interval}} BenchRow */
/** @typedef {{id: string, profile: string, at: string, machine: string, build: string, flavour: string, model: string, argv: string[], scenarios: string[], rows: BenchRow[], limits: string[], reported: {profile: string}[]}} BenchResult */
/** @typedef {{first: number | null, first_low: number | null, first_high: number | null, second: number | null, second_low: number | null, second_high: number | null, ratio: number, low: number | null, high: number | null, difference_seen: boolean}} Ratio */
/** @typedef {{scenario: string, workload: Workload, prompt_per_second: Ratio | null, generated_per_second: Ratio | null, first_token_seconds: Ratio | null}} RatioRow */
/** @typedef {{value: number, low: number | null, high: number | null}} ChartValue */
/** @typedef {{title: string, bars?: [string, ChartValue][], x_label?: string, lines?: {label: string, points: [number, ChartValue][]}[]}} TuneChart */
/** @typedef {{settings: Record<string, string>, costs: number[], rates: [number, number][], died: string, seconds: number}} Trial */

export const name = "charts";

const METRICS = /** @type {const} */ (["generated_per_second", "prompt_per_second", "first_token_seconds"]);
const TWICE = 2;

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const [kind = "", first = "", second = ""] = app.route;
  const changed = () => app.redraw();
  if (kind === "result") return page(root, app, "bench-show", { id: first }, changed, (found) => resultPage(app, found.results[0]));
  if (kind === "compare") return page(root, app, "bench-compare", { a: first, b: second }, changed, (found) => comparePage(app, found));
  if (kind === "tune") return tunePage(root, app, first, changed);
  return listPage(root, app, changed);
}

/** One reading and what it shows, with the way back. @param {HTMLElement} root @param {App} app @param {string} command @param {Record<string, string>} args @param {() => void} changed @param {(found: any) => Children | Children[]} show */
function page(root, app, command, args, changed, show) {
  const reading = /** @type {Reading<any>} */ (new Reading(changed));
  void reading.read(command, args);
  app.watch(() => render(root, back(app), shown(app, reading, show)));
  return () => reading.stop();
}

/** @param {App} app */
function back({ t }) {
  return h("p", { class: "back" }, h("a", { href: "#charts" }, `← ${t("charts.back")}`));
}

// --- all results

/** @param {HTMLElement} root @param {App} app @param {() => void} changed */
function listPage(root, app, changed) {
  const { t } = app;
  const bench = /** @type {Reading<{results: BenchResult[]}>} */ (new Reading(changed));
  const profiles = /** @type {Reading<{profiles: {name: string, shipped: boolean}[]}>} */ (new Reading(changed));
  /** @type {string[]} */
  let picked = [];
  const pick = (/** @type {string} */ id) => {
    picked = picked.includes(id) ? picked.filter((each) => each !== id) : [...picked, id].slice(-TWICE);
    changed();
  };
  void bench.read("bench-ls");
  void profiles.read("profiles");
  app.watch(() =>
    render(
      root,
      h("section", null,
        h("div", { class: "toolbar" }, h("h2", null, t("charts.bench")),
          h("button", { type: "button", disabled: picked.length < TWICE, onclick: () => { location.hash = `#charts/compare/${picked.map(encodeURIComponent).join("/")}`; } }, t("charts.compare")),
          h("a", { href: "#jobs/bench" }, t("charts.measure"))),
        shown(app, bench, ({ results }) => (results.length ? resultList(app, results.toReversed(), picked, pick) : h("p", { class: "empty" }, t("charts.no_bench"))))),
      h("section", { class: "section" },
        h("div", { class: "toolbar" }, h("h2", null, t("charts.tune")), h("a", { href: "#jobs/tune" }, t("charts.start_tune"))),
        shown(app, profiles, (found) => tuneLinks(app, found.profiles))),
    ),
  );
  return () => [bench, profiles].forEach((each) => each.stop());
}

/** @param {App} app @param {BenchResult[]} results newest first @param {string[]} picked @param {(id: string) => void} pick */
function resultList(app, results, picked, pick) {
  const { t, words } = app;
  const firsts = results.map((each) => each.rows[0]);
  return [
    h("p", { class: "muted small" }, t("charts.pick_two")),
    barTable({
      caption: t("charts.list_caption"), texts: [3, 4, 5],
      headers: [t("charts.result"), t("charts.generated_per_second"), t("charts.prompt_per_second"), t("charts.when"), t("charts.build"), t("charts.scenarios")],
      bars: results.map((each, place) => ({
        label: each.id,
        head: [
          h("label", { class: "check" }, h("input", { type: "checkbox", checked: picked.includes(each.id), onchange: () => pick(each.id) }), h("span", { class: "hidden" }, t("charts.pick", { id: each.id }))),
          h("a", { href: `#charts/result/${encodeURIComponent(each.id)}` }, each.id),
        ],
        figure: figureOf(firsts[place]?.generated_per_second ?? null),
        text: rateWords(app, firsts[place]?.generated_per_second ?? null),
        cells: [rateWords(app, firsts[place]?.prompt_per_second ?? null), words.time(Date.parse(each.at) / 1000), `${each.build} ${each.flavour}`, each.scenarios.join(", ")],
      })),
    }),
  ];
}

/** Of the profiles that were tuned with success, and of the others of this machine. @param {App} app @param {{name: string, shipped: boolean}[]} profiles */
function tuneLinks({ t }, profiles) {
  const names = new Set(profiles.map((each) => each.name));
  const tuned = profiles.filter((each) => names.has(`${each.name}-tuned`));
  const others = profiles.filter((each) => !tuned.includes(each) && !each.name.endsWith("-tuned"));
  return [
    tuned.length ? h("ul", { class: "links" }, tuned.map(tuneLink)) : h("p", { class: "empty" }, t("charts.no_tune")),
    h("details", null, h("summary", null, t("charts.other_profiles")), h("ul", { class: "links" }, others.map(tuneLink))),
  ];
}

/** @param {{name: string}} profile */
function tuneLink({ name: profile }) {
  return h("li", { key: profile }, h("a", { href: `#charts/tune/${encodeURIComponent(profile)}` }, profile));
}

// --- one result

/** @param {App} app @param {BenchResult} result */
function resultPage(app, result) {
  const { t, words } = app;
  return [
    h("h2", null, t("charts.result_of", { id: result.id, profile: result.profile })),
    h("dl", { class: "facts" },
      fact(t("charts.when"), words.time(Date.parse(result.at) / 1000)),
      fact(t("charts.build"), `${result.build} ${result.flavour}`),
      fact(t("charts.model"), result.model),
      fact(t("charts.machine"), result.machine)),
    h("div", { class: "charts section" }, METRICS.map((metric) => metricBars(app, metric, result.rows.map((row) => ({ label: rowLabel(app, row), interval: row[metric], runs: row.samples.length, mark: 0 }))))),
    result.rows.some((row) => row.disturbed.length) || result.limits.length
      ? h("div", { class: "caution section" }, h("p", null, t("charts.disturbed")),
        h("ul", { lang: "en" }, [...result.rows.flatMap((row) => row.disturbed.map((why) => `${rowLabel(app, row)}: ${why}`)), ...result.limits].map((each) => h("li", null, each))))
      : null,
    h("details", { class: "section" }, h("summary", null, t("charts.samples")), samplesTable(app, result)),
    h("details", null, h("summary", null, t("profiles.command")), h("pre", { class: "code" }, result.argv.join(" "))),
  ];
}

/** @param {App} app @param {Metric} metric @param {{label: string, interval: Interval, runs?: number, mark: number}[]} bars */
function metricBars(app, metric, bars) {
  const { t, words } = app;
  const write = metric === "first_token_seconds" ? timeWords : rateWords;
  const hasRuns = bars.every((each) => each.runs !== undefined);
  return h("div", { key: metric }, barTable({
    caption: t(`charts.${metric}`),
    headers: [t("charts.workload"), t("charts.median"), ...(hasRuns ? [t("charts.runs")] : [])],
    bars: bars.map(({ label, interval, runs, mark }) => ({ label, figure: figureOf(interval), text: write(app, interval), cells: hasRuns ? [words.number(runs)] : [], mark })),
  }));
}

/** @param {App} app @param {BenchResult} result */
function samplesTable(app, result) {
  const { t, words } = app;
  const value = (/** @type {number | null} */ each) => (each === null ? "–" : words.figure(each));
  return plainTable({
    caption: t("charts.samples"), texts: [4],
    headers: [t("charts.workload"), ...METRICS.map((metric) => t(`charts.${metric}`)), t("charts.disturbed_by")],
    rows: result.rows.flatMap((row) => row.samples.map((sample) => [
      rowLabel(app, row), value(sample.generated_per_second), value(sample.prompt_per_second),
      sample.first_token_seconds === null ? "–" : words.duration(sample.first_token_seconds), sample.disturbed.join(", ")])),
  });
}

/** `agent: 8,192 + 256 at 16,384`: prompt, answer, depth; `x8` for eight clients. @param {App} app @param {{scenario: string, workload: Workload}} row */
export function rowLabel({ t, words }, { scenario, workload }) {
  const prompt = workload.prompt_tokens || !workload.text ? words.number(workload.prompt_tokens) : t("charts.text");
  const depth = workload.depth_tokens ? ` ${t("charts.at_depth", { n: workload.depth_tokens })}` : "";
  const clients = workload.clients > 1 ? ` ×${workload.clients}` : "";
  const warm = workload.warm ? ` ${t("charts.warm")}` : "";
  return `${scenario}: ${prompt}${warm} + ${words.number(workload.answer_tokens)}${depth}${clients}`;
}

/** @param {Interval} interval */
function figureOf(interval) {
  return interval && { value: interval.median, low: interval.low, high: interval.high };
}

/** `45.2 ±0.8`, by the wider side; `±?` where that is wider than the figure. @param {App} app @param {Interval} interval */
export function rateWords({ words }, interval) {
  if (!interval) return "–";
  const { median: middle, low, high } = interval;
  if (low === null || high === null) return words.figure(middle);
  const spread = Math.max(middle - low, high - middle);
  return `${words.figure(middle)} ±${spread <= middle ? words.number(spread, middle >= 100 ? 0 : middle >= 10 ? 1 : 2) : "?"}`;
}

/** In seconds, or in milliseconds below one. @param {App} app @param {Interval} interval */
export function timeWords(app, interval) {
  if (!interval) return "–";
  if (interval.median >= 1) return `${rateWords(app, interval)} s`;
  const { median: middle, low, high } = interval;
  return `${rateWords(app, { median: thousand(middle), low: low && thousand(low), high: high && thousand(high) })} ms`;
}

/** @param {number} value */
function thousand(value) {
  return value * 1000;
}

// --- two results

/** @param {App} app @param {{first: string, second: string, differences: string[], rows: RatioRow[], only_first: Workload[], only_second: Workload[]}} found */
function comparePage(app, found) {
  const { t } = app;
  const { first, second, rows } = found;
  const sides = /** @type {const} */ (["first", "second"]);
  return [
    h("h2", null, t("charts.compared", { first, second })),
    h("div", { class: "section" }, ratioTable(app, found)),
    h("div", { class: "charts section" }, METRICS.map((metric) => metricBars(app, metric, rows.flatMap((row) => sides.map((side, mark) => {
      return { label: `${rowLabel(app, row)}, ${found[side]}`, interval: sideOf(row[metric], side), mark };
    }))))),
    found.differences.length > 0 && h("div", { class: "section" }, h("h3", null, t("charts.differences")), h("ul", { class: "notes", lang: "en" }, found.differences.map((each) => h("li", null, each)))),
    sides.map((side) => (found[`only_${side}`].length ? h("p", { class: "muted" }, t("charts.only_in", { id: found[side], n: found[`only_${side}`].length })) : null)),
  ];
}

/** The figure of one of the two, with its interval. @param {Ratio | null} ratio @param {"first" | "second"} side @returns {Interval} */
function sideOf(ratio, side) {
  const middle = ratio?.[side] ?? null;
  return ratio && middle !== null ? { median: middle, low: ratio[`${side}_low`] ?? null, high: ratio[`${side}_high`] ?? null } : null;
}

/** @param {App} app @param {{first: string, second: string, rows: RatioRow[]}} found */
function ratioTable(app, { first, second, rows }) {
  const { t } = app;
  return plainTable({
    caption: t("charts.ratios", { first, second }),
    texts: [1, 5],
    headers: [t("charts.workload"), t("charts.figure"), first, second, t("charts.ratio"), t("charts.means")],
    rows: rows.flatMap((row) => METRICS.map((metric) => {
      const ratio = row[metric];
      const write = metric === "first_token_seconds" ? timeWords : rateWords;
      const { interval, meaning, kind } = ratioWords(app, ratio, metric, second);
      return [rowLabel(app, row), t(`charts.${metric}`), write(app, sideOf(ratio, "first")), write(app, sideOf(ratio, "second")), interval, h("span", { class: `pill ${kind}` }, meaning)];
    })),
  });
}

/**
 * The ratio with its 95 % interval, and what that means: better, worse, or nothing that one could see.
 * @param {App} app @param {Ratio | null} ratio @param {Metric} metric @param {string} second
 * @returns {{interval: string, meaning: string, kind: "" | "good" | "bad"}}
 */
export function ratioWords({ t, words }, ratio, metric, second) {
  if (!ratio) return { interval: "–", meaning: t("charts.not_measured"), kind: "" };
  if (ratio.low === null || ratio.high === null) return { interval: words.number(ratio.ratio, 2), meaning: t("charts.too_few"), kind: "" };
  const interval = t("charts.interval", { ratio: words.number(ratio.ratio, 2), low: words.number(ratio.low, 2), high: words.number(ratio.high, 2) });
  if (!ratio.difference_seen) return { interval, meaning: t("charts.no_difference"), kind: "" };
  const isTime = metric === "first_token_seconds";
  const isBetter = isTime ? ratio.ratio < 1 : ratio.ratio > 1;
  const values = { id: second, times: words.number(ratio.ratio, 1), percent: words.percent(Math.abs(ratio.ratio - 1)) };
  const way = ratio.ratio >= TWICE ? "times" : ratio.ratio > 1 ? "more" : "less";
  return { interval, meaning: t(isTime ? `charts.time_${way}` : `charts.rate_${way}`, values), kind: isBetter ? "good" : "bad" };
}

// --- a tuning

/** @param {HTMLElement} root @param {App} app @param {string} profile @param {() => void} changed */
function tunePage(root, app, profile, changed) {
  const reading = /** @type {Reading<any>} */ (new Reading(changed));
  void reading.read("tune-surface", { profile });
  app.watch(() =>
    render(root, back(app), h("h2", null, app.t("charts.tune_of", { profile })),
      reading.error?.exitCode === 5
        ? h("p", { class: "empty" }, app.t("charts.never_tuned", { profile }), " ", h("a", { href: `#jobs/tune/${encodeURIComponent(profile)}` }, app.t("charts.start_tune")))
        : shown(app, reading, (found) => tuneResult(app, found))));
  return () => reading.stop();
}

/** @param {App} app @param {any} found what `tune --json` printed */
export function tuneResult(app, found) {
  const { t, words } = app;
  const measured = { n: found.trials.length, time: words.duration(found.seconds), profile: found.profile, goal: found.goal };
  return [
    found.result === "faster"
      ? h("p", { class: "verdict good" }, t("charts.faster", { ...measured, ratio: words.number(found.ratio, 2), low: words.number(found.ratio_low, 2), high: words.number(found.ratio_high, 2) }))
      : h("p", { class: "verdict" }, t("charts.already_best", measured)),
    h("dl", { class: "facts" },
      fact(t("charts.when"), words.time(Date.parse(found.at) / 1000)),
      fact(t("charts.written"), found.file && h("code", null, found.file)),
      fact(t("charts.former"), found.former_file && h("code", null, found.former_file))),
    found.settings.length > 0 && h("div", { class: "section" }, plainTable({
      caption: t("charts.settings"), texts: [1, 2, 3],
      headers: [t("charts.setting"), t("charts.was"), t("charts.is_now"), t("charts.effect")],
      rows: found.settings.map((/** @type {any} */ each) => [plainKey(each.key), each.was || "–", each.is, h("span", { lang: "en" }, each.effect)]),
    })),
    found.explained.length > 0 && h("dl", { class: "facts section", lang: "en" }, found.explained.flatMap((/** @type {any} */ each) => fact(each.name, each.text))),
    h("div", { class: "section" }, h("h3", null, t("charts.surface")), h("p", { class: "muted small" }, t("charts.surface_about")),
      found.charts.length ? h("div", { class: "charts" }, found.charts.map((/** @type {TuneChart} */ chart) => tuneChart(app, chart))) : h("p", { class: "empty" }, t("charts.no_surface"))),
    found.disturbed.length > 0 && h("details", { class: "section" }, h("summary", null, t("charts.disturbed")), h("ul", { class: "notes", lang: "en" }, found.disturbed.map((/** @type {string} */ each) => h("li", null, each)))),
    h("details", { class: "section" }, h("summary", null, t("charts.trials", { n: found.trials.length })), trialsTable(app, found)),
  ];
}

/** @param {App} app @param {TuneChart} chart */
function tuneChart(app, { title: told, bars, lines, x_label: label = "" }) {
  const { t, words } = app;
  const title = titleOf(app, told);
  const write = (/** @type {ChartValue} */ { value, low, high }) => rateWords(app, { median: value, low: low === high ? null : low, high: low === high ? null : high });
  if (bars) {
    return h("div", { key: title }, barTable({ caption: title, headers: [t("charts.value"), t("charts.tokens_per_second")], bars: bars.map(([name, value]) => ({ label: name, figure: value, text: write(value) })) }));
  }
  const all = (lines ?? []).map((line) => ({ label: line.label, points: line.points.map(([x, value]) => ({ x, ...value })) }));
  const values = [...new Set(all.flatMap((line) => line.points.map((each) => each.x)))].toSorted((one, other) => one - other);
  const best = all.flatMap((line) => line.points.map((each) => ({ ...each, label: line.label }))).reduce((one, other) => (other.value > one.value ? other : one));
  const format = (/** @type {number} */ value) => words.number(value, Number.isInteger(value) ? 0 : 2);
  return h("div", { key: title }, lineChart({
    title,
    summary: t("charts.line_summary", { label, value: format(best.x), rate: words.figure(best.value) }),
    lines: all,
    x: ofValues(values),
    xLabel: label,
    formatX: format,
    formatY: format,
    table: {
      caption: title, headers: [label, ...all.map((line) => line.label)],
      rows: values.map((x) => [format(x), ...all.map((line) => {
        const point = line.points.find((each) => each.x === x);
        return point ? write({ value: point.value, low: point.low ?? null, high: point.high ?? null }) : "–";
      })]),
    },
    tableName: t("chart.table"),
  }));
}

/** In the reader's language, of `prompt, tokens per second, by ubatch-size`. @param {App} app @param {string} title */
export function titleOf({ t }, title) {
  const [, rate, setting] = /^(generation|prompt), tokens per second, by (.+)$/.exec(title) ?? [];
  return rate ? t(rate === "prompt" ? "charts.prompt_by" : "charts.generation_by", { setting }) : title;
}

/** The quickest first; those that died last. @param {App} app @param {{trials: Trial[]}} found */
function trialsTable(app, { trials }) {
  const { t, words } = app;
  const speed = (/** @type {Trial} */ each, /** @type {0 | 1} */ which) => {
    const rate = median(each.rates.map((pair) => pair[which]).filter((value) => value > 0));
    return rate === null ? "–" : words.figure(rate);
  };
  return plainTable({
    caption: t("charts.trials", { n: trials.length }), texts: [3],
    headers: [t("charts.settings"), t("charts.generated_per_second"), t("charts.prompt_per_second"), t("charts.outcome")],
    rows: trials.toSorted((one, other) => cost(one) - cost(other)).map((each) => [
      settingsWords(each.settings) || t("charts.as_it_is"), speed(each, 1), speed(each, 0),
      each.died ? h("span", { lang: "en" }, each.died) : t("charts.measured")]),
  });
}

/** @param {Trial} trial */
function cost({ costs }) {
  return median(costs) ?? Infinity;
}

/** @param {Record<string, string>} settings */
export function settingsWords(settings) {
  return Object.entries(settings).map(([key, value]) => `${plainKey(key)} ${value}`).join(", ");
}

/** `ubatch-size` of `server.ubatch-size`. @param {string} key */
function plainKey(key) {
  return key.replace(/^(server|engine)\./, "");
}
