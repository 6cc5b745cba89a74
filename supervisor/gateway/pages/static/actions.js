/** What a person can do with a server: buttons that ask before they stop something that is used. */

import { order, run } from "./control.js";
import { h } from "./dom.js";

/** @typedef {import("../types.js").ActiveRequest} ActiveRequest */
/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Served} Served */
/** @typedef {import("../types.js").ServerStatus} ServerStatus */
/** @typedef {import("../types.js").State} State */
/** @typedef {import("../types.js").Status} Status */
/** @typedef {import("./dom.js").Child} Child */

const DOWN = new Set(["stopped", "sleeping", "failed"]);

export class Actions {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.t = app.t;
    /** @type {Set<string>} what is being done, so that nobody asks for it twice */
    this.busy = new Set();
  }

  /** @param {ServerStatus} server @param {boolean} isMain @param {Served | undefined} offer @param {State} state @param {Status} status @returns {Child[]} */
  buttons(server, isMain, offer, state, status) {
    const { t } = this;
    const profile = server.profile ?? "";
    const isDown = DOWN.has(server.state);
    const used = state.active.filter((each) => each.phase !== "waiting" && each.profile === profile);
    return [
      isDown
        ? this.button(server.name, t("now.do.load"), profile, () => run("load", { profile }, this.each), "primary")
        : this.button(server.name, t("now.do.unload"), profile, () => order({ op: "unload", server: server.name }), "", used),
      !isDown && this.button(server.name, t("now.do.restart"), profile, () => run("restart", { server: server.name }, this.each), "", used),
      offer && this.pin(offer),
      isMain && this.button(server.name, t("now.do.switch"), profile, null, "", used, () => this.choose(profile, status)),
      offer && server.state === "ready" && h("a", { class: "button", href: chatOf(offer, status), target: "_blank", rel: "noopener" }, t("now.chat")),
      h("a", { class: "button", href: `#logs/${encodeURIComponent(server.name)}` }, t("view.logs")),
    ];
  }

  /** @param {Served} offer */
  pin({ profile, pinned }) {
    const label = pinned ? this.t("now.do.unpin") : this.t("now.do.pin");
    return this.button(profile, label, profile, () => run("pin", { profile, pinned: !pinned }), "", [], undefined, this.t("now.do.pin.why"));
  }

  /**
   * A button that carries something out; it asks first where that stops requests.
   * @param {string} server
   * @param {string} label
   * @param {string} profile
   * @param {(() => Promise<any>) | null} work
   * @param {string} [kind]
   * @param {ActiveRequest[]} [used]
   * @param {() => Promise<(() => Promise<any>) | null>} [ask] gives the work, or null for none
   * @param {string} [title]
   */
  button(server, label, profile, work, kind = "", used = [], ask = undefined, title = "") {
    const name = `${server} ${label}`;
    const act = async () => {
      if (this.busy.has(name)) return;
      this.busy.add(name);
      this.app.redraw();
      try {
        const chosen = ask ? await ask() : work;
        if (!chosen || (used.length && !(await this.stops(label, profile, used)))) return;
        await this.app.carryOut(this.t("now.doing", { label, profile }), async (progress) => {
          this.progress = progress;
          const done = await chosen();
          return done?.result === "degraded" ? done.why : undefined;
        });
      } finally {
        this.busy.delete(name);
        this.app.redraw();
      }
    };
    return h("button", { type: "button", key: label, class: kind, onclick: act, title: title || null, disabled: this.busy.has(name), "aria-label": `${label}: ${profile}` }, label);
  }

  /** @type {(line: string) => void} */
  progress = () => undefined;

  each = { each: (/** @type {Job} */ job) => job.line && this.progress(job.line) };

  /** @param {string} label @param {string} profile @param {ActiveRequest[]} used */
  stops(label, profile, used) {
    return this.app.confirm({
      title: this.t("now.stops", { label, profile }),
      body: [
        h("p", null, this.t("now.stops.requests", { n: used.length })),
        h("ul", { class: "listed" }, used.map((each) => h("li", { key: each.id }, this.inWords(each)))),
        h("p", { class: "muted" }, this.t("now.stops.drain")),
      ],
      action: label.replace(/…$/, ""),
      danger: true,
    });
  }

  /** @param {ActiveRequest} request */
  inWords(request) {
    const { t, words } = this;
    const tokens = request.output_tokens === null ? "" : t("now.tokens", { n: request.output_tokens });
    const age = words.duration(Math.max(0, Math.floor(this.app.now() - request.at)));
    return [request.caller || t("now.no_key"), request.endpoint, t(`phase.${request.phase}`), age, tokens].filter(Boolean).join(" · ");
  }

  /** Which profile the main server shall run; null for none. @param {string} present @param {Status} status */
  async choose(present, status) {
    const { t } = this;
    const names = [...new Set([...status.served.map((each) => each.profile), ...(await allProfiles())])].filter((each) => each !== present);
    if (!names.length) {
      this.app.notify("warning", t("now.switch.none"));
      return null;
    }
    let [chosen] = names;
    const select = h("select", { id: "switch-to", onchange: (/** @type {any} */ event) => (chosen = event.target.value) }, names.map((each) => h("option", { value: each }, each)));
    const goes = await this.app.confirm({
      title: t("now.switch.title"),
      body: [h("p", null, t("now.switch.text", { profile: present })), h("label", { class: "field", for: "switch-to" }, t("now.switch.to"), select)],
      action: t("now.switch.action"),
    });
    return goes ? () => run("switch", { profile: chosen }, this.each) : null;
  }
}

/** llama-server's own page; where there are several models, it is told which one. @param {Served} offer @param {Status} status */
function chatOf({ names, profile }, status) {
  return status.served.length > 1 ? `../?model=${encodeURIComponent(names[0] ?? profile)}` : "../";
}

/** Names of all profiles; none where they cannot be had, since those that are served are known anyway. */
async function allProfiles() {
  try {
    const { result } = await run("profiles");
    return /** @type {string[]} */ ((result?.profiles ?? []).map((/** @type {any} */ each) => each.name ?? each));
  } catch {
    return [];
  }
}
