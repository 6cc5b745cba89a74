import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

/** The little of a document that `render` needs, as trees that can be compared. */
class FakeNode {
  constructor(name, value = "") {
    Object.assign(this, { name, nodeValue: value, childNodes: [], parent: null, attributes: {}, properties: {}, style: { removeProperty: (each) => delete this.style[each], setProperty: (each, to) => (this.style[each] = to) } });
  }
  get firstChild() {
    return this.childNodes[0] ?? null;
  }
  get nextSibling() {
    return this.parent?.childNodes[this.parent.childNodes.indexOf(this) + 1] ?? null;
  }
  remove() {
    this.parent.childNodes.splice(this.parent.childNodes.indexOf(this), 1);
    this.parent = null;
  }
  insertBefore(node, before) {
    if (node.parent) node.remove();
    this.childNodes.splice(before ? this.childNodes.indexOf(before) : this.childNodes.length, 0, node);
    node.parent = this;
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  removeAttribute(name) {
    delete this.attributes[name];
  }
  set innerHTML(_) {
    throw new Error("never");
  }
}
globalThis.document = {
  createTextNode: (text) => new FakeNode("#text", text),
  createElement: (tag) => new FakeNode(tag),
  createElementNS: (_, tag) => new FakeNode(`svg:${tag}`),
};
const { h, marked, render } = await import("../../supervisor/gateway/pages/static/dom.js");

let root;
beforeEach(() => (root = new FakeNode("root")));
const texts = (node = root) => (node.name === "#text" ? node.nodeValue : node.childNodes.map(texts).join(""));
const items = (...keys) => h("ul", null, keys.map((key) => h("li", { key }, key)));

test("a child with a key stays the same element, wherever it goes", () => {
  render(root, items("a", "b", "c"));
  const [a, b, c] = root.childNodes[0].childNodes;
  render(root, items("n", "c", "a"));
  const after = root.childNodes[0].childNodes;
  assert.equal(texts(), "nca");
  assert.deepEqual([after[1] === c, after[2] === a, after.includes(b)], [true, true, false]);
});

test("any list becomes any other", () => {
  const letters = ["a", "b", "c", "d", "e"];
  let seed = 7;
  const dice = (most) => (seed = (seed * 16807) % 2147483647) % most;
  for (let turn = 0; turn < 300; turn++) {
    const wanted = letters.filter(() => dice(3)).sort(() => dice(3) - 1);
    render(root, "x", items(...wanted), dice(2) && h("p", null, "p"));
    assert.deepEqual(root.childNodes[1].childNodes.map((each) => texts(each)), wanted);
  }
});

test("what is not shown is not there: null, undefined and false, but 0 is", () => {
  render(root, h("p", null, null, undefined, false, 0, ["a", false]));
  assert.equal(texts(), "0a");
});

test("a text is a text, whatever it looks like", () => {
  render(root, h("p", null, "<img src=x onerror=alert(1)>"));
  assert.deepEqual(root.childNodes[0].childNodes.map((each) => each.name), ["#text"]);
});

test("attributes come and go, properties are set as such, listeners are functions or nothing", () => {
  const listener = () => undefined;
  render(root, h("input", { class: "a", hidden: true, value: "v", disabled: true, onclick: listener }));
  const [input] = root.childNodes;
  assert.deepEqual([input.attributes, input.value, input.disabled, input.onclick], [{ class: "a", hidden: "" }, "v", true, listener]);
  render(root, h("input", { class: null, onclick: "alert(1)" }));
  assert.deepEqual([root.childNodes[0] === input, input.attributes, input.value, Boolean(input.disabled), input.onclick], [true, {}, "", false, null]);
});

test("what somebody has typed stays where the view says nothing of it", () => {
  render(root, h("input", { class: "a" }));
  root.childNodes[0].value = "typed";
  render(root, h("input", { class: "b" }));
  assert.equal(root.childNodes[0].value, "typed");
});

test("a link that would run something is no link", () => {
  const urls = ["javascript:alert(1)", " javascript:alert(1)", "JAVASCRIPT:x", "java\nscript:alert(1)", "vbscript:x", "data:text/html,x", "#now", "../?model=a:b", "https://example.org/", "static/icon.svg"];
  render(root, urls.map((href, key) => h("a", { href, key })));
  assert.deepEqual(root.childNodes.map((each) => "href" in each.attributes), [false, false, false, false, false, false, true, true, true, true]);
});

test("what is below svg is SVG", () => {
  render(root, h("svg", null, h("path", { d: "M0 0" })), h("p", null));
  assert.deepEqual([root.childNodes[0].name, root.childNodes[0].childNodes[0].name, root.childNodes[1].name], ["svg:svg", "svg:path", "p"]);
});

test("a row that was made before is not made again", () => {
  let made = 0;
  const row = h("li", { key: 1, ref: () => made++ }, "a");
  render(root, h("ul", null, row));
  render(root, h("ul", null, h("li", { key: 2 }, "b"), row));
  assert.deepEqual([made, texts()], [1, "ba"]);
});

test("what was searched for is marked, and the text stays whole", () => {
  render(root, h("p", null, marked("A llama, a LLAMA", "llama")));
  assert.deepEqual(root.childNodes[0].childNodes.map((each) => [each.name, texts(each)]), [["#text", "A "], ["mark", "llama"], ["#text", ", a "], ["mark", "LLAMA"], ["#text", ""]]);
  render(root, h("p", null, marked("whole", "")));
  assert.equal(texts(), "whole");
});
