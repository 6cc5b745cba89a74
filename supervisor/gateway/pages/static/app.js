/**
 * The frame of the page: who may see it, which view is shown (`location.hash`), messages and questions.
 *
 * A view is a module of its own, loaded when it is first wanted: `export const name`, and
 * `mount(root, app)`, which gives the function that takes it down again.
 */

import { ControlError, Superseded } from "./control.js";
import { h, render } from "./dom.js";
import { read as readSession, signIn } from "./login.js";
import { Store } from "./store.js";
import { LANGUAGES, Words, chosenLanguage, rememberLanguage } from "./words.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Notice} Notice */
/** @typedef {import("../types.js").Session} Session */
/** @typedef {import("../types.js").View} View */
/** @typedef {import("../types.js").State} State */
/** @typedef {import("./words.js").Language} Language */

const VIEWS = /** @type {const} */ (["now", "requests", "logs", "hardware", "profiles", "charts", "usage", "jobs"]);
const SHOWN_SECONDS = 8; // how long a message of success stays

class Frame {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.words = new Words(chosenLanguage());
    /** @type {Session | null} */
    this.session = null;
    this.store = new Store({ refused: () => this._mayGoOn() });
    /** @type {{key: number, kind: string, text: string, hint: string}[]} */
    this.notices = [];
    this._noticed = 0;
    this._lost_at = 0;
    this._frame = 0;
    this._turn = 0; // of views: one that was loaded too late is not mounted
    /** @type {Set<(state: State) => void>} */
    this._drawers = new Set();
    /** @type {(() => void)[]} */
    this._ends = [];
  }

  async start() {
    this.store.subscribe(() => this._soon());
    addEventListener("hashchange", () => void this._route());
    document.addEventListener("visibilitychange", () => this.store.setHidden(document.hidden));
    this.session = await signIn(this.root, this);
    this._enter();
  }

  _enter() {
    const wasAsked = this.root.querySelector("form") !== null;
    this.draw();
    this.store.open();
    void this._route(wasAsked);
  }

  /** After a refusal of the events: whether the session still counts; if not, log in again. */
  async _mayGoOn() {
    const session = await readSession();
    if (!session || session.admin) return true;
    this._unmount();
    this.session = await signIn(this.root, this);
    this._enter();
    return false;
  }

  // --- what is drawn

  _soon() {
    this._frame ||= requestAnimationFrame(() => {
      this._frame = 0;
      const { connection } = this.store.state;
      this._lost_at = connection === "lost" ? this._lost_at || Date.now() / 1000 : 0;
      this.draw();
      for (const draw of this._drawers) draw(this.store.state);
    });
  }

  draw() {
    const { t } = this.words;
    speak(this.words.language);
    if (!this.session?.admin) return;
    const { connection, version } = this.store.state;
    const at = this._view();
    entitle(t(`view.${at}`));
    render(
      this.root,
      h("a", { class: "skip", href: "#main", onclick: skipToMain }, t("frame.skip")),
      h("header", { class: "bar" },
        h("p", { class: "brand" }, h("img", { src: "static/icon.svg", alt: "", width: 24, height: 24 }), "goss-supervisor"),
        h("nav", { "aria-label": t("frame.views") },
          h("ul", null, VIEWS.map((name) =>
            h("li", { key: name }, h("a", { href: `#${name}`, "aria-current": name === at ? "page" : null }, t(`view.${name}`)))))),
        h("div", { class: "bar-end" },
          h("span", { class: `live ${connection}` }, h("span", { class: "live-dot", "aria-hidden": "true" }), h("span", null, t(`frame.${connection}`))),
          this.languageSwitch(),
          this.session.asks_for_key && h("button", { type: "button", class: "quiet", onclick: () => this._leave() }, t("frame.logout")),
          h("span", { class: "version" }, version || this.session.version))),
      h("p", { class: "lost", role: "status", hidden: !this._lost_at },
        this._lost_at ? t("frame.lost.long", { time: this.words.time(this._lost_at) }) : ""),
      h("main", { id: "main", key: "main" }, h("h1", { tabindex: -1 }, t(`view.${at}`)), h("div", { key: `view ${this._turn}`, class: `view view-${at}`, ref: this._mounts })),
      h("section", { class: "notices", role: "status", "aria-label": t("frame.messages") }, this.notices.map((each) => this._notice(each))),
    );
  }

  /** @param {HTMLElement} element */
  _mounts = (element) => {
    this._place = element;
  };

  /** @type {HTMLElement | null} */
  _place = null;

  languageSwitch() {
    /** @param {Event} event */
    const choose = (event) => {
      const language = /** @type {Language} */ (/** @type {HTMLSelectElement} */ (event.target).value);
      rememberLanguage(language);
      this.words = new Words(language);
      if (this.session?.admin) void this._route();
      else dispatchEvent(new Event("languagechange"));
    };
    return h("label", { class: "language" }, h("span", { class: "hidden" }, this.words.t("frame.language")),
      h("select", { onchange: choose, value: this.words.language },
        Object.entries(LANGUAGES).map(([code, name]) => h("option", { value: code, lang: code }, name))));
  }

  // --- views

  _view() {
    const wanted = routeNow()[0];
    return VIEWS.find((each) => each === wanted) ?? "now";
  }

  /** Show the view that the fragment names.  The focus goes to its title, but not when the page opens. */
  async _route(focuses = false) {
    if (!this.session?.admin) return;
    const moved = this._unmount() || focuses;
    const turn = ++this._turn;
    const name = this._view();
    this.draw();
    this._showPlace();
    const root = this._place;
    if (!root) return;
    try {
      /** @type {View} */
      const view = await import(`./${name}.js`);
      if (turn !== this._turn) return;
      this._ends.push(view.mount(root, this._appFor(turn)));
    } catch (error) {
      console.error(error);
      render(root, h("p", { class: "trouble" }, this.words.t("frame.view_failed", { why: String(error) })));
    }
    if (moved) /** @type {HTMLElement | null} */ (this.root.querySelector("h1"))?.focus();
  }

  /** On a phone the menu is wider than the screen. */
  _showPlace() {
    const menu = this.root.querySelector("nav");
    const at = /** @type {HTMLElement | null} */ (menu?.querySelector("[aria-current]"));
    if (menu && at) menu.scrollLeft = at.offsetLeft - (menu.clientWidth - at.offsetWidth) / 2;
  }

  /** Whether there was one. */
  _unmount() {
    const ends = this._ends.splice(0);
    for (const end of ends.toReversed()) end();
    this._drawers.clear();
    return ends.length > 0;
  }

  /** @param {number} turn @returns {App} */
  _appFor(turn) {
    const { words, store } = this;
    return {
      store,
      words,
      t: words.t,
      session: /** @type {Session} */ (this.session),
      route: routeNow().slice(1),
      watch: (draw) => {
        this._drawers.add(draw);
        draw(store.state);
      },
      redraw: () => turn === this._turn && this._soon(),
      every: (seconds, call) => {
        const timer = setInterval(() => document.hidden || call(), seconds * 1000);
        this._ends.push(() => clearInterval(timer));
      },
      now: () => Date.now() / 1000 + store.state.skew_seconds,
      replaceRoute: (...route) => history.replaceState(null, "", `#${[this._view(), ...route].map(encodeURIComponent).join("/")}`),
      confirm: (question) => this.confirm(question),
      notify: (kind, text, hint) => this.notify(kind, text, hint),
      carryOut: (what, work) => this.carryOut(what, work),
    };
  }

  // --- messages and questions

  /** @param {{key: number, kind: string, text: string, hint: string}} notice */
  _notice({ key, kind, text, hint }) {
    return h("div", { key, class: `notice ${kind}` },
      h("p", null, text, hint && h("span", { class: "hint" }, hint)),
      kind !== "progress" && h("button", { type: "button", class: "quiet", onclick: () => this._dismiss(key), "aria-label": this.words.t("frame.dismiss") }, "×"));
  }

  /** @param {number} key */
  _dismiss(key) {
    this.notices = this.notices.filter((each) => each.key !== key);
    this.draw();
  }

  /** @type {App["notify"]} */
  notify(kind, text, hint = "") {
    const key = ++this._noticed;
    /** @type {Notice} */
    const notice = {
      say: (kind, text, hint = "") => {
        this.notices = [...this.notices.filter((each) => each.key !== key), { key, kind, text, hint }].slice(-6);
        if (kind === "done") setTimeout(() => this._dismiss(key), SHOWN_SECONDS * 1000);
        this.draw();
      },
      close: () => this._dismiss(key),
    };
    notice.say(kind, text, hint);
    return notice;
  }

  /** @type {App["carryOut"]} */
  async carryOut(what, work) {
    const { t } = this.words;
    const notice = this.notify("progress", `${what}…`);
    try {
      const told = await work((line) => notice.say("progress", `${what}: ${line}`));
      notice.say("done", told ? t("frame.failed", { what, why: told }) : t("frame.done", { what }));
      return true;
    } catch (error) {
      if (error instanceof Superseded) notice.say("warning", t("frame.superseded", { what }), [error.message, error.hint].filter(Boolean).join(" "));
      else if (error instanceof ControlError) notice.say("error", t("frame.failed", { what, why: error.message }), error.hint);
      else {
        console.error(error);
        notice.say("error", t("frame.failed", { what, why: String(error) }));
      }
      return false;
    }
  }

  /** @type {App["confirm"]} */
  confirm({ title, body = [], action, danger = false }) {
    return new Promise((decided) => {
      const before = /** @type {HTMLElement | null} */ (document.activeElement);
      const dialog = document.createElement("dialog");
      dialog.setAttribute("aria-labelledby", "question");
      render(dialog, h("form", { method: "dialog" },
        h("h2", { id: "question" }, title),
        h("div", { class: "dialog-body" }, body),
        h("p", { class: "buttons" },
          h("button", { value: "", autofocus: true }, this.words.t("frame.cancel")),
          h("button", { value: "yes", class: danger ? "danger" : "primary" }, action))));
      dialog.addEventListener("close", () => {
        dialog.remove();
        before?.focus();
        decided(dialog.returnValue === "yes");
      });
      document.body.append(dialog);
      dialog.showModal();
    });
  }

  async _leave() {
    await fetch("session", { method: "DELETE", headers: { "content-type": "application/json" } }).catch(() => undefined);
    location.replace("./");
  }
}

/** The same language again would have the browser style the whole page anew. @param {string} language */
function speak(language) {
  if (document.documentElement.lang !== language) document.documentElement.lang = language;
}

/** @param {string} title */
function entitle(title) {
  const whole = `${title} – goss-supervisor`;
  if (document.title !== whole) document.title = whole;
}

/** @param {Event} event */
function skipToMain(event) {
  event.preventDefault();
  /** @type {HTMLElement | null} */ (document.querySelector("h1"))?.focus();
}

/** The parts of the fragment. */
function routeNow() {
  return location.hash.slice(1).split("/").map(decode);
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

void new Frame(/** @type {HTMLElement} */ (document.getElementById("page"))).start();
