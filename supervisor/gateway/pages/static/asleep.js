/** In place of llama-server's page while its model is not loaded; becomes that page once it is. */

const state = /** @type {HTMLElement} */ (document.getElementById("state"));
const button = /** @type {HTMLElement} */ (document.getElementById("load"));

async function look() {
  try {
    const now = await (await fetch("supervisor/ready")).json();
    if (now.state === "ready" || now.state === "degraded") location.reload();
    else state.textContent = now.state + (now.why ? `: ${now.why}` : "");
  } catch {
    state.textContent = "goss-supervisor does not answer.";
  }
}

button.addEventListener("click", async () => {
  const answer = await fetch("supervisor/load", { method: "POST" });
  if (!answer.ok) state.textContent = "This needs an administrator's key: goss-supervisor load does the same.";
});
setInterval(look, 1000);
