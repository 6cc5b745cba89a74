/**
 * Who may see the page: a session, by a key or by the one-time code of `goss-supervisor open`.
 *
 * The code comes in the fragment, which no server sees, and is removed from it before anything else happens.
 */

import { h, render } from "./dom.js";

/** @typedef {import("../types.js").Session} Session */
/** @typedef {import("./words.js").Key} Key */
/** @typedef {{words: import("./words.js").Words, languageSwitch: () => import("./dom.js").VNode}} Frame */

const RETRY_SECONDS = 2;

/**
 * The session, as soon as there is one that may see the page; until then a form for the key is shown.
 * @param {HTMLElement} root
 * @param {Frame} frame
 * @returns {Promise<Session>}
 */
export async function signIn(root, frame) {
  const code = takeCode();
  /** @type {Key | ""} */
  let trouble = "";
  if (code) trouble = troubleOf(await post({ code }), "code");
  for (;;) {
    const session = await read();
    if (session?.admin) return session;
    if (session) trouble = await form(root, frame, trouble);
    else {
      show(root, frame, "login.unreachable", null);
      await new Promise((later) => setTimeout(later, RETRY_SECONDS * 1000));
      trouble = "";
    }
  }
}

/** The code, which is not left in the address. */
function takeCode() {
  const code = /^#code=([\w.~-]+)$/.exec(location.hash)?.[1] ?? "";
  if (code) history.replaceState(null, "", location.pathname + location.search);
  return code;
}

/** @returns {Promise<Session | null>} null where there is no answer */
export async function read() {
  try {
    const answer = await fetch("session", { cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** The status of the answer; 0 for none. @param {{key: string} | {code: string}} proof */
async function post(proof) {
  try {
    const answer = await fetch("session", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(proof) });
    return answer.status;
  } catch {
    return 0;
  }
}

/** @param {number} status @param {"code" | "key"} by @returns {Key | ""} */
function troubleOf(status, by) {
  if (status >= 200 && status < 300) return "";
  if (status === 0) return "login.unreachable";
  if (by === "code") return "login.code";
  return status === 403 ? "login.scope" : "login.unknown";
}

/** Ask for the key once. @param {HTMLElement} root @param {Frame} frame @param {Key | ""} trouble @returns {Promise<Key | "">} what was wrong with it */
function form(root, frame, trouble) {
  return new Promise((answered) => {
    /** @param {SubmitEvent} event */
    const submit = async (event) => {
      event.preventDefault();
      const field = /** @type {HTMLInputElement} */ (root.querySelector("#key"));
      removeEventListener("languagechange", draw);
      answered(troubleOf(await post({ key: field.value.trim() }), "key"));
    };
    const draw = () => show(root, frame, trouble, submit);
    addEventListener("languagechange", draw);
    draw();
    /** @type {HTMLElement | null} */ (root.querySelector("#key"))?.focus();
  });
}

/** @param {HTMLElement} root @param {Frame} frame @param {Key | ""} trouble @param {((event: SubmitEvent) => void) | null} submit */
function show(root, frame, trouble, submit) {
  const { t, language } = frame.words;
  document.documentElement.lang = language;
  document.title = `${t("login.title")} – goss-supervisor`;
  render(root, h("main", { class: "login" },
    h("form", { onsubmit: submit },
      h("p", { class: "brand" }, h("img", { src: "static/icon.svg", alt: "", width: 32, height: 32 }), "goss-supervisor"),
      h("h1", null, t("login.title")),
      submit && h("p", null, t("login.why")),
      h("p", { role: "alert", class: "trouble", hidden: !trouble }, trouble && t(trouble)),
      submit && h("label", { for: "key" }, t("login.key")),
      submit && h("input", { id: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", "aria-invalid": trouble ? "true" : null }),
      submit && h("button", { class: "primary" }, t("login.submit")),
      frame.languageSwitch())));
}
