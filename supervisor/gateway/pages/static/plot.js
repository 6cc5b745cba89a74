/**
 * Charts from values: bars are a table with a bar in each row, lines a picture with the same figures as a
 * table below it.  Both have the 95 % interval of each value, where there is one.
 *
 * A picture is stretched to the width that it has, and its texts are beside it in HTML, so that they stay as
 * large as all others on a phone; lines and dots keep their width (`vector-effect`).
 */

import { h } from "./dom.js";
import { fromZero } from "./scale.js";

/** @typedef {import("./dom.js").VNode} VNode */
/** @typedef {import("./scale.js").Axis} Axis */
/** @typedef {{value: number, low?: number | null, high?: number | null}} Figure */
/** @typedef {import("./dom.js").Children} Children */
/** @typedef {{label: string, head?: Children, figure: Figure | null, text: string, cells?: Children[], mark?: number}} Bar `head` is shown in place of `label` */
/** @typedef {Figure & {x: number}} Point */
/** @typedef {{label: string, points: (Point | null)[], mark?: number}} Line null is a gap; `mark` chooses colour and dashes in place of its number */
/** @typedef {{caption: string, headers: string[], rows: Children[][], texts?: number[]}} TableSpec `texts` are the columns that are no numbers */

const WIDTH = 1000; // of the picture's own coordinates
const HEIGHT = 300;
const WIDEST = 1.5; // times the highest value: an interval that is wider is cut off there
export const SERIES = 6; // colours and dashes; a seventh line has the first one's again

/**
 * A table whose rows have a bar each; `headers` are of the label, of the figure, and of the `cells` of a row.
 * @param {{caption: string, headers: string[], bars: Bar[], sum?: Bar, texts?: number[]}} spec `texts` are the columns that are no numbers
 * @returns {VNode}
 */
export function barTable({ caption, headers, bars, sum, texts = [] }) {
  const end = most(bars.flatMap((bar) => (bar.figure ? [bar.figure] : [])));
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: "data bars" },
      h("caption", null, caption),
      h("thead", null, h("tr", null, ...headers.map((each, place) => h("th", { scope: "col", class: place === 1 ? "bar-cell" : classOf(place, texts) }, each)))),
      h("tbody", null, bars.map((bar) => barRow(bar, end, texts))),
      sum && h("tfoot", null, barRow(sum, end, texts)),
    ),
  );
}

/** @param {Bar} bar @param {number} end @param {number[]} texts */
function barRow({ label, head, figure, text, cells = [], mark = 0 }, end, texts) {
  return h(
    "tr",
    { key: label },
    h("th", { scope: "row" }, head ?? label),
    h("td", { class: "bar-cell" }, h("span", { class: "bar-figure" }, text), barOf(figure, end, mark)),
    cells.map((cell, place) => h("td", { class: classOf(place + 2, texts) }, cell)),
  );
}

/** @param {number} column @param {number[]} texts */
function classOf(column, texts) {
  return column && !texts.includes(column) ? "num" : "";
}

/** Full up to the figure, with a thin line over its interval. @param {Figure | null} figure @param {number} end @param {number} mark */
function barOf(figure, end, mark) {
  if (!figure) return null;
  const at = (/** @type {number} */ value) => Math.min(100, Math.max(0, (100 * value) / end));
  const [low, high] = [at(figure.low ?? figure.value), at(figure.high ?? figure.value)];
  return h(
    "svg",
    { class: `bar-chart line-${1 + (mark % SERIES)}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("rect", { class: "bar-ground", width: 100, height: 10 }),
    h("rect", { class: "bar-fill", width: at(figure.value), height: 10 }),
    high > low && h("path", { class: "plot-interval", d: `M${low} 5H${high}M${low} 2V8M${high} 2V8` }),
  );
}

/**
 * @param {{
 *   title: string, summary: string, lines: Line[], x: Axis, most?: number, table: TableSpec, dots?: boolean,
 *   xLabel?: string, formatX: (value: number) => string, formatY: (value: number) => string, tableName: string,
 * }} spec `summary` is what a screen reader says of the picture; `tableName` is on what opens the table
 * @returns {VNode}
 */
export function lineChart({ title, summary, lines, x, most: top, table, dots = true, xLabel = "", formatX, formatY, tableName }) {
  const y = fromZero(top ?? most(lines.flatMap((line) => line.points.filter((each) => each !== null))));
  return h(
    "figure",
    { class: "plotted" },
    h("figcaption", null, title),
    h("ul", { class: "plot-legend small" }, lines.map((line, number) => h("li", { key: line.label }, swatch(line.mark ?? number), line.label))),
    h(
      "div",
      { class: "plot" },
      h("div", { class: "y-axis", "aria-hidden": "true" }, ...y.ticks.map(({ at, value }) => h("span", { style: { bottom: percent(at) } }, formatY(value)))),
      h(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}. ${summary}` },
        h("path", { class: "plot-grid", d: y.ticks.map(({ at }) => `M0 ${down(at)}H${WIDTH}`).join("") }),
        ...lines.map((line, number) => lineOf(line, line.mark ?? number, x, y, dots, (point) => `${line.label}: ${formatX(point.x)}, ${formatY(point.value)}`)),
      ),
      h("div", { class: "x-axis", "aria-hidden": "true" }, ...x.ticks.map(({ at, value }) => h("span", { style: { left: percent(at) } }, formatX(value)))),
    ),
    xLabel && h("p", { class: "x-label", "aria-hidden": "true" }, xLabel),
    h("details", { class: "plot-table" }, h("summary", null, tableName), plainTable(table)),
  );
}

/**
 * @param {Line} line
 * @param {number} number
 * @param {Axis} x
 * @param {Axis} y
 * @param {boolean} dots
 * @param {(point: Point) => string} words
 */
function lineOf(line, number, x, y, dots, words) {
  const place = (/** @type {Point} */ { x: at, value }) => `${across(x.share(at))} ${down(y.share(value))}`;
  const points = line.points.filter((each) => each !== null);
  const ends = points.filter(({ low, high }) => low !== undefined && low !== null && high !== undefined && high !== null);
  return h(
    "g",
    { key: line.label, class: `line-${1 + (number % SERIES)}` },
    h("path", { class: "plot-line", d: pathOf(line.points, place) }),
    ends.length > 0 &&
      h("path", {
        class: "plot-interval",
        d: ends.map((each) => `M${across(x.share(each.x))} ${down(y.share(each.low ?? 0))}V${down(y.share(each.high ?? 0))}`).join(""),
      }),
    ...(dots ? points.map((each) => h("path", { class: "plot-dot", d: `M${place(each)}h0` }, h("title", null, words(each)))) : []),
  );
}

/** @param {(Point | null)[]} points @param {(point: Point) => string} place */
export function pathOf(points, place) {
  let isDown = false;
  let path = "";
  for (const point of points) {
    if (point) path += `${isDown ? "L" : "M"}${place(point)}`;
    isDown = point !== null;
  }
  return path;
}

/** @param {TableSpec} table @returns {VNode} */
export function plainTable({ caption, headers, rows, texts = [] }) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: "data" },
      h("caption", { class: "hidden" }, caption),
      h("thead", null, h("tr", null, ...headers.map((each, place) => h("th", { scope: "col", class: classOf(place, texts) }, each)))),
      h("tbody", null, ...rows.map(([first, ...cells]) => h("tr", null, h("th", { scope: "row" }, first), cells.map((cell, place) => h("td", { class: classOf(place + 1, texts) }, cell))))),
    ),
  );
}

/** A short piece of the line itself. @param {number} number */
function swatch(number) {
  return h("svg", { class: `plot-swatch line-${1 + (number % SERIES)}`, viewBox: "0 0 24 8", "aria-hidden": "true" }, h("path", { class: "plot-line", d: "M0 4H24" }));
}

/** The upper end of what is drawn. @param {Figure[]} figures */
export function most(figures) {
  const highest = Math.max(0, ...figures.map((each) => each.value));
  return Math.max(highest, Math.min(highest * WIDEST, Math.max(0, ...figures.map((each) => each.high ?? 0)))) || 1;
}

/** @param {number} share */
function across(share) {
  return Math.round(share * WIDTH * 10) / 10;
}

/** @param {number} share */
function down(share) {
  return Math.round((1 - share) * HEIGHT * 10) / 10;
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(share * 1000) / 10}%`;
}
