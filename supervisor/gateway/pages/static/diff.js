/**
 * What an edit changed, line by line.  Pure.
 */

/** @typedef {{kind: "same" | "removed" | "added", text: string, before: number, after: number}} DiffLine numbers from 1; 0: not there */
/** @typedef {{kind: "gap", lines: number}} Gap lines that are the same, and left out */

const MOST_CELLS = 4_000_000; // of the table below: 2,000 lines against 2,000

/**
 * All lines of both, in their order; what was removed is before what was added in its place.
 * @param {string} before
 * @param {string} after
 * @returns {DiffLine[]}
 */
export function diff(before, after) {
  const [old, now] = [linesOf(before), linesOf(after)];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let end = 0;
  while (end < old.length - start && end < now.length - start && old[old.length - 1 - end] === now[now.length - 1 - end]) end++;
  const kept = common(old.slice(start, old.length - end), now.slice(start, now.length - end));
  const pairs = [
    ...Array.from({ length: start }, (_, line) => [line, line]),
    ...kept.map(([one, other]) => [one + start, other + start]),
    ...Array.from({ length: end }, (_, line) => [old.length - end + line, now.length - end + line]),
    [old.length, now.length],
  ];
  /** @type {DiffLine[]} */
  const found = [];
  let [one, other] = [0, 0];
  for (const [toOne, toOther] of pairs) {
    for (; one < toOne; one++) found.push({ kind: "removed", text: old[one], before: one + 1, after: 0 });
    for (; other < toOther; other++) found.push({ kind: "added", text: now[other], before: 0, after: other + 1 });
    if (one < old.length && other < now.length) found.push({ kind: "same", text: old[one], before: ++one, after: ++other });
  }
  return found;
}

/**
 * The changes with `around` lines before and after each; the rest as gaps.  Empty: nothing changed.
 * @param {DiffLine[]} lines
 * @param {number} [around]
 * @returns {(DiffLine | Gap)[]}
 */
export function inShort(lines, around = 3) {
  const near = new Set();
  lines.forEach((line, place) => {
    if (line.kind === "same") return;
    for (let each = place - around; each <= place + around; each++) near.add(each);
  });
  /** @type {(DiffLine | Gap)[]} */
  const shown = [];
  let left = 0;
  lines.forEach((line, place) => {
    if (near.has(place)) {
      if (left) shown.push({ kind: "gap", lines: left });
      shown.push(line);
      left = 0;
    } else {
      left += 1;
    }
  });
  if (left && shown.length) shown.push({ kind: "gap", lines: left });
  return shown;
}

/** @param {string} text @returns {string[]} */
function linesOf(text) {
  const lines = text.replace(/\r\n/g, "\n").split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/**
 * Pairs of the places of lines that stay: the longest common subsequence, or none where that takes too long.
 * @param {string[]} old
 * @param {string[]} now
 * @returns {[number, number][]}
 */
function common(old, now) {
  if (!old.length || !now.length || old.length * now.length > MOST_CELLS) return [];
  const width = now.length + 1;
  const longest = new Uint32Array((old.length + 1) * width);
  for (let one = old.length - 1; one >= 0; one--) {
    for (let other = now.length - 1; other >= 0; other--) {
      longest[one * width + other] =
        old[one] === now[other]
          ? longest[(one + 1) * width + other + 1] + 1
          : Math.max(longest[(one + 1) * width + other], longest[one * width + other + 1]);
    }
  }
  /** @type {[number, number][]} */
  const pairs = [];
  for (let one = 0, other = 0; one < old.length && other < now.length; ) {
    if (old[one] === now[other]) pairs.push([one++, other++]);
    else if (longest[(one + 1) * width + other] >= longest[one * width + other + 1]) one++;
    else other++;
  }
  return pairs;
}
