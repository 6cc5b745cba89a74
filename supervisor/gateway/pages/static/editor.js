/**
 * The text of a profile, with the same checks and messages as `profile check`, at their lines.
 *
 * It is saved only if it is right.  What was typed is kept while the page is open, also when another view or
 * language is chosen.
 */

import { run } from "./control.js";
import { diff, inShort } from "./diff.js";
import { h, render } from "./dom.js";
import { planOf } from "./plan.js";
import { countLines, rangeOf, severities, sorted } from "./problems.js";
import { Reading, shown } from "./readings.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").State} State */
/** @typedef {import("./problems.js").Problem} Problem */
/** @typedef {{text: string, path: string, digest: string, is_shipped: boolean}} Stored */
/** @typedef {{problems: Problem[], plan: any}} Checked */

const CHECK_AFTER_MS = 500; // a pause while typing
const LOADED = new Set(["ready", "degraded", "sleeping", "starting"]);

/** What was typed and not saved, by profile, with the text that it began with. @type {Map<string, {text: string, stored: Stored}>} */
const drafts = new Map();

/** @param {HTMLElement} root @param {App} app @param {string} profile @returns {() => void} */
export function mountEditor(root, app, profile) {
  const editor = new Editor(root, app, profile);
  return () => editor.end();
}

class Editor {
  /** @param {HTMLElement} root @param {App} app @param {string} profile */
  constructor(root, app, profile) {
    this.root = root;
    this.app = app;
    this.profile = profile;
    this.text = "";
    this.checked_text = /** @type {string | null} */ (null); // what the answer of the check is about
    this.saved_as = ""; // where the text before is kept, after a save
    const changed = () => app.redraw();
    this.stored = /** @type {Reading<Stored>} */ (new Reading(() => this._taken()));
    this.check = /** @type {Reading<Checked>} */ (new Reading(changed));
    this.plan = /** @type {Reading<Checked>} */ (new Reading(changed));
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._timer = undefined;
    /** @type {HTMLTextAreaElement | null} */
    this._area = null;
    this._warn = (/** @type {BeforeUnloadEvent} */ event) => this.isChanged && event.preventDefault();
    addEventListener("beforeunload", this._warn);
    this._read();
    app.watch((state) => this.draw(state));
  }

  end() {
    clearTimeout(this._timer);
    removeEventListener("beforeunload", this._warn);
    for (const each of [this.stored, this.check, this.plan]) each.stop();
  }

  get isChanged() {
    return this.stored.value !== null && this.text !== this.stored.value.text;
  }

  _waits = false; // for the text

  _read() {
    clearTimeout(this._timer);
    this.check.stop();
    this.plan.stop();
    this._waits = true;
    void this.stored.read("profile-text", { profile: this.profile });
  }

  /** The text has come from the daemon; what was typed before goes on, on the text that it began with. */
  _taken() {
    const { value } = this.stored;
    if (value && this._waits && !this.stored.isUnderWay) {
      this._waits = false;
      const draft = drafts.get(this.profile);
      if (draft) this.stored.value = draft.stored;
      this.text = draft?.text ?? value.text;
      this._checkNow();
    }
    this.app.redraw();
  }

  /** @param {string} text */
  typed(text) {
    this.text = text;
    this.saved_as = "";
    if (this.isChanged) drafts.set(this.profile, { text, stored: /** @type {Stored} */ (this.stored.value) });
    else drafts.delete(this.profile);
    clearTimeout(this._timer);
    this._timer = setTimeout(() => void this._checkNow(), CHECK_AFTER_MS);
    this.app.redraw();
  }

  /** First what is wrong in the text, which is quick; then what a start would do. */
  async _checkNow() {
    const { text, profile } = this;
    this.plan.stop();
    await this.check.read("profile-check", { profile, text });
    if (text !== this.text || this.check.isUnderWay) return;
    this.checked_text = text;
    this.app.redraw();
    if (this.errors.length) this.plan.forget();
    else await this.plan.read("profile-check", { profile, text, plan: true });
  }

  get problems() {
    const found = [this.check.value, this.plan.value].flatMap((each) => each?.problems ?? []);
    const seen = new Map(found.map((each) => [JSON.stringify([each.line, each.column, each.message]), each]));
    return sorted([...seen.values()]);
  }

  get errors() {
    return (this.check.value?.problems ?? []).filter((each) => each.severity === "error");
  }

  get isSound() {
    return this.checked_text === this.text && !this.check.error && !this.errors.length;
  }

  // --- what is shown

  /** @param {State} state */
  draw(state) {
    const { app, profile } = this;
    const { t, session } = app;
    const mayEdit = session.can_edit && this.stored.value?.is_shipped === false;
    render(
      this.root,
      h("p", { class: "back" }, h("a", { href: `#profiles/${encodeURIComponent(profile)}` }, `← ${profile}`)),
      h("h2", null, t(mayEdit ? "editor.title" : "editor.title_read", { profile })),
      !session.can_edit && h("p", { class: "caution" }, t("profiles.no_edit"), " ", h("code", null, "goss-supervisor open")),
      this.stored.value?.is_shipped && h("p", { class: "caution" }, t("editor.shipped"), " ", h("a", { href: `#profiles/${encodeURIComponent(profile)}/copy` }, t("profiles.copy"))),
      shown(app, this.stored, (stored) => [
        h("p", { class: "muted small" }, h("code", null, stored.path)),
        drafts.has(profile) && h("p", { class: "muted small" }, t("editor.unsaved")),
        this._text(mayEdit),
        this._status(),
        this._problems(),
        mayEdit && h("p", { class: "buttons" },
          h("button", { type: "button", class: "primary", disabled: !state.status || !this.isChanged || !this.isSound, onclick: () => void this._save() }, t("editor.save")),
          h("button", { type: "button", disabled: !this.isChanged, onclick: () => void this._discard() }, t("editor.discard"))),
        this.saved_as && h("p", { class: "verdict good", role: "status" }, t("editor.kept", { file: this.saved_as })),
        this.saved_as && this._running(state),
        h("section", { class: "section" }, h("h3", null, t("editor.plan")), this._plan()),
      ]),
    );
  }

  /** @param {boolean} mayEdit */
  _text(mayEdit) {
    const marks = severities(this.problems);
    const numbers = Array.from({ length: countLines(this.text) }, (_, place) =>
      h("div", { key: place, class: marks.get(place + 1) ?? "" }, String(place + 1)));
    return h("div", { class: "editor" },
      h("div", { class: "gutter", "aria-hidden": "true", ref: (/** @type {HTMLElement} */ each) => { this._gutter = each; } }, numbers),
      h("textarea", {
        value: this.text, readonly: !mayEdit, wrap: "off", spellcheck: "false", autocapitalize: "off", autocomplete: "off",
        rows: Math.min(40, Math.max(12, countLines(this.text) + 1)),
        "aria-label": this.app.t("editor.label", { profile: this.profile }),
        "aria-invalid": String(this.errors.length > 0), "aria-describedby": "editor-status editor-problems",
        oninput: (/** @type {any} */ event) => this.typed(event.target.value),
        onscroll: (/** @type {any} */ event) => { if (this._gutter) this._gutter.scrollTop = event.target.scrollTop; },
        ref: (/** @type {HTMLTextAreaElement} */ each) => { this._area = each; },
      }));
  }

  /** @type {HTMLElement | null} */
  _gutter = null;

  _status() {
    const { t } = this.app;
    const warnings = this.problems.length - this.errors.length;
    const isOld = this.checked_text !== this.text || this.check.isUnderWay;
    const text = this.check.error ? t("editor.check_failed", { why: this.check.error.message })
      : isOld ? t("editor.checking")
      : this.errors.length ? t("editor.mistakes", { n: this.errors.length })
      : warnings ? t("editor.warnings", { n: warnings }) : t("editor.right");
    return h("p", { id: "editor-status", class: `editor-status ${isOld ? "" : this.errors.length ? "bad" : "good"}`, role: "status" }, text);
  }

  /** Each leads to its line. */
  _problems() {
    return h("ul", { id: "editor-problems", class: "problems", "aria-label": this.app.t("editor.problems") }, this.problems.map((each) =>
      h("li", { key: JSON.stringify(each), class: each.severity },
        each.line === null ? null : h("button", { type: "button", class: "quiet", onclick: () => this._jump(each) }, this.app.t("editor.line", { n: each.line })),
        h("span", { lang: "en" }, each.message, each.hint && h("span", { class: "hint" }, each.hint)))));
  }

  /** @param {Problem} problem */
  _jump(problem) {
    const area = this._area;
    if (!area) return;
    const [start, end] = rangeOf(this.text, problem);
    area.focus();
    area.setSelectionRange(start, end);
    const height = area.scrollHeight / countLines(this.text);
    area.scrollTop = Math.max(0, height * ((problem.line ?? 1) - 4));
  }

  _plan() {
    const { t } = this.app;
    if (this.errors.length) return h("p", { class: "empty" }, t("editor.no_plan"));
    return shown(this.app, this.plan, ({ plan }) => (plan ? planOf(this.app, plan) : h("p", { class: "empty" }, t("editor.cannot_start"))));
  }

  // --- what is done

  async _save() {
    const { app, profile, text } = this;
    const stored = /** @type {Stored} */ (this.stored.value);
    const servers = serversOf(app.store.state, profile);
    const goesOn = await app.confirm({
      title: app.t("editor.save_title", { profile }),
      body: [
        diffOf(app, stored.text, text),
        h("p", { class: "muted small" }, app.t(servers.length ? "editor.runs_on" : "editor.next_start", { profile })),
      ],
      action: app.t("editor.save"),
    });
    if (!goesOn) return;
    await app.carryOut(app.t("editor.save_what", { profile }), async () => {
      const { result } = await run("profile-save", { profile, text, based_on: stored.digest });
      drafts.delete(profile);
      this.stored.value = { ...stored, text, digest: result.digest };
      this.saved_as = `${result.path}~`;
      app.redraw();
    });
  }

  async _discard() {
    const { app } = this;
    if (!(await app.confirm({ title: app.t("editor.discard_title"), action: app.t("editor.discard"), danger: true }))) return;
    drafts.delete(this.profile);
    this._read(); // it may have changed meanwhile
  }

  /** What runs the text before. @param {State} state */
  _running(state) {
    const { app, profile } = this;
    const { t } = app;
    return h("ul", { class: "notes" }, serversOf(state, profile).map((server) =>
      h("li", { key: server.name }, t("editor.still_runs", { profile }), " ",
        h("button", { type: "button", onclick: () => void restart(app, server) }, t("editor.restart", { profile })))));
  }
}

/** Those that run this profile. @param {State} state @param {string} profile */
function serversOf(state, profile) {
  return (state.status?.servers ?? []).filter((each) => each.profile === profile && LOADED.has(each.state));
}

/** @param {App} app @param {import("../types.js").ServerStatus} server */
async function restart(app, server) {
  const { t } = app;
  const what = t("editor.restart", { profile: server.profile ?? server.name });
  const about = server.requests_under_way ? t("editor.restart_busy", { n: server.requests_under_way }) : t("editor.restart_idle");
  if (!(await app.confirm({ title: `${what}?`, body: [about], action: what, danger: server.requests_under_way > 0 }))) return;
  await app.carryOut(what, async (progress) => void (await run("restart", { server: server.name }, { each: (job) => progress(job.line) })));
}

/** What an edit changed, for people who see it and for those who hear it. @param {App} app @param {string} before @param {string} after */
export function diffOf({ t }, before, after) {
  const lines = inShort(diff(before, after));
  return h("div", { class: "diff", tabindex: 0, role: "region", "aria-label": t("editor.changes") }, lines.map((line, place) =>
    line.kind === "gap"
      ? h("div", { key: place, class: "gap" }, t("editor.gap", { n: line.lines }))
      : h("div", { key: place, class: line.kind },
          h("span", { class: "sign", "aria-hidden": "true" }, line.kind === "added" ? "+" : line.kind === "removed" ? "−" : " "),
          line.kind !== "same" && h("span", { class: "hidden" }, t(`editor.${line.kind}`)),
          h("span", null, line.text || " "))));
}
