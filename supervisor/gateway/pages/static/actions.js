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
/** @typedef {(each: (job: Job) => void) => Promise<any>} Work `each` hears of the progress */

const DOWN = new Set(["stopped", "sleeping", "failed"]);

export class Actions {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.t = app.t;
    /** @type {Set<string>} what is being done, so that nobody asks for it twice */
    this.busy = new Set();
  }

  /**
   * @param {ServerStatus} server
   * @param {boolean} isMain
   * @param {Served | undefined} offer
   * @param {State} state
   * @param {Status} status
   * @returns {Child[]}
   */
  buttons({ name, profile: loaded, state: is }, isMain, offer, state, status) {
    const { t } = this;
    const profile = loaded ?? name;
    const isDown = DOWN.has(is);
    const used = state.active.filter((each) => each.phase !== "waiting" && each.profile === profile);
    return [
      isDown && this.load(name, profile),
      !isDown && this.button(name, profile, t("now.do.unload"), () => order({ op: "unload", server: name }), { used }),
      !isDown && this.button(name, profile, t("now.do.restart"), (each) => run("restart", { server: name }, { each }), { used }),
      offer && this.pin(offer),
      isMain && this.button(name, profile, t("now.do.switch"), () => this.choose(profile, status), { used: isDown ? [] : used }),
      offer && is === "ready" && h("a", { class: "button", href: chatOf(offer, status), target: "_blank", rel: "noopener", "aria-label": `${t("now.chat")}: ${profile}` }, t("now.chat")),
      h("a", { class: "button", href: `#logs/${encodeURIComponent(name)}`, "aria-label": `${t("view.logs")}: ${profile}` }, t("view.logs")),
    ];
  }

  /** @param {string} server @param {string} profile */
  load(server, profile) {
    return this.button(server, profile, this.t("now.do.load"), (each) => run("load", { profile }, { each }), { kind: "primary" });
  }

  /** @param {Served} offer */
  pin({ profile, pinned }) {
    const label = pinned ? this.t("now.do.unpin") : this.t("now.do.pin");
    return this.button(profile, profile, label, (each) => run("pin", { profile, pinned: !pinned }, { each }), { title: this.t("now.do.pin.why") });
  }

  /**
   * A button that carries `work` out; it asks first where that stops requests.  Work that asks for more first
   * gives another piece of work, or null for none.
   * @param {string} server
   * @param {string} profile
   * @param {string} label
   * @param {Work} work
   * @param {{kind?: string, title?: string, used?: ActiveRequest[]}} [more]
   */
  button(server, profile, label, work, { kind = "", title = "", used = [] } = {}) {
    const name = `${server} ${label}`;
    const act = async () => {
      if (this.busy.has(name)) return;
      this.busy.add(name);
      this.app.redraw();
      try {
        const chosen = label === this.t("now.do.switch") ? await work(() => undefined) : work;
        if (!chosen || (used.length && !(await this.stops(label, profile, used)))) return;
        await this.app.carryOut(this.t("now.doing", { label: label.replace("…", ""), profile }), async (progress) => {
          const done = await chosen((/** @type {Job} */ job) => job.line && progress(job.line));
          const outcome = done?.outcome ?? done?.result?.outcome ?? done;
          return outcome?.result === "degraded" ? outcome.why : undefined;
        });
      } finally {
        this.busy.delete(name);
        this.app.redraw();
      }
    };
    return h("button", { type: "button", key: label, class: kind || null, onclick: act, title: title || null, "aria-disabled": this.busy.has(name) ? "true" : null, "aria-label": `${label}: ${profile}` }, label);
  }

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
    const { t } = this;
    const { words } = this.app;
    const tokens = !request.output_tokens ? "" : t("now.tokens", { n: request.output_tokens });
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
    const select = h("select", { onchange: (/** @type {any} */ event) => (chosen = event.target.value) }, names.map((each) => h("option", { value: each }, each)));
    const goes = await this.app.confirm({
      title: t("now.switch.title"),
      body: [h("p", null, t("now.switch.text", { profile: present })), h("label", { class: "field" }, t("now.switch.to"), select)],
      action: t("now.switch.action"),
    });
    return goes ? (/** @type {(job: Job) => void} */ each) => run("switch", { profile: chosen }, { each }) : null;
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
