/** What runs now: servers, their memory, requests under way, speed over the last minutes; and what can be done. */

import { Actions } from "./actions.js";
import { lineChart } from "./chart.js";
import { h, render } from "./dom.js";
import { answers, colourOf, epoch, fileOf, firstTokens, median, segments, shareIn, throughput, toneOf } from "./figures.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").State} State */
/** @typedef {import("../types.js").Status} Status */
/** @typedef {import("../types.js").ServerStatus} ServerStatus */
/** @typedef {import("../types.js").ActiveRequest} ActiveRequest */
/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("./dom.js").Child} Child */

export const name = "now";

const CHART_SECONDS = 600;
const CHART_STEPS = 120;
const RECENT_SECONDS = 300; // of the median of first tokens
const TICK_SECONDS = 5; // "for 3 min" and the charts move on

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const view = new Now(app);
  app.watch((state) => render(root, ...view.draw(state)));
  app.every(TICK_SECONDS, app.redraw);
  return () => undefined;
}

class Now {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.t = app.t;
    this.words = app.words;
    this.actions = new Actions(app);
  }

  /** @param {State} state @returns {Child[]} */
  draw(state) {
    const { status } = state;
    if (!status) return [h("p", { class: "empty" }, this.t("now.none_yet"))];
    const profiles = profilesOf(status);
    return [
      this.summary(state, status),
      h("div", { class: "now-columns" },
        h("div", { class: "now-main" }, this.servers(state, status), this.absent(status), this.peers(status), this.requests(state, status)),
        h("div", { class: "now-side" }, this.jobs(status), this.memory(status, profiles), this.charts(state, profiles))),
    ];
  }

  // --- in one line

  /** @param {State} state @param {Status} status */
  summary(state, status) {
    const { t, words } = this;
    const now = this.app.now();
    const waiting = status.gateway?.requests_waiting ?? 0;
    const rates = state.active.map((each) => each.tokens_per_second).filter((each) => each !== null);
    const first = median([...firstTokens(state.requests, now - RECENT_SECONDS).values()].flat().map(([, seconds]) => seconds ?? 0));
    return h("dl", { class: "figures" },
      figure(t("now.under_way"), words.number(status.gateway ? status.gateway.requests_under_way : null)),
      figure(t("now.waiting"), words.number(status.gateway ? waiting : null)),
      figure(t("now.speed"), rates.length ? words.number(rates.reduce((sum, each) => sum + each, 0), 0) : "–", t("now.speed.unit")),
      figure(t("now.first_token"), first === null ? "–" : words.duration(first), t("now.first_token.of")));
  }

  // --- servers

  /** @param {State} state @param {Status} status */
  servers(state, status) {
    return h("section", { "aria-labelledby": "servers" },
      h("h2", { id: "servers", class: "hidden" }, this.t("now.servers")),
      h("div", { class: "cards" }, status.servers.map((each, place) => this.server(each, place === 0, state, status))));
  }

  /** @param {ServerStatus} server @param {boolean} isMain @param {State} state @param {Status} status */
  server(server, isMain, state, status) {
    const { t, words } = this;
    const title = server.profile ?? server.name;
    const offer = status.served.find((each) => each.profile === server.profile);
    const awaits = status.loads_waiting.find((each) => each.profile === server.profile);
    const share = server.loaded_share ?? null;
    return h("article", { class: "card server", key: server.name, "aria-label": title },
      h("div", { class: "card-head" },
        h("h3", null, title, isMain && h("span", { class: "tag" }, t("now.main")), offer?.pinned && h("span", { class: "tag" }, t("now.pinned"))),
        this.pill(server.state)),
      h("p", { class: "reason" }, this.sentence(server)),
      share !== null && progress(t("now.loaded", { share: words.percent(share) }), share),
      this.reasons(server, awaits?.text ?? "").map((each) => h("p", { class: "reason" }, this.told(each))),
      server.held_by && h("p", { class: "caution", lang: "en" }, `${server.held_by.owner}: ${server.held_by.why}`),
      this.failure(server),
      [...server.warnings, ...(server.memory?.warnings ?? []), server.memory?.difference ?? ""].filter(Boolean)
        .map((each) => h("p", { class: "caution small", lang: "en" }, each)),
      this.facts(server),
      h("div", { class: "buttons" }, this.actions.buttons(server, isMain, offer, state, status)));
  }

  /** @param {string} state */
  pill(state) {
    const known = STATES.find((each) => each === state);
    return h("span", { class: `pill ${toneOf(state)}` }, known ? this.t(`state.${known}`) : state);
  }

  /** A sentence of the daemon's. @param {string} said */
  told(said) {
    const { text, lang } = this.words.told(said);
    return h("span", { lang }, text);
  }

  /** Its state, and since when. @param {ServerStatus} server */
  sentence(server) {
    const { t, words } = this;
    const since = epoch(server.since);
    const state = SERVER_STATES.find((each) => each === server.state);
    const values = { since: words.time(since), length: words.duration(Math.max(0, Math.floor(this.app.now() - since))) };
    return state ? t(`now.is.${state}`, values) : `${server.state} ${values.length}`;
  }

  /** Why it is so, in the daemon's words. @param {ServerStatus} server @param {string} awaits */
  reasons(server, awaits) {
    const failed = server.last_failure?.message;
    return [...new Set([server.why, server.placement, awaits])].filter((each) => each && each !== failed && each !== NEEDLESS);
  }

  /** @param {ServerStatus} server */
  failure({ last_failure: failure, state, profile, name }) {
    if (!failure) return null;
    const at = failure.at ? this.words.time(epoch(failure.at)) : this.t("frame.unknown");
    const log = h("a", { href: `#logs/${encodeURIComponent(name)}` }, this.t("now.to_log"));
    if (WELL.has(state)) return h("p", { class: "muted small" }, this.t("now.failed_before", { at }), " ", h("span", { lang: "en" }, failure.message), " ", log);
    return h("div", { class: "trouble" },
      h("p", { lang: "en" }, failure.message), failure.hint && h("p", { class: "hint", lang: "en" }, failure.hint),
      h("p", { class: "small" }, at, " · ", log, profile && [" · ", h("a", { href: `#profiles/${encodeURIComponent(profile)}` }, this.t("now.to_profile"))]));
  }

  /** @param {ServerStatus} server */
  facts(server) {
    const { t, words } = this;
    const { context } = server;
    /** @type {[string, Child | Child[]][]} */
    const facts = [];
    if (server.model) facts.push([t("now.model"), h("span", { title: server.model }, fileOf(server.model))]);
    if (server.build) facts.push([t("now.build"), [server.build, server.flavour && server.flavour !== "unknown" && ` (${server.flavour})`]]);
    if (context) {
      const text = t("now.context.text", { slots: context.slots, tokens: context.tokens, expected: context.expected_tokens });
      const waits = context.waiting ? ` ${t("now.context.waiting", { n: context.waiting, longest: words.duration(context.longest_seconds) })}` : "";
      facts.push([t("now.context"), [text, waits, meter(t("now.context"), context.expected_tokens / (context.tokens || 1))]]);
    }
    if (server.restarts) facts.push([t("now.restarts"), words.number(server.restarts)]);
    return facts.length > 0 && h("dl", { class: "facts" }, facts.flatMap(([term, fact]) => [h("dt", null, term), h("dd", null, fact)]));
  }

  // --- what has no server

  /** @param {Status} status */
  absent(status) {
    const { t } = this;
    const there = new Set(status.servers.map((each) => each.profile));
    const absent = status.served.filter((each) => !there.has(each.profile));
    if (!absent.length) return null;
    return h("section", { class: "section", "aria-labelledby": "absent" },
      h("h2", { id: "absent" }, t("now.absent")),
      h("ul", { class: "rows" }, absent.map((each) => {
        const awaits = status.loads_waiting.find((load) => load.profile === each.profile)?.text;
        return h("li", { key: each.profile, class: "row" },
          h("div", { class: "row-text" },
            h("strong", null, each.profile), " ", this.pill(awaits ? "waiting" : each.state), each.pinned && h("span", { class: "tag" }, t("now.pinned")),
            (awaits || each.trouble) && h("p", { class: "muted small" }, this.told(awaits || each.trouble))),
          h("div", { class: "buttons" },
            this.actions.load(each.profile, each.profile), this.actions.pin(each)));
      })));
  }

  // --- peers

  /** Other boxes whose models are served here. @param {Status} status */
  peers(status) {
    const { t } = this;
    const peers = status.gateway?.peers ?? [];
    if (!peers.length) return null;
    return h("section", { class: "section", "aria-labelledby": "peers" },
      h("h2", { id: "peers" }, t("now.peers")),
      h("ul", { class: "rows" }, peers.map((each) => h("li", { key: each.name, class: "row" },
        h("div", { class: "row-text" },
          h("strong", null, each.name), " ", h("span", { class: `pill ${PEER_TONES[each.state]}` }, t(`peer.${each.state}`)), " ",
          h("span", { class: "muted" }, each.url),
          h("p", { class: "muted small" }, t("now.peer.models", { n: each.models }), each.loaded.length > 0 && ` · ${t("now.peer.loaded", { models: each.loaded.join(", ") })}`),
          each.why && h("p", { class: "small" }, this.told(each.why))),
        each.requests_under_way > 0 && h("div", { class: "row-figures num" }, t("now.peer.under_way", { n: each.requests_under_way }))))));
  }

  // --- requests

  /** @param {State} state @param {Status} status */
  requests(state, status) {
    const { t } = this;
    const { active } = state;
    const groups = active.length ? [] : (status.gateway?.waiting ?? []);
    return h("section", { class: "section", "aria-labelledby": "active" },
      h("h2", { id: "active" }, t("now.requests")),
      active.length || groups.length
        ? h("ul", { class: "rows" },
            active.map((each) => this.request(each)),
            groups.map((each) => h("li", { class: "row", key: each.profile + each.reason }, t("now.group", { n: each.requests, profile: each.profile }), " ", h("span", { class: "muted" }, this.told(each.reason)))))
        : h("p", { class: "empty" }, t("now.requests.none")));
  }

  /** @param {ActiveRequest} request */
  request(request) {
    const { t, words } = this;
    const tone = { waiting: "warn", prompt: "busy", answer: "good" }[request.phase];
    const age = words.duration(Math.max(0, Math.floor(this.app.now() - request.at)));
    return h("li", { class: "row request", key: request.id },
      h("span", { class: `pill ${tone}` }, t(`phase.${request.phase}`)),
      h("div", { class: "row-text" },
        h("strong", null, request.profile || request.model || t("frame.unknown")), " ",
        h("span", { class: "muted" }, [request.caller || t("now.no_key"), request.endpoint].join(" · ")),
        request.why && h("p", { class: "small" }, this.told(request.why))),
      h("div", { class: "row-figures num" },
        Boolean(request.output_tokens) && h("span", null, t("now.tokens", { n: request.output_tokens ?? 0 })),
        request.tokens_per_second !== null && h("span", { class: "muted" }, t("now.rate", { rate: words.number(request.tokens_per_second, 1) })),
        h("span", { class: "muted" }, age)));
  }

  // --- beside them

  /** @param {Status} status */
  jobs(status) {
    const under_way = (status.jobs ?? []).filter((each) => !each.ended);
    if (!under_way.length) return null;
    return h("section", { class: "card", "aria-labelledby": "jobs" },
      h("h2", { id: "jobs" }, h("a", { href: "#jobs" }, this.t("now.jobs"))),
      h("ul", { class: "job-list" }, under_way.map((each) => {
        const share = shareIn(each.line);
        return h("li", { key: each.id },
          h("p", null, h("code", null, each.words)),
          share !== null && progress(each.words, share),
          each.line && h("p", { class: "muted small", lang: "en" }, each.line));
      })));
  }

  /** @param {Status} status @param {string[]} profiles */
  memory(status, profiles) {
    const { t } = this;
    const devices = status.memory ?? [];
    if (!devices.length) return null;
    return h("section", { class: "card", "aria-labelledby": "memory" },
      h("h2", { id: "memory" }, t("now.memory")),
      devices.map((each) => this.device(each, profiles)));
  }

  /** @param {import("../types.js").DeviceMemory} device @param {string[]} profiles */
  device(device, profiles) {
    const { t, words } = this;
    const bar = segments(device);
    const left = t("now.memory.left", { left: words.size(device.left_bytes), total: words.size(device.total_bytes) });
    return h("div", { class: "device", key: device.device },
      h("div", { class: "card-head" },
        h("h3", null, device.device, device.name && device.name !== device.device && h("span", { class: "muted memory-name" }, device.name)),
        h("span", { class: "muted small" }, left)),
      bar && h("div", { class: "memory-bar", "aria-hidden": "true" }, bar.segments.map((each) =>
        h("span", { key: each.kind + each.name, class: each.kind === "others" ? "part others" : `part colour-${colourOf(profiles, each.name)}`, style: { width: `${(each.bytes / bar.total) * 100}%` } },
          each.kind === "share" && each.measured !== null && h("span", { class: "part-measured", style: { width: `${Math.min(100, (each.measured / (each.bytes || 1)) * 100)}%` } })))),
      h("ul", { class: "memory-legend small" },
        device.shares.map((each) => h("li", { key: each.server },
          h("span", { class: `key colour-${colourOf(profiles, each.profile || each.server)}`, "aria-hidden": "true" }),
          h("span", { class: "legend-name" }, each.profile || each.server),
          h("span", { class: "num" }, t("now.memory.share", { measured: words.size(each.measured_bytes), planned: words.size(each.planned_bytes) })))),
        device.others_bytes !== null && h("li", { key: " others" },
          h("span", { class: "key others", "aria-hidden": "true" }), h("span", { class: "legend-name" }, t("now.memory.others")), h("span", { class: "num" }, words.size(device.others_bytes))),
        device.leave_bytes ? h("li", { key: " leave" },
          h("span", { class: "key leave", "aria-hidden": "true" }), h("span", { class: "legend-name" }, t("now.memory.leave")), h("span", { class: "num" }, words.size(device.leave_bytes))) : null));
  }

  /** @param {State} state @param {string[]} profiles */
  charts(state, profiles) {
    const { t, words } = this;
    const to = this.app.now();
    const from = to - CHART_SECONDS;
    const rates = throughput(answers(state.requests, state.active, to), from, to, CHART_STEPS);
    const firsts = firstTokens(state.requests, from);
    const shape = { from, to, x: (/** @type {number} */ at) => words.clock(at), empty: t("now.chart.empty") };
    return h("section", { class: "card", "aria-labelledby": "speed" },
      h("h2", { id: "speed" }, t("now.charts")),
      lineChart({
        ...shape, title: t("now.chart.tokens"), y: (rate) => words.number(rate, rate < 5 ? 1 : 0),
        series: [...rates].map(([name, points]) => ({ name: name || t("frame.unknown"), colour: colourOf(profiles, name), points, now: words.number(rateOf(state.active, name)) })),
      }),
      lineChart({
        ...shape, title: t("now.chart.first"), y: (seconds) => words.duration(seconds),
        series: [...firsts].map(([name, points]) => ({ name: name || t("frame.unknown"), colour: colourOf(profiles, name), points, dots: true, now: words.duration(median(points.map(([, value]) => value ?? 0))) })),
      }));
  }
}

const SERVER_STATES = /** @type {const} */ (["stopped", "preparing", "starting", "ready", "degraded", "draining", "stopping", "killing", "backoff", "sleeping", "failed"]);
const STATES = /** @type {const} */ ([...SERVER_STATES, "loading", "unloaded", "waiting"]); // of profiles too
const PEER_TONES = /** @type {const} */ ({ up: "good", "not ready": "busy", down: "bad", unknown: "" });
const NEEDLESS = "the next request loads it"; // the sentence of the state says it
const WELL = new Set(["ready", "sleeping"]);

/** What comes now, all answers of a profile together. @param {ActiveRequest[]} active @param {string} profile */
function rateOf(active, profile) {
  return active.reduce((sum, each) => sum + (each.profile === profile ? (each.tokens_per_second ?? 0) : 0), 0);
}

/** Servers first, in their order: their colours. @param {Status} status */
function profilesOf(status) {
  return [...new Set([...status.servers.map((each) => each.profile ?? each.name), ...status.served.map((each) => each.profile)])];
}

/** @param {string} label @param {string} value @param {string} [more] */
function figure(label, value, more) {
  return h("div", null, h("dt", null, label), h("dd", null, value, more && h("span", { class: "muted" }, ` ${more}`)));
}

/** @param {string} label @param {number} share */
function progress(label, share) {
  const percent = Math.round(share * 100);
  return h("div", { class: "progress", role: "progressbar", "aria-label": label, "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100 }, h("span", { style: { width: `${percent}%` } }));
}

/** @param {string} label @param {number} share */
function meter(label, share) {
  const percent = Math.min(100, Math.round(share * 100));
  return h("div", { class: "progress meter", role: "meter", "aria-label": label, "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100 }, h("span", { style: { width: `${percent}%` } }));
}
