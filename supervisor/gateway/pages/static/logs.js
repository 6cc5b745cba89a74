/** The log of one server, as it grows: searched, paused, wrapped; its last death with the diagnosis on top. */

import { h, marked, render } from "./dom.js";
import { epoch } from "./figures.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").State} State */
/** @typedef {import("./dom.js").VNode} VNode */

export const name = "logs";

const NEAR_PIXELS = 40; // from its end: there the log follows what is new

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const view = new Logs(app);
  app.watch((state) => {
    view.follow(state);
    const place = root.querySelector(".log");
    const isAtEnd = !place || place.scrollHeight - place.scrollTop - place.clientHeight < NEAR_PIXELS;
    render(root, ...view.draw(state));
    if (isAtEnd && !view.paused) toEnd(root);
  });
  return () => app.store.followLog("");
}

/** @param {HTMLElement} root */
function toEnd(root) {
  const place = root.querySelector(".log");
  if (place) place.scrollTop = place.scrollHeight;
}

/** A line without the colours of a terminal, and what else is not to be seen. @param {string} line */
export function plain(line) {
  // oxlint-disable-next-line no-control-regex
  return line.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f]/g, "");
}

class Logs {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.t = app.t;
    this.server = app.route[0] ?? "";
    this.search = "";
    this.onlyFound = false;
    this.wraps = true;
    /** @type {State["log"] | null} what is shown while it is paused */
    this.paused = null;
    /** @type {Map<number, VNode>} lines that are made, by their numbers */
    this.made = new Map();
    this.followed = "";
  }

  /** Follow the log that is wanted, or that of the main server. @param {State} state */
  follow(state) {
    const names = state.status?.servers.map((each) => each.name) ?? [];
    if (!names.length) return;
    if (!names.includes(this.server)) this.server = names[0];
    if (this.server === this.followed) return;
    this.followed = this.server;
    this.paused = null;
    this.made.clear();
    this.app.store.followLog(this.server);
  }

  /** @param {State} state @returns {import("./dom.js").Child[]} */
  draw(state) {
    const { t } = this;
    const log = this.paused ?? state.log;
    const wanted = this.search.toLowerCase();
    const lines = log.lines.map(plain);
    const found = wanted ? lines.filter((each) => each.toLowerCase().includes(wanted)).length : 0;
    const more = this.paused ? state.log.first + state.log.lines.length - (log.first + log.lines.length) : 0;
    return [
      this.toolbar(state, wanted ? found : null, more),
      this.failure(state),
      h("div", { class: `log ${this.wraps ? "wraps" : ""}`, key: "log", tabindex: 0, role: "region", "aria-label": t("logs.of", { server: this.server }) },
        lines.map((line, place) => this.line(line, log.first + place, wanted)),
        !lines.length && h("p", { class: "empty" }, t("logs.empty"))),
    ];
  }

  /** @param {string} text @param {number} number @param {string} wanted */
  line(text, number, wanted) {
    if (this.onlyFound && wanted && !text.toLowerCase().includes(wanted)) return null;
    const known = this.made.get(number);
    if (known) return known;
    const made = h("div", { key: number }, marked(text, wanted));
    this.made.set(number, made);
    if (this.made.size > 12000) this.made.delete(/** @type {number} */ (this.made.keys().next().value));
    return made;
  }

  /** @param {State} state @param {number | null} found @param {number} more */
  toolbar(state, found, more) {
    const { t } = this;
    const servers = state.status?.servers ?? [];
    /** @param {() => void} change */
    const set = (change) => {
      change();
      this.app.redraw();
    };
    return h("div", { class: "toolbar", key: "toolbar", role: "search" },
      h("label", { class: "field" }, t("logs.server"),
        h("select", { value: this.server, onchange: (/** @type {any} */ event) => set(() => this.choose(event.target.value)) },
          servers.map((each) => h("option", { value: each.name, key: each.name, selected: each.name === this.server }, each.profile && each.profile !== each.name ? `${each.profile} (${each.name})` : each.name)))),
      h("label", { class: "field grow" }, t("logs.search"),
        h("input", { type: "search", value: this.search, oninput: (/** @type {any} */ event) => set(() => this.find(event.target.value)) })),
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: this.onlyFound, disabled: !this.search, onchange: (/** @type {any} */ event) => set(() => (this.onlyFound = event.target.checked)) }), t("logs.only")),
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: this.wraps, onchange: (/** @type {any} */ event) => set(() => (this.wraps = event.target.checked)) }), t("logs.wrap")),
      h("button", { type: "button", "aria-pressed": String(Boolean(this.paused)), onclick: () => set(() => (this.paused = this.paused ? null : state.log)) }, t("logs.pause")),
      h("p", { class: "muted small", role: "status" },
        found === null ? "" : t("logs.found", { n: found })),
      more > 0 && h("p", { class: "muted small" }, t("logs.more", { n: more })));
  }

  /** @param {string} server */
  choose(server) {
    this.server = server;
    this.app.replaceRoute(server);
    this.follow(this.app.store.state);
  }

  /** @param {string} search */
  find(search) {
    this.search = search;
    this.made.clear();
  }

  /** @param {State} state */
  failure(state) {
    const failure = state.status?.servers.find((each) => each.name === this.server)?.last_failure;
    if (!failure) return null;
    const at = failure.at ? this.app.words.time(epoch(failure.at)) : this.t("frame.unknown");
    return h("section", { class: "trouble log-failure", key: "failure", "aria-label": this.t("logs.failure") },
      h("h2", null, this.t("logs.failure"), " ", h("span", { class: "muted small" }, at)),
      h("p", { lang: "en" }, failure.message),
      failure.hint && h("p", { class: "hint", lang: "en" }, failure.hint),
      failure.log_tail.length > 0 && h("details", null, h("summary", null, this.t("logs.tail")), h("pre", null, failure.log_tail.map(plain).join("\n"))));
  }
}
