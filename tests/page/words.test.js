import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { TEXTS, Words } from "../../supervisor/gateway/pages/static/words.js";

const STATIC = new URL("../../supervisor/gateway/pages/static/", import.meta.url);
const scripts = readdirSync(STATIC).filter((each) => each.endsWith(".js") && each !== "words.js");
const source = scripts.map((each) => readFileSync(new URL(each, STATIC), "utf8")).join("\n");
const formats = readFileSync(new URL("words.js", STATIC), "utf8").replace(/TEXTS = \{[\s\S]*?\n\};/, "");
const named = (text) => [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((each) => each[1]))].sort();
const forms = (text) => (typeof text === "string" ? [text] : [text.one, text.other]);

test("every text is there in both languages, with the same values", () => {
  for (const [key, { en, ja }] of Object.entries(TEXTS)) {
    for (const text of [...forms(en), ...forms(ja)]) assert.ok(text.trim(), key);
    assert.deepEqual(named(forms(ja).join()), named(forms(en).join()), key);
    assert.equal(typeof ja, "string", `${key}: Japanese has no plural`);
    assert.match(forms(en).join(), /^[^\u3040-\u30ff\u4e00-\u9fff]*$/, `${key}: Japanese in the English text`);
  }
});

test("a text that counts is told what", () => {
  for (const [key, { en }] of Object.entries(TEXTS)) if (typeof en === "object") assert.ok(named(en.other).includes("n"), key);
});

test("every text is used", () => {
  const exact = new Set([...`${source}${formats}`.matchAll(/["'`]([a-z]+(?:\.[a-z_]+)+)["'`]/g)].map((each) => each[1]));
  const begins = [...`${source}${formats}`.matchAll(/`([a-z]+\.[a-z_.]*)\$\{/g)].map((each) => each[1]);
  const unused = Object.keys(TEXTS).filter((key) => !exact.has(key) && !begins.some((each) => key.startsWith(each)));
  assert.deepEqual(unused, []);
});

test("values are put in, numbers as the language writes them, and plurals chosen", () => {
  const { t } = new Words("en");
  assert.equal(t("now.tokens", { n: 1 }), "1 token");
  assert.equal(t("now.tokens", { n: 12345 }), "12,345 tokens");
  assert.equal(new Words("ja").t("now.tokens", { n: 12345 }), "12,345 トークン");
});

test("what a value says is not read again as a text with values", () => {
  assert.equal(new Words("en").t("frame.failed", { what: "{why}", why: "x" }), "{why}: x");
});

test("sizes and times are written as the commands write them", () => {
  const en = new Words("en");
  assert.deepEqual([0, 97 * 1024, 480 << 20, 36.2 * 2 ** 30, null].map((each) => en.size(each)), ["0 MiB", "97 KiB", "480 MiB", "36.2 GiB", "not known"]);
  assert.deepEqual([0.254, 4.2, 65, 3600, 93784, null].map((each) => en.duration(each)), ["0.25 s", "4.2 s", "1 min 5 s", "1 h", "1 d 2 h", "not known"]);
  assert.equal(new Words("ja").duration(93784), "1 日 2 時間");
  assert.equal(en.percent(0.42), "42%");
});

test("a time of another day has its date", () => {
  const at = new Date(2026, 10, 30, 14, 3, 27);
  const en = new Words("en");
  assert.equal(en.time(at.getTime() / 1000, at), "14:03:27");
  assert.match(en.time(at.getTime() / 1000, new Date(2026, 11, 1)), /Nov 30.*14:03:27/);
});

test("what the daemon says is Japanese where we know how, and else marked as English", () => {
  const ja = new Words("ja");
  assert.deepEqual(ja.told("unloaded for coder"), { text: "coder のためにアンロードしました", lang: "ja" });
  assert.deepEqual(ja.told("the disk is full"), { text: "the disk is full", lang: "en" });
  assert.equal(new Words("en").told("unloaded for coder").text, "unloaded for coder");
});
