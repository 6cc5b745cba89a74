/** The profiles: all of them, one with its plan and the origin of each value, and the editor. */

import { run } from "./control.js";
import { h, render } from "./dom.js";
import { mountEditor } from "./editor.js";
import { toneOf } from "./figures.js";
import { planOf } from "./plan.js";
import { Reading, fact, shown, troubleOf } from "./readings.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Status} Status */
/** @typedef {{name: string, path: string, shipped: boolean, shadows: string | null, description: string, problem: string | null}} Listed */

export const name = "profiles";

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const [profile, what] = app.route;
  if (!profile) return listPage(root, app);
  if (what === "edit") return mountEditor(root, app, profile);
  if (what === "copy") return copyPage(root, app, profile);
  return profilePage(root, app, profile);
}

/** @param {string} profile @param {string} [what] */
export function linkTo(profile, what = "") {
  return `#profiles/${encodeURIComponent(profile)}${what && `/${what}`}`;
}

// --- all of them

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
function listPage(root, app) {
  const { t } = app;
  const reading = /** @type {Reading<{profiles: Listed[]}>} */ (new Reading(() => app.redraw()));
  let wanted = "";
  void reading.read("profiles");
  app.watch((state) =>
    render(
      root,
      h("div", { class: "toolbar" },
        h("label", { class: "field" }, t("profiles.search"), h("input", { type: "search", value: wanted, oninput: (/** @type {any} */ event) => { wanted = event.target.value; app.redraw(); } }))),
      editCaution(app),
      shown(app, reading, (found) => listTable(app, found.profiles.filter((each) => isWanted(each, wanted)), state.status)),
    ),
  );
  return () => reading.stop();
}

/** @param {Listed} profile @param {string} wanted */
function isWanted({ name: called, description }, wanted) {
  return `${called} ${description}`.toLowerCase().includes(wanted.trim().toLowerCase());
}

/** The served ones first, then a person's own, then the shipped ones. @param {Listed[]} profiles @param {Status | null} status */
export function inOrder(profiles, status) {
  const served = new Map((status?.served ?? []).map((each, place) => [each.profile, place]));
  const rank = (/** @type {Listed} */ each) => (served.has(each.name) ? -1000 + (served.get(each.name) ?? 0) : each.shipped ? 1 : 0);
  return profiles.toSorted((one, other) => rank(one) - rank(other));
}

/** @param {App} app @param {Listed[]} profiles @param {Status | null} status */
function listTable(app, profiles, status) {
  const { t } = app;
  if (!profiles.length) return h("p", { class: "empty" }, t("profiles.none"));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("view.profiles") },
    h("table", { class: "data" }, h("caption", { class: "hidden" }, t("view.profiles")),
      h("thead", null, h("tr", null, ["name", "state", "origin", "description"].map((each) => h("th", { scope: "col" }, t(/** @type {any} */ (`profiles.${each}`)))))),
      h("tbody", null, inOrder(profiles, status).map((each) =>
        h("tr", { key: each.name },
          h("th", { scope: "row" }, h("a", { href: linkTo(each.name) }, each.name)),
          h("td", null, stateOf(app, each.name, status)),
          h("td", null, originOf(app, each)),
          h("td", null, each.problem ? h("span", { class: "why", lang: "en" }, each.problem) : described(each.description)))))));
}

/** @param {App} app @param {string} profile @param {Status | null} status */
function stateOf({ t }, profile, status) {
  const server = status?.servers.find((each) => each.profile === profile);
  const served = status?.served.some((each) => each.profile === profile);
  if (server) return h("span", { class: `pill ${toneOf(server.state)}` }, t(/** @type {any} */ (`state.${server.state}`)));
  return served ? h("span", { class: "pill" }, t("profiles.served")) : "";
}

/** Those that are shipped are in English, and people write theirs in any language. @param {string} description */
function described(description) {
  return h("span", { lang: /^[\x20-\x7e]*$/.test(description) ? "en" : null }, description);
}

/** @param {App} app @param {Pick<Listed, "shipped" | "shadows">} profile */
function originOf({ t }, { shipped, shadows }) {
  return t(shipped ? "profiles.shipped" : shadows ? "profiles.replaces" : "profiles.yours");
}

/** Why nothing can be saved, and how to change that. @param {App} app */
export function editCaution({ t, session }) {
  return session.can_edit ? null : h("p", { class: "caution" }, t("profiles.no_edit"), " ", h("code", null, "goss-supervisor open"));
}

// --- one of them

/** @param {HTMLElement} root @param {App} app @param {string} profile @returns {() => void} */
function profilePage(root, app, profile) {
  const { t } = app;
  const changed = () => app.redraw();
  const resolved = /** @type {Reading<{profile: any}>} */ (new Reading(changed));
  const plan = /** @type {Reading<any>} */ (new Reading(changed));
  const list = /** @type {Reading<{profiles: Listed[]}>} */ (new Reading(changed));
  void resolved.read("profile", { profile });
  void plan.read("plan", { profile });
  void list.read("profiles");
  app.watch((state) => {
    const listed = list.value?.profiles.find((each) => each.name === profile);
    render(
      root,
      h("p", { class: "back" }, h("a", { href: "#profiles" }, `← ${t("profiles.back")}`)),
      h("div", { class: "toolbar" }, h("h2", null, profile), stateOf(app, profile, state.status), listed && h("span", { class: "muted" }, originOf(app, listed))),
      listed?.description && h("p", null, described(listed.description)),
      actions(app, profile, listed, state.status),
      h("section", { class: "section" }, h("h2", null, t("profiles.plan")), shown(app, plan, (found) => planOf(app, found))),
      h("section", { class: "section" }, h("h2", null, t("profiles.values")), shown(app, resolved, (found) => valuesOf(app, found.profile))),
    );
  });
  return () => [resolved, plan, list].forEach((each) => each.stop());
}

/** @param {App} app @param {string} profile @param {Listed | undefined} listed @param {Status | null} status */
function actions(app, profile, listed, status) {
  const { t, session } = app;
  const served = status?.served.find((each) => each.profile === profile);
  return h("div", { class: "buttons" },
    listed && (listed.shipped
      ? h("a", { class: "button", href: linkTo(profile, "copy") }, t("profiles.copy"))
      : h("a", { class: "button", href: linkTo(profile, "edit") }, t(session.can_edit ? "profiles.edit" : "profiles.text"))),
    !status?.servers.some((each) => each.profile === profile && each.state === "ready") && h("button", { type: "button", onclick: () => load(app, profile) }, t("profiles.load")),
    served
      ? h("button", { type: "button", onclick: () => offer(app, profile, false) }, t("profiles.unserve"))
      : h("button", { type: "button", onclick: () => offer(app, profile, true) }, t("profiles.serve")),
    h("a", { class: "button", href: `#jobs/bench/${encodeURIComponent(profile)}` }, t("profiles.bench")),
    h("a", { class: "button", href: `#jobs/tune/${encodeURIComponent(profile)}` }, t("profiles.tune")));
}

/** @param {App} app @param {string} profile */
async function load(app, profile) {
  const what = app.t("profiles.load_what", { profile });
  const goesOn = await app.confirm({ title: `${what}?`, body: [app.t("profiles.load_about")], action: app.t("profiles.load") });
  if (goesOn) await app.carryOut(what, async (progress) => void (await run("load", { profile }, { each: (job) => progress(job.line) })));
}

/** @param {App} app @param {string} profile @param {boolean} isOffered */
async function offer(app, profile, isOffered) {
  const what = app.t(isOffered ? "profiles.serve_what" : "profiles.unserve_what", { profile });
  const about = app.t(isOffered ? "profiles.serve_about" : "profiles.unserve_about");
  if (!(await app.confirm({ title: `${what}?`, body: [about], action: app.t("profiles.go_on"), danger: !isOffered }))) return;
  await app.carryOut(what, async (progress) => {
    await run(isOffered ? "serve-add" : "serve-rm", { profile }, { each: (job) => progress(job.line) });
    await run("reload", {}, { each: (job) => progress(job.line) });
  });
}

/** @typedef {{key: string, value: string, origin: {profile: string, file: string, line: number} | null}} Value without an origin it is a default */

/** The values that are set, each with where; then the rest, which nobody has set. @param {App} app @param {any} profile */
function valuesOf(app, profile) {
  const { t } = app;
  const values = /** @type {Value[]} */ (profile.values ?? []);
  const rest = values.filter((each) => !each.origin);
  return [
    h("dl", { class: "facts" }, fact(t("profiles.lineage"), profile.lineage.map((/** @type {string} */ file) => h("div", null, h("code", null, file))))),
    profile.notes.map((/** @type {string} */ note) => h("p", { class: "muted small", lang: "en" }, note)),
    valueTable(app, t("profiles.values"), values.filter((each) => each.origin)),
    h("details", { class: "section" }, h("summary", null, t("profiles.defaults", { n: rest.length })), valueTable(app, t("profiles.defaults", { n: rest.length }), rest)),
  ];
}

/** @param {App} app @param {string} caption @param {Value[]} values */
function valueTable({ t }, caption, values) {
  const hasOrigin = values.some((each) => each.origin);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", { class: "data" }, h("caption", { class: "hidden" }, caption),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, t("profiles.key")), h("th", { scope: "col" }, t("profiles.value")), hasOrigin && h("th", { scope: "col" }, t("profiles.from")))),
      h("tbody", null, values.map(({ key, value, origin }) =>
        h("tr", { key }, h("th", { scope: "row" }, h("code", null, key)), h("td", null, h("code", null, value)),
          origin && h("td", null, h("span", { title: origin.file }, placeOf(origin))))))));
}

/** `rtx4060ti.yaml:12`. @param {{file: string, line: number}} origin */
export function placeOf({ file, line }) {
  return [file.split(/[/\\]/).at(-1), line || ""].filter(Boolean).join(":");
}

// --- a copy of a shipped one

const NAME = /^[a-z0-9][a-z0-9._-]*$/;

/** @param {HTMLElement} root @param {App} app @param {string} original @returns {() => void} */
function copyPage(root, app, original) {
  const { t, session } = app;
  const list = /** @type {Reading<{profiles: Listed[]}>} */ (new Reading(() => app.redraw()));
  let called = `my-${original}`;
  void list.read("profiles");
  /** @param {Event} event */
  const make = async (event) => {
    event.preventDefault();
    const what = t("profiles.copy_what", { from: original, to: called });
    const isMade = await app.carryOut(what, async () => void (await run("profile-new", { profile: called, from: original })));
    if (isMade) location.hash = linkTo(called, "edit");
  };
  app.watch(() => {
    const isTaken = list.value?.profiles.some((each) => each.name === called && !each.shipped);
    const problem = !NAME.test(called) ? t("profiles.bad_name") : isTaken ? t("profiles.taken", { name: called }) : "";
    render(
      root,
      h("p", { class: "back" }, h("a", { href: linkTo(original) }, `← ${original}`)),
      h("h2", null, t("profiles.copy_title", { name: original })),
      h("p", null, t("profiles.copy_about", { name: original })),
      editCaution(app),
      list.error && troubleOf(list.error),
      h("form", { class: "narrow", onsubmit: make },
        h("label", { class: "field" }, t("profiles.copy_name"),
          h("input", { value: called, required: true, maxlength: 100, spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-invalid": String(Boolean(problem)), "aria-describedby": "copy-problem", oninput: (/** @type {any} */ each) => { called = each.target.value; app.redraw(); } })),
        h("p", { id: "copy-problem", class: "why", role: "status" }, problem),
        h("p", { class: "buttons" }, h("button", { class: "primary", disabled: !session.can_edit || Boolean(problem) || !list.value }, t("profiles.copy_make")))),
    );
  });
  return () => list.stop();
}
