/** What the daemon does for a person: start it, watch it, cancel it, and what became of it. */

import { ControlError, Superseded, ask, run } from "./control.js";
import { h, render } from "./dom.js";
import { shareIn } from "./figures.js";
import { Reading, fact, shown, troubleOf } from "./readings.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Status} Status */
/** @typedef {import("./dom.js").Child} Child */
/** @typedef {{name: string, size_bytes: number, fits: boolean, downloads: number, gated: boolean, place: string}} Model */

export const name = "jobs";

const KINDS = /** @type {const} */ (["pull", "update", "bench", "tune"]);
const SCENARIOS = ["chat", "agent", "batch", "article"];
const GOALS = ["balanced", "chat", "agent", "batch"];
const BUDGETS = ["10m", "20m", "40m", "1h", "3h"];
const IDLE = new Set(["stopped", "failed", "unloaded"]);
const NOT_FOUND = 5;
const INTERRUPTED = 130;

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const { t } = app;
  const kind = KINDS.find((each) => each === app.route[0]) ?? "pull";
  const form = { pull: pullForm, update: updateForm, bench: benchForm, tune: tuneForm }[kind](app, app.route[1] ?? "");
  const past = new Past(() => app.redraw());
  app.every(1, () => app.redraw()); // how long each has taken
  app.watch((state) => {
    past.follow(state.status);
    const all = past.merged(state.status);
    const running = all.filter((each) => !each.ended);
    const ended = all.filter((each) => each.ended).toSorted((one, other) => other.id - one.id);
    render(
      root,
      h("section", { "aria-label": t("jobs.running") }, running.map((job) => runningCard(app, job))),
      h("nav", { class: "tabs", "aria-label": t("jobs.start") }, h("ul", null, KINDS.map((each) =>
        h("li", { key: each }, h("a", { href: `#jobs/${each}`, "aria-current": each === kind ? "true" : null }, t(`jobs.${each}`)))))),
      h("section", { class: "card", "aria-label": t(`jobs.${kind}`) }, form.draw(state.status)),
      h("section", { class: "section" }, h("h2", null, t("jobs.ended")),
        past.error && troubleOf(past.error),
        ended.length ? endedTable(app, ended) : h("p", { class: "empty" }, t("jobs.none"))),
    );
  });
  return () => form.end?.();
}

/** Jobs with their results: the daemon gives these only when asked, so we ask after each end. */
class Past {
  /** @param {() => void} changed @param {typeof ask} [asks] */
  constructor(changed, asks = ask) {
    this._changed = changed;
    this._asks = asks;
    /** @type {string | null} */
    this._seen = null; // those that have ended
    /** @type {Job[]} */
    this.jobs = [];
    /** @type {ControlError | null} */
    this.error = null;
  }

  /** @param {Status | null} status */
  follow(status) {
    const seen = status && (status.jobs ?? []).filter((each) => each.ended).map((each) => each.id).join();
    if (seen === null || seen === this._seen) return;
    this._seen = seen;
    void this._read();
  }

  async _read() {
    try {
      this.jobs = (await this._asks({ op: "jobs" })).jobs ?? [];
      this.error = null;
    } catch (error) {
      this.error = error instanceof ControlError ? error : new ControlError(String(error));
    }
    this._changed();
  }

  /** The newest that is known of each. @param {Status | null} status */
  merged(status) {
    const known = new Map(this.jobs.map((each) => [each.id, each]));
    for (const each of status?.jobs ?? []) if (!known.get(each.id)?.ended) known.set(each.id, each);
    return [...known.values()];
  }
}

/**
 * Begin it, and say how it ended; what it does meanwhile is in its card.
 * @param {App} app @param {string} what @param {string} command @param {Record<string, any>} args
 */
async function begin(app, what, command, args) {
  const { t } = app;
  try {
    await run(command, args);
    app.notify("done", t("frame.done", { what }));
  } catch (error) {
    if (error instanceof Superseded) app.notify("warning", t("frame.superseded", { what }), error.hint);
    else if (error instanceof ControlError && error.exitCode === INTERRUPTED) app.notify("warning", t("jobs.was_cancelled", { what }), error.hint);
    else if (error instanceof ControlError) app.notify("error", t("frame.failed", { what, why: error.message }), error.hint);
    else throw error;
  }
}

// --- those that run

/** @param {App} app @param {Job} job */
function runningCard(app, job) {
  const { t, words } = app;
  const share = shareIn(job.line);
  const elapsed = Math.max(0, app.now() - Date.parse(job.since) / 1000);
  return h("div", { class: "card job", key: job.id },
    h("div", { class: "card-head" }, h("h2", null, h("code", null, wordsOfJob(job))), h("span", { class: "pill busy" }, t("jobs.running_for", { time: words.duration(Math.floor(elapsed)) }))),
    h("p", { lang: "en", class: "job-line" }, job.line || "…"),
    share !== null && h("div", { class: "progress", role: "progressbar", "aria-label": job.words, "aria-valuenow": Math.round(100 * share), "aria-valuemin": 0, "aria-valuemax": 100 },
      h("span", { style: { width: `${100 * share}%` } })),
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: () => void cancel(app, job) }, t("jobs.cancel"))));
}

/** Without the digest of a text, which tells a person nothing. @param {Job} job */
export function wordsOfJob({ words }) {
  return words.replace(/ --based-on=[0-9a-f]+/, "");
}

/** @param {App} app @param {Job} job */
async function cancel(app, job) {
  const what = app.t("jobs.cancel_what", { words: job.words });
  if (!(await app.confirm({ title: `${what}?`, body: [app.t(job.command === "tune" || job.command === "pull" ? "jobs.cancel_goes_on" : "jobs.cancel_about")], action: app.t("jobs.cancel"), danger: true }))) return;
  await app.carryOut(what, async () => void (await ask({ op: "cancel", job: job.id })));
}

// --- those that have ended

/** @param {App} app @param {Job[]} jobs newest first */
function endedTable(app, jobs) {
  const { t, words } = app;
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("jobs.ended") },
    h("table", { class: "data" }, h("caption", { class: "hidden" }, t("jobs.ended")),
      h("thead", null, h("tr", null, ["command", "began", "took", "outcome"].map((each) => h("th", { scope: "col" }, t(/** @type {any} */ (`jobs.${each}`)))))),
      h("tbody", null, jobs.map((job) => {
        const [since, ended] = [Date.parse(job.since) / 1000, Date.parse(job.ended ?? job.since) / 1000];
        return h("tr", { key: job.id }, h("th", { scope: "row" }, h("code", null, wordsOfJob(job))), h("td", null, words.time(since)), h("td", null, words.duration(ended - since)), h("td", null, outcomeOf(app, job)));
      }))));
}

/** @param {App} app @param {Job} job @returns {Child[]} */
export function outcomeOf(app, job) {
  const { t } = app;
  const result = job.result ?? {};
  const [kind, words] = job.superseded ? ["warn", t("jobs.superseded")]
    : job.exit_code === INTERRUPTED ? ["warn", t("jobs.cancelled")]
    : job.exit_code ? ["bad", t("jobs.failed")] : ["good", t("jobs.done")];
  return [
    h("span", { class: `pill ${kind}` }, words),
    job.error && job.exit_code !== INTERRUPTED && h("p", { lang: "en", class: "why" }, job.error),
    job.hint && h("p", { lang: "en", class: "hint" }, job.hint),
    ...resultOf(app, job.command, result),
  ];
}

/** What came of it, by its kind. @param {App} app @param {string} command @param {any} result @returns {Child[]} */
function resultOf(app, command, result) {
  const { t, words } = app;
  if (command === "engine-update" && result.text) return [h("p", { lang: "en" }, [result.text, result.why].filter(Boolean).join(": ")), rollout(app, result.servers ?? [])];
  if ((command === "engine-update" || command === "engine-check") && "available" in result) return [h("p", null, checkWords(app, result))];
  if (command === "bench" && result.results) return result.results.map((/** @type {any} */ each) => h("p", null, h("a", { href: `#charts/result/${encodeURIComponent(each.id)}` }, t("jobs.see", { name: each.id }))));
  if (command === "tune" && result.profile) {
    return [h("p", null, result.result === "faster" ? t("jobs.faster", { ratio: words.number(result.ratio, 2) }) : t("jobs.already_best"), " ",
      h("a", { href: `#charts/tune/${encodeURIComponent(result.profile)}` }, t("jobs.see", { name: result.profile })))];
  }
  if (command === "pull" && result.path) return [h("p", null, h("code", null, result.path), result.size_bytes ? ` (${words.size(result.size_bytes)})` : "")];
  if (result.outcome?.result) return [h("p", { lang: "en" }, [result.outcome.result, result.outcome.why].filter(Boolean).join(": "))];
  return [];
}

/** Each server of an update, with the verdict of its comparison. @param {App} app @param {any[]} servers */
function rollout({ t }, servers) {
  if (!servers.length) return null;
  return h("ul", { class: "notes", "aria-label": t("jobs.servers") }, servers.map((each) =>
    h("li", { key: each.profile, lang: "en" }, `${each.profile}: ${[each.build, each.result, each.why].filter(Boolean).join(", ")}`)));
}

/** @param {App} app @param {{current?: string | null, available?: string | null, note?: string, problem?: string}} check */
function checkWords({ t }, { current, available, note, problem }) {
  const text = available ? t("jobs.available", { tag: available, now: current || t("jobs.nothing") }) : t("jobs.newest", { now: current || t("jobs.nothing") });
  const more = [note, problem].filter(Boolean).join("; ");
  return more ? `${text} (${more})` : text;
}

// --- the forms

/** @typedef {{draw: (status: Status | null) => Child[], end?: () => void}} Form */

/** The profiles of servers that answer now. @param {Status | null} status @returns {string[]} */
export function inUse(status) {
  return [...new Set((status?.servers ?? []).filter((each) => each.profile && !IDLE.has(each.state)).map((each) => each.profile ?? ""))];
}

/** Pull a model: by its name, or after a search of the hub. @param {App} app @param {string} wanted @returns {Form} */
function pullForm(app, wanted) {
  const { t, words } = app;
  const found = /** @type {Reading<{models: Model[]}>} */ (new Reading(() => app.redraw()));
  const local = /** @type {Reading<{models: {name: string}[]}>} */ (new Reading(() => app.redraw()));
  let query = wanted;
  let model = "";
  void local.read("models");
  const pull = (/** @type {string} */ each) => void begin(app, t("jobs.pull_what", { model: each }), "pull", { model: each }).then(() => local.read("models"));
  /** @param {Event} event */
  const search = (event) => {
    event.preventDefault();
    if (query.trim()) void found.read("search", { query: query.trim() });
  };
  return {
    end: () => [found, local].forEach((each) => each.stop()),
    draw: () => [
      h("form", { class: "toolbar", role: "search", onsubmit: search },
        h("label", { class: "field grows" }, t("jobs.search"), h("input", { type: "search", value: query, maxlength: 200, placeholder: "qwen3 coder", oninput: (/** @type {any} */ event) => { query = event.target.value; app.redraw(); } })),
        h("button", { class: "primary", disabled: !query.trim() || found.isUnderWay }, t("jobs.search_go"))),
      found.error?.exitCode === NOT_FOUND ? h("p", { class: "empty", lang: "en" }, found.error.message) : null,
      ...(found.error && found.error.exitCode !== NOT_FOUND ? [troubleOf(found.error)] : []),
      found.isUnderWay && h("p", { class: "empty", role: "status" }, t("jobs.searching")),
      found.value && !found.isUnderWay && !found.error && searchTable(app, found.value.models, new Set((local.value?.models ?? []).map((each) => each.name)), pull),
      h("form", { class: "toolbar", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); pull(model.trim()); } },
        h("label", { class: "field grows" }, t("jobs.model"), h("input", { value: model, maxlength: 300, placeholder: "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", spellcheck: "false", autocapitalize: "off", oninput: (/** @type {any} */ event) => { model = event.target.value; app.redraw(); } })),
        h("button", { disabled: !model.trim() }, t("jobs.download"))),
      h("p", { class: "muted small" }, t("jobs.pull_about"), local.value ? ` ${t("jobs.local", { n: local.value.models.length, size: words.size(local.value.models.reduce((sum, /** @type {any} */ each) => sum + (each.size_bytes ?? 0), 0)) })}` : ""),
    ],
  };
}

/** @param {App} app @param {Model[]} models @param {Set<string>} local @param {(model: string) => void} pull */
function searchTable(app, models, local, pull) {
  const { t, words } = app;
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("jobs.found") },
    h("table", { class: "data" }, h("caption", { class: "hidden" }, t("jobs.found")),
      h("thead", null, h("tr", null, ["model_name", "size", "fits", "downloads"].map((each, place) => h("th", { scope: "col", class: place === 1 || place === 3 ? "num" : "" }, t(/** @type {any} */ (`jobs.${each}`)))), h("th", { scope: "col" }, h("span", { class: "hidden" }, t("jobs.download"))))),
      h("tbody", null, models.map((each) =>
        h("tr", { key: each.name },
          h("th", { scope: "row" }, each.name, each.gated && h("span", { class: "why" }, t("jobs.gated"))),
          h("td", { class: "num" }, words.size(each.size_bytes)),
          h("td", null, h("span", { class: `pill ${each.fits ? "good" : "bad"}`, lang: "en" }, each.place)),
          h("td", { class: "num" }, words.number(each.downloads)),
          h("td", null, local.has(each.name) ? t("jobs.here") : h("button", { type: "button", "aria-label": t("jobs.pull_what", { model: each.name }), onclick: () => pull(each.name) }, t("jobs.download"))))))));
}

/** @param {App} app @returns {Form} */
function updateForm(app) {
  const { t } = app;
  const update = async () => {
    const used = inUse(app.store.state.status);
    const body = used.length ? t("jobs.update_moves", { servers: used.join(", ") }) : t("jobs.update_idle");
    if (await app.confirm({ title: t("jobs.update_title"), body: [body, t("jobs.update_back")], action: t("jobs.update") })) void begin(app, t("jobs.update"), "engine-update", {});
  };
  return {
    draw: (status) => {
      const found = status?.update;
      return [
        h("p", null, t("jobs.update_about")),
        found && h("dl", { class: "facts" }, fact(t("jobs.last_check"), checkWords(app, found))),
        h("p", { class: "buttons" },
          h("button", { type: "button", onclick: () => void begin(app, t("jobs.check"), "engine-check", {}) }, t("jobs.check")),
          h("button", { type: "button", class: found?.available ? "primary" : "", disabled: !status, onclick: () => void update() }, t("jobs.update"))),
      ];
    },
  };
}

/** What a measurement disturbs, before it begins. @param {App} app @param {string} what @param {boolean} isPolite */
function mayDisturb(app, what, isPolite) {
  const { status } = app.store.state;
  const used = inUse(status);
  const busy = (status?.servers ?? []).reduce((sum, each) => sum + each.requests_under_way, 0);
  const { t } = app;
  return app.confirm({
    title: `${what}?`,
    body: [
      used.length === 0 ? t("jobs.disturbs_nothing") : t(isPolite ? "jobs.disturbs_polite" : "jobs.disturbs", { servers: used.join(", ") }),
      busy > 0 && t("jobs.busy_now", { n: busy }),
    ],
    action: t("jobs.begin"),
    danger: busy > 0 && !isPolite,
  });
}

/** @param {App} app @param {string} wanted @returns {Form} */
function benchForm(app, wanted) {
  const { t } = app;
  const profiles = profilesOf(app);
  let chosen = wanted ? [wanted] : /** @type {string[]} */ ([]);
  let scenarios = ["chat"];
  let isPolite = false;
  /** @param {Event} event */
  const start = async (event) => {
    event.preventDefault();
    const what = t("jobs.bench_what", { profiles: chosen.join(", ") });
    if (await mayDisturb(app, what, isPolite)) void begin(app, what, "bench", { profiles: chosen, scenario: scenarios, ...(isPolite && { polite: true }) });
  };
  return {
    end: () => profiles.stop(),
    draw: (status) => [
      h("p", null, t("jobs.bench_about")),
      h("form", { class: "stack", onsubmit: start },
        h("fieldset", null, h("legend", null, t("jobs.profiles")), shown(app, profiles, (found) =>
          choices(inServedOrder(found.profiles, status, wanted), (each) => each, chosen, (each) => { chosen = toggled(chosen, each); app.redraw(); }))),
        h("fieldset", null, h("legend", null, t("jobs.scenarios")),
          choices(SCENARIOS, (each) => t(/** @type {any} */ (`jobs.scenario_${each}`)), scenarios, (each) => { scenarios = toggled(scenarios, each); app.redraw(); })),
        polite(app, isPolite, (value) => { isPolite = value; }),
        h("p", { class: "buttons" }, h("button", { class: "primary", disabled: !status || !chosen.length || !scenarios.length }, t("jobs.bench_go"))))],
  };
}

/** @param {App} app @param {string} wanted @returns {Form} */
function tuneForm(app, wanted) {
  const { t } = app;
  const profiles = profilesOf(app);
  const asked = { profile: wanted, goal: "balanced", budget: "20m", fix: "", vary: "" };
  let isPolite = false;
  /** @param {Event} event */
  const start = async (event) => {
    event.preventDefault();
    const what = t("jobs.tune_what", { profile: asked.profile });
    const [fix, vary] = [wordsOf(asked.fix), wordsOf(asked.vary)];
    if (await mayDisturb(app, what, isPolite)) {
      void begin(app, what, "tune", { profile: asked.profile, goal: asked.goal, budget: asked.budget, ...(fix.length && { fix }), ...(vary.length && { vary }), ...(isPolite && { polite: true }) });
    }
  };
  const field = (/** @type {keyof typeof asked} */ key) => ({ value: asked[key], onchange: (/** @type {any} */ event) => { asked[key] = event.target.value; app.redraw(); } });
  return {
    end: () => profiles.stop(),
    draw: (status) => [
      h("p", null, t("jobs.tune_about")),
      shown(app, profiles, (found) => {
        const names = inServedOrder(found.profiles, status, wanted);
        asked.profile ||= names[0] ?? "";
        return h("form", { class: "stack", onsubmit: start },
          h("div", { class: "toolbar" },
            h("label", { class: "field" }, t("jobs.profile"), h("select", field("profile"), names.map((each) => h("option", { key: each, value: each }, each)))),
            h("label", { class: "field" }, t("jobs.goal"), h("select", field("goal"), GOALS.map((each) => h("option", { key: each, value: each }, t(/** @type {any} */ (`jobs.goal_${each}`)))))),
            h("label", { class: "field" }, t("jobs.budget"), h("select", field("budget"), BUDGETS.map((each) => h("option", { key: each, value: each }, each))))),
          h("details", null, h("summary", null, t("jobs.more")), h("div", { class: "toolbar" },
            h("label", { class: "field grows" }, t("jobs.fix"), h("input", { ...field("fix"), placeholder: "threads gpu-layers" })),
            h("label", { class: "field grows" }, t("jobs.vary"), h("input", { ...field("vary"), placeholder: "cache-type-k=f16,q8_0" })))),
          polite(app, isPolite, (value) => { isPolite = value; }),
          h("p", { class: "buttons" }, h("button", { class: "primary", disabled: !status || !asked.profile }, t("jobs.tune_go"))));
      }),
    ].flat(),
  };
}

/** @param {App} app @returns {Reading<{profiles: {name: string, shipped: boolean, problem: string | null}[]}>} */
function profilesOf(app) {
  const reading = /** @type {Reading<any>} */ (new Reading(() => app.redraw()));
  void reading.read("profiles");
  return reading;
}

/** Served ones and a person's own before those that are shipped. @param {{name: string, shipped: boolean, problem: string | null}[]} profiles @param {Status | null} status @param {string} wanted */
export function inServedOrder(profiles, status, wanted) {
  const served = new Set([wanted, ...(status?.served ?? []).map((each) => each.profile), ...inUse(status)]);
  const rank = (/** @type {{name: string, shipped: boolean}} */ each) => (served.has(each.name) ? 0 : each.shipped ? 2 : 1);
  return profiles.filter((each) => !each.problem).toSorted((one, other) => rank(one) - rank(other)).map((each) => each.name);
}

/** Words that are separated by blanks; commas stay, since a value may be a list. @param {string} text */
function wordsOf(text) {
  return text.split(/\s+/).filter(Boolean);
}

/** With it, or without it. @param {string[]} list @param {string} each */
function toggled(list, each) {
  return list.includes(each) ? list.filter((other) => other !== each) : [...list, each];
}

/** @param {string[]} all @param {(each: string) => string} label @param {string[]} chosen @param {(each: string) => void} toggle */
function choices(all, label, chosen, toggle) {
  return h("div", { class: "choices" }, all.map((each) =>
    h("label", { class: "check", key: each }, h("input", { type: "checkbox", checked: chosen.includes(each), onchange: () => toggle(each) }), label(each))));
}

/** @param {App} app @param {boolean} isPolite @param {(value: boolean) => void} set */
function polite({ t }, isPolite, set) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", checked: isPolite, onchange: (/** @type {any} */ event) => set(event.target.checked) }), t("jobs.polite"));
}
