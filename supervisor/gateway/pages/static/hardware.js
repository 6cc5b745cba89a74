/** What this machine is, what of it is used now, and how that was in the last hour. */

import { h, render } from "./dom.js";
import { lineChart } from "./plot.js";
import { Reading, fact, shown } from "./readings.js";
import { ofTime } from "./scale.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Sample} Sample */
/** @typedef {Sample["devices"][0]} Device */
/** @typedef {import("./dom.js").VNode} VNode */
/** @typedef {"load" | "temperature" | "power" | "memory"} Metric */

export const name = "hardware";

const MINUTES = [5, 15, 60];
const GAP_SECONDS = 20; // samples come every 5 s; nobody looked in between

/** @type {Record<Metric, {of: (device: Device) => number | null, most?: number}>} */
const METRICS = {
  load: { of: (device) => device.load_percent, most: 100 },
  memory: { of: ({ memory_used_bytes: used, memory_total_bytes: all }) => (used === null || !all ? null : (100 * used) / all), most: 100 },
  temperature: { of: (device) => device.temperature_c },
  power: { of: (device) => device.power_watts },
};

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const detected = /** @type {Reading<any>} */ (new Reading(() => app.redraw()));
  let minutes = 15;
  /** @type {{samples: Sample[], minutes: number, charts: VNode[]}} */
  let drawn = { samples: [], minutes: 0, charts: [] };
  const chartsOf = (/** @type {Sample[]} */ samples) => {
    if (drawn.samples !== samples || drawn.minutes !== minutes) {
      drawn = { samples, minutes, charts: /** @type {Metric[]} */ (Object.keys(METRICS)).map((metric) => chart(app, metric, recent(samples, minutes), minutes)) };
    }
    return drawn.charts;
  };
  void detected.read("detect");
  app.watch((state) =>
    render(
      root,
      h("section", null, nowTable(app, state.hardware.at(-1))),
      h("section", { class: "section" },
        h("div", { class: "toolbar" },
          h("h2", null, app.t("hardware.over_time")),
          h("div", { class: "buttons", role: "group", "aria-label": app.t("hardware.span") },
            MINUTES.map((each) => h("button", { key: each, type: "button", "aria-pressed": String(each === minutes), onclick: () => { minutes = each; app.redraw(); } }, app.t("hardware.minutes", { n: each }))))),
        state.hardware.length ? h("div", { class: "charts" }, chartsOf(state.hardware)) : null),
      h("section", { class: "section" },
        h("div", { class: "toolbar" }, h("h2", null, app.t("hardware.detected")),
          h("button", { type: "button", disabled: detected.isUnderWay, onclick: () => void detected.read("detect") }, app.t("hardware.again"))),
        shown(app, detected, (found) => machine(app, found))),
    ),
  );
  return () => detected.stop();
}

/** Those of the last minutes. @param {Sample[]} samples @param {number} minutes */
export function recent(samples, minutes) {
  const from = (samples.at(-1)?.at ?? 0) - minutes * 60;
  return samples.filter((each) => each.at >= from);
}

// --- now

/** @param {App} app @param {Sample | undefined} sample */
function nowTable(app, sample) {
  const { t, words } = app;
  if (!sample) return h("p", { class: "empty", role: "status" }, t("hardware.no_sample"));
  const headers = ["device", "load", "temperature", "power", "memory", "fan", "clock"];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("hardware.now") },
    h("table", { class: "data" },
      h("caption", null, t("hardware.now_at", { time: words.time(sample.at) })),
      h("thead", null, h("tr", null, headers.map((each, place) => h("th", { scope: "col", class: place ? "num" : "" }, t(/** @type {any} */ (`hardware.${each}`)))))),
      h("tbody", null, sample.devices.map((device) =>
        h("tr", { key: device.device },
          h("th", { scope: "row" }, device.device, device.name && device.name !== device.device && h("span", { class: "device-name" }, device.name), device.why && h("span", { class: "why", lang: "en" }, device.why)),
          figuresOf(app, device).map((cell) => h("td", { class: "num" }, cell)))))));
}

/** In the order of the headers; a dash where the device has no such thing. @param {App} app @param {Device} device */
function figuresOf(app, device) {
  const { words } = app;
  const isMemory = device.device === "RAM";
  const isProcessor = device.device === "CPU";
  return [
    isMemory ? "–" : figure(app, device.load_percent, (value) => words.percent(value / 100)),
    isMemory ? "–" : figure(app, device.temperature_c, (value) => `${words.number(value)} °C`),
    isMemory ? "–" : power(app, device),
    isProcessor ? "–" : memory(app, device),
    isMemory || isProcessor ? "–" : figure(app, device.fan_percent, (value) => words.percent(value / 100)),
    isMemory ? "–" : figure(app, device.clock_mhz, (value) => `${words.number(value)} MHz`),
  ];
}

/** @param {App} app @param {number | null} value @param {(value: number) => string} format */
function figure(app, value, format) {
  return value === null || value === undefined ? h("span", { class: "muted" }, app.t("frame.unknown")) : format(value);
}

/** @param {App} app @param {Device} device */
function power(app, { power_watts: now, power_limit_watts: limit }) {
  const words = (/** @type {number} */ value) => `${app.words.number(value)} W`;
  return figure(app, now, (value) => (limit ? app.t("hardware.of", { used: words(value), all: words(limit) }) : words(value)));
}

/** @param {App} app @param {Device} device */
function memory(app, { memory_used_bytes: used, memory_total_bytes: total }) {
  return figure(app, used, (value) => (total ? app.t("hardware.of", { used: app.words.size(value), all: app.words.size(total) }) : app.words.size(value)));
}

// --- over time

/**
 * A line for each device; a break where nobody looked or nothing could be read.
 * @param {Metric} metric
 * @param {Sample[]} samples
 */
export function linesOf(metric, samples) {
  const names = [...new Set(samples.flatMap((each) => each.devices.map((device) => device.device)))];
  const lines = names.map((label, mark) => {
    /** @type {({x: number, value: number} | null)[]} */
    const points = [];
    let before = samples[0]?.at ?? 0;
    for (const { at, devices } of samples) {
      const device = devices.find((each) => each.device === label);
      const value = device ? METRICS[metric].of(device) : null;
      if (at - before > GAP_SECONDS) points.push(null);
      points.push(value === null || value === undefined ? null : { x: at, value });
      before = at;
    }
    return { label, points, mark };
  });
  return lines.filter((line) => line.points.some((each) => each));
}

/** The reasons of the devices of which this cannot be read, each once. @param {Metric} metric @param {Sample[]} samples */
export function reasons(metric, samples) {
  const devices = (samples.at(-1)?.devices ?? []).filter((device) => METRICS[metric].of(device) === null && device.why);
  return [...new Set(devices.map((device) => `${device.device}: ${device.why}`))];
}

/** @param {App} app @param {Metric} metric @param {Sample[]} samples @param {number} minutes @returns {VNode} */
function chart(app, metric, samples, minutes) {
  const { t, words } = app;
  const lines = linesOf(metric, samples);
  const title = t(metric === "memory" ? "hardware.memory_share" : `hardware.${metric}`);
  const until = samples.at(-1)?.at ?? 0;
  if (!lines.length) {
    return h("figure", { class: "plotted", key: metric }, h("figcaption", null, title), h("p", { class: "empty" }, t("frame.unknown")),
      reasons(metric, samples).map((why) => h("p", { class: "why", lang: "en" }, why)));
  }
  const unit = t(`hardware.unit.${metric}`);
  const format = (/** @type {number} */ value) => `${words.number(value)} ${unit}`;
  const rows = lines.map(({ label, points }) => {
    const values = points.flatMap((each) => (each ? [each.value] : []));
    return [label, values.at(-1) ?? 0, Math.min(...values), values.reduce((sum, each) => sum + each, 0) / values.length, Math.max(...values)].map(
      (cell) => (typeof cell === "number" ? format(cell) : cell));
  });
  return h("div", { key: metric }, lineChart({
    title,
    summary: rows.map(([label, last, low, , high]) => t("hardware.summary", { device: label, now: last, low, high })).join(" "),
    lines,
    x: ofTime(until - minutes * 60, until),
    most: METRICS[metric].most,
    dots: false,
    formatX: (at) => new Intl.DateTimeFormat(words.language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(new Date(at * 1000)),
    formatY: format,
    table: { caption: title, headers: ["device", "last", "lowest", "average", "highest"].map((each) => t(/** @type {any} */ (`hardware.${each}`))), rows },
    tableName: t("chart.table"),
  }));
}

// --- what detect says

/** @param {App} app @param {any} found */
function machine(app, found) {
  const { t, words } = app;
  const cores = found.cpu.threads ? t("hardware.cores", { cores: found.cpu.cores ?? "?", threads: found.cpu.threads }) : "";
  const profiles = found.profiles ?? {};
  return [
    h("div", { class: "cards" },
      h("div", { class: "card" }, h("h3", null, t("hardware.machine")),
        h("dl", { class: "facts" },
          fact(t("hardware.system"), [found.os_name || found.os, found.arch].filter(Boolean).join(", ")),
          fact(t("hardware.environment"), found.environment),
          fact(t("hardware.kernel"), found.kernel),
          fact(t("hardware.cpu"), [found.cpu.name || t("frame.unknown"), cores].filter(Boolean).join(", ")),
          found.cpu.features?.length > 0 && fact(t("hardware.features"), h("code", null, found.cpu.features.join(" "))),
          fact(t("hardware.ram"), t("hardware.free_of", { free: words.size(found.available_bytes), all: words.size(found.ram_bytes) })),
          fact(t("hardware.disk"), words.size(found.disk_free_bytes)))),
      found.gpus.length === 0 && h("div", { class: "card" }, h("h3", null, t("hardware.gpus")), h("p", { class: "muted" }, t("hardware.no_gpu"))),
      found.gpus.map((/** @type {any} */ gpu, /** @type {number} */ place) => gpuCard(app, gpu, place)),
      h("div", { class: "card" }, h("h3", null, t("hardware.profiles")),
        h("dl", { class: "facts" },
          profiles.best && fact(t("hardware.best"), [h("a", { href: `#profiles/${profiles.best.name}` }, profiles.best.name), h("span", { class: "why", lang: "en" }, profiles.best.reason)]),
          profiles.default && profiles.default.name !== profiles.best?.name && fact(t("hardware.default"), [h("a", { href: `#profiles/${profiles.default.name}` }, profiles.default.name), h("span", { class: "why", lang: "en" }, profiles.default.reason)]),
          (profiles.others ?? []).flatMap((/** @type {any} */ each) => fact(h("a", { href: `#profiles/${each.name}` }, each.name), h("span", { class: "why", lang: "en" }, each.reason)))),
        (profiles.unfit ?? []).length > 0 && h("details", null, h("summary", null, t("hardware.unfit", { n: profiles.unfit.length })),
          h("dl", { class: "facts" }, profiles.unfit.flatMap((/** @type {any} */ each) => fact(each.name, h("span", { class: "why", lang: "en" }, each.reasons.join("; ")))))))),
    found.notes.length > 0 && h("ul", { class: "notes" }, found.notes.map((/** @type {string} */ note) => h("li", { lang: "en" }, note))),
  ];
}

/** @param {App} app @param {any} gpu @param {number} place */
function gpuCard({ t, words }, gpu, place) {
  const own = gpu.memory_bytes === null ? null : gpu.memory_bytes - (gpu.shared_bytes ?? 0);
  const kind = gpu.integrated === null ? "" : t(gpu.integrated ? "hardware.integrated" : "hardware.discrete");
  const blocked = (gpu.nodes ?? []).filter((/** @type {any} */ node) => !node.may_open).map((/** @type {any} */ node) => node.path);
  return h("div", { class: "card", key: `gpu ${place}` }, h("h3", null, gpu.name || gpu.device_id || gpu.vendor),
    h("dl", { class: "facts" },
      fact(t("hardware.kind"), [gpu.vendor, kind].filter(Boolean).join(", ")),
      fact(t("hardware.gpu_memory"), gpu.unified ? t("hardware.unified", { size: words.size(gpu.memory_bytes) }) : words.size(own)),
      gpu.shared_bytes > 0 && !gpu.unified && fact(t("hardware.shared"), words.size(gpu.shared_bytes)),
      fact(t("hardware.free"), words.size(gpu.free_bytes)),
      fact(t("hardware.driver"), [gpu.driver, gpu.cuda && `CUDA ${gpu.cuda}`].filter(Boolean).join(", ") || t("frame.unknown")),
      fact(t("hardware.architecture"), gpu.architecture),
      fact(t("hardware.link"), linkWords(gpu.link)),
      fact(t("hardware.pci"), gpu.pci),
      fact(t("hardware.sources"), (gpu.sources ?? []).join(", "))),
    blocked.length > 0 && h("p", { class: "caution" }, t("hardware.no_access", { files: blocked.join(", ") })));
}

/** `x4 of x16, 16 GT/s`. @param {any} link */
export function linkWords(link) {
  if (!link || link.width === null) return "";
  const width = link.max_width && link.max_width !== link.width ? `x${link.width} / x${link.max_width}` : `x${link.width}`;
  return link.max_speed_gts ? `${width}, ${link.max_speed_gts} GT/s` : width;
}
