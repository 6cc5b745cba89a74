import { h, render } from "./dom.js";

export const name = "now";

/** @param {HTMLElement} root @param {import("../types.js").App} app @returns {() => void} */
export function mount(root, app) {
  app.watch((state) => render(root, h("p", null, state.connection)));
  return () => undefined;
}
