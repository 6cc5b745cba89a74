/** In place of llama-server's page while its model is not loaded; becomes that page once it is. */

import { TEXTS, Words, chosenLanguage } from "./words.js";

const words = new Words(chosenLanguage());
const { t } = words;
const state = /** @type {HTMLElement} */ (document.getElementById("state"));
const button = /** @type {HTMLElement} */ (document.getElementById("load"));

/** @param {string} id @param {string} text */
function put(id, text) {
  const place = document.getElementById(id);
  if (place) place.textContent = text;
}

/** The state in the language of the page, and why in the daemon's words. @param {{state: string, why?: string}} now */
function inWords(now) {
  const key = `state.${now.state}`;
  const name = words.language !== "en" && key in TEXTS ? t(/** @type {import("./words.js").Key} */ (key)) : now.state;
  return name + (now.why ? `: ${words.told(now.why).text}` : "");
}

async function look() {
  try {
    const now = await (await fetch("supervisor/ready")).json();
    if (now.state === "ready" || now.state === "degraded") location.reload();
    else state.textContent = inWords(now);
  } catch {
    state.textContent = t("asleep.silent");
  }
}

document.documentElement.lang = words.language;
put("load", t("asleep.load"));
put("others", t("asleep.others"));
put("all", t("asleep.all"));
button.addEventListener("click", async () => {
  const answer = await fetch("supervisor/load", { method: "POST" });
  if (!answer.ok) state.textContent = t("asleep.key");
});
setInterval(look, 1000);
