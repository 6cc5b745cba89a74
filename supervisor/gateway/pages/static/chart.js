/**
 * Line charts as SVG, as wide as the place that they get.  The picture is stretched, so texts stand outside.
 */

import { h } from "./dom.js";

/** @typedef {[number, number | null]} Point x, and y or null for a gap */
/** @typedef {{name: string, colour?: number, points: Point[], dots?: boolean, now?: string}} Series `colour` is 1 to 6; `now` is told in the legend */
/**
 * @typedef {{
 *   title: string, note?: string, series: Series[], from: number, to: number, top?: number,
 *   y: (value: number) => string, x: (value: number) => string, empty?: string,
 * }} Chart `top` is the least that the scale reaches
 */

const WIDTH = 1000;
const HEIGHT = 100;
export const COLOURS = 6;

/**
 * A figure with a caption, a legend, and a sentence for those who do not see it.
 * @param {Chart} chart
 */
export function lineChart({ title, note = "", series, from, to, top = 0, y, x, empty = "" }) {
  const values = series.flatMap((each) => each.points.map(([, value]) => value ?? 0));
  const scale = niceTop(Math.max(top, ...values));
  const nothing = !series.some((each) => each.points.some(([, value]) => value !== null));
  const lines = series.flatMap((each, place) => strokes(each, place, from, to, scale));
  const told = series.map((each) => [each.name, each.now].filter(Boolean).join(" ")).join(", ");
  return h("figure", { class: "chart", key: title },
    h("figcaption", null, h("span", { class: "chart-title" }, title), note && h("span", { class: "muted small" }, note)),
    h("div", { class: "chart-plot" },
      h("span", { class: "chart-y", "aria-hidden": "true" }, nothing ? "" : y(scale)),
      h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${nothing ? empty : told}` },
        [0.25, 0.5, 0.75].map((part) => h("line", { class: "chart-grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
        lines),
      nothing && h("p", { class: "chart-empty muted small", "aria-hidden": "true" }, empty)),
    h("p", { class: "chart-x muted small", "aria-hidden": "true" }, h("span", null, x(from)), h("span", null, x(to))),
    series.length > 0 && h("ul", { class: "chart-legend small", "aria-hidden": "true" }, series.map((each, place) =>
      h("li", null, swatch(each.colour ?? place + 1, each.dots), each.name, each.now && h("b", null, ` ${each.now}`)))));
}

/** A sample of a series' line. @param {number} colour @param {boolean} [dots] */
export function swatch(colour, dots = false) {
  return h("svg", { class: `chart-swatch line-${colour}`, viewBox: "0 0 20 10", width: 20, height: 10, "aria-hidden": "true" },
    h("path", { class: dots ? "chart-dots" : "chart-line", d: dots ? "M10 5h0" : "M0 5H20" }));
}

/** @param {Series} series @param {number} place @param {number} from @param {number} to @param {number} scale */
function strokes({ points, colour, dots }, place, from, to, scale) {
  const path = pathOf(points, from, to, scale, dots);
  return path ? [h("path", { class: `${dots ? "chart-dots" : "chart-line"} line-${colour ?? place + 1}`, d: path })] : [];
}

/**
 * @param {Point[]} points
 * @param {number} from
 * @param {number} to
 * @param {number} scale
 * @param {boolean} [dots]
 */
export function pathOf(points, from, to, scale, dots = false) {
  let path = "";
  let isOn = false;
  for (const [at, value] of points) {
    if (value === null || at < from || at > to) {
      isOn = false;
      continue;
    }
    const place = `${round(((at - from) / (to - from || 1)) * WIDTH)} ${round(HEIGHT - (value / scale) * HEIGHT)}`;
    path += dots ? `M${place}h0` : `${isOn ? "L" : "M"}${place}`;
    isOn = true;
  }
  return path;
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

/** The next of 1, 2, 5, 10, 20 … that is not smaller. @param {number} value */
export function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((each) => each * power >= value * 0.999) ?? 10) * power;
}
