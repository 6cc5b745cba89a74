/**
 * Elements from values: a view says what it wants to see, and `render` changes what is different.
 *
 * Texts become text nodes and attributes are set by name, so nothing that a server, a log or a client says can
 * become markup.  An element stays the same as long as its tag and its `key` do: it keeps its focus, its
 * scroll position and what a person has selected in it.
 */

/** @typedef {string | number | null | undefined | false | VNode} Child */
/** @typedef {Child | Child[]} Children */
/**
 * `key` names a child among its siblings.  `on…` are listeners, `style` an object of CSS properties, `ref` is
 * called once with the new element; `value`, `checked` and the like are set as properties, all others as
 * attributes: true is the empty one; false, null and undefined are none.
 * @typedef {Record<string, any>} Props
 */
/** @typedef {{tag: string, props: Props, children: (VNode | string)[], node: Node | null}} VNode */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "selected", "disabled", "indeterminate", "scrollTop"]);
const URLS = new Set(["href", "src", "action", "formaction"]);

/**
 * One element.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Children} children
 * @returns {VNode}
 */
export function h(tag, props, ...children) {
  /** @type {(VNode | string)[]} */
  const shown = [];
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    shown.push(typeof child === "object" ? child : String(child));
  }
  return { tag, props: props ?? {}, children: shown, node: null };
}

/** @type {WeakMap<Element, (VNode | string)[]>} */
const rendered = new WeakMap();

/**
 * Make these the children of `root`.  A VNode that was rendered there before and is the same object is not
 * looked at again: a list of a thousand rows keeps the rows that it has made.
 * @param {Element} root
 * @param {...Children} children
 */
export function render(root, ...children) {
  const wanted = h("", null, ...children).children;
  patchChildren(root, rendered.get(root) ?? [], wanted, root.namespaceURI === SVG);
  rendered.set(root, wanted);
}

/**
 * @param {Element} parent
 * @param {(VNode | string)[]} before
 * @param {(VNode | string)[]} after
 * @param {boolean} isSvg
 */
function patchChildren(parent, before, after, isSvg) {
  const kept = match(before, after);
  const nodes = before.map((_, place) => parent.childNodes[place]);
  const used = new Set(kept);
  nodes.forEach((node, place) => used.has(place) || node.remove());
  let cursor = parent.firstChild;
  after.forEach((child, place) => {
    const old = kept[place];
    const node = old < 0 ? create(child, isSvg) : nodes[old];
    if (old >= 0) patch(node, before[old], child, isSvg);
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  });
}

/**
 * For each child its place before, or -1.
 * @param {(VNode | string)[]} before
 * @param {(VNode | string)[]} after
 * @returns {number[]}
 */
function match(before, after) {
  /** @type {Map<string, number[]>} */
  const free = new Map();
  before.forEach((child, place) => {
    const name = nameOf(child);
    const places = free.get(name);
    if (places) places.push(place);
    else free.set(name, [place]);
  });
  for (const places of free.values()) places.reverse();
  return after.map((child) => free.get(nameOf(child))?.pop() ?? -1);
}

/** @param {VNode | string} child */
function nameOf(child) {
  return typeof child === "string" ? "#text" : `${child.tag} ${child.props.key ?? ""}`;
}

/**
 * @param {VNode | string} child
 * @param {boolean} isSvg
 * @returns {Node}
 */
function create(child, isSvg) {
  if (typeof child === "string") return document.createTextNode(child);
  const inSvg = isSvg || child.tag === "svg";
  const made = inSvg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  patchChildren(made, [], child.children, inSvg);
  for (const name of Object.keys(child.props)) set(made, name, child.props[name], undefined);
  child.node = made;
  child.props.ref?.(made);
  return made;
}

/**
 * @param {Node} node
 * @param {VNode | string} before
 * @param {VNode | string} after
 * @param {boolean} isSvg
 */
function patch(node, before, after, isSvg) {
  if (before === after) return;
  if (typeof before === "string" || typeof after === "string") {
    node.nodeValue = /** @type {string} */ (after);
    return;
  }
  const element = /** @type {Element} */ (node);
  patchChildren(element, before.children, after.children, isSvg || after.tag === "svg");
  for (const name of Object.keys(before.props)) {
    if (!(name in after.props)) set(element, name, undefined, before.props[name]);
  }
  for (const name of Object.keys(after.props)) set(element, name, after.props[name], before.props[name]);
  after.node = element;
}

/**
 * @param {any} element
 * @param {string} name
 * @param {any} value
 * @param {any} before
 */
function set(element, name, value, before) {
  if (name === "key" || name === "ref") return;
  if (PROPERTIES.has(name)) {
    if (element[name] !== (value ?? "")) element[name] = value ?? "";
  } else if (value === before) {
    return;
  } else if (name.startsWith("on")) {
    element[name] = typeof value === "function" ? value : null;
  } else if (name === "style") {
    for (const property of Object.keys(before ?? {})) if (!(property in (value ?? {}))) element.style.removeProperty(property);
    for (const property of Object.keys(value ?? {})) element.style.setProperty(property, value[property]);
  } else if (value === false || value === null || value === undefined) {
    element.removeAttribute(name);
  } else if (!URLS.has(name) || isSafe(String(value))) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Whether a link leads to a page, and runs nothing. @param {string} url */
function isSafe(url) {
  return /^(?:https?:|data:image\/svg|[^:]*$|[^:]*[/?#])/i.test(url);
}

/** A text with what was searched for marked in it. @param {string} text @param {string} wanted lower case @returns {Children} */
export function marked(text, wanted) {
  if (!wanted) return text;
  /** @type {Child[]} */
  const parts = [];
  const low = text.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, from)) {
    parts.push(text.slice(from, at), h("mark", null, text.slice(at, at + wanted.length)));
    from = at + wanted.length;
  }
  return [...parts, text.slice(from)];
}
