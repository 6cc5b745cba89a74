/**
 * Mistakes of a profile at the lines of its text.  Pure.
 */

/** @typedef {{line: number | null, column: number | null, severity: "error" | "warning", message: string, hint?: string}} Problem */

/**
 * Errors first, then by line; those without a line are about the whole.
 * @param {Problem[]} problems
 * @returns {Problem[]}
 */
export function sorted(problems) {
  return problems.toSorted(
    (one, other) => rank(one) - rank(other) || (one.line ?? 0) - (other.line ?? 0) || (one.column ?? 0) - (other.column ?? 0),
  );
}

/** @param {Problem} problem */
function rank({ severity }) {
  return severity === "error" ? 0 : 1;
}

/**
 * The worst severity at each line that has a problem.
 * @param {Problem[]} problems
 * @returns {Map<number, "error" | "warning">}
 */
export function severities(problems) {
  /** @type {Map<number, "error" | "warning">} */
  const found = new Map();
  for (const { line, severity } of problems) {
    if (line !== null && found.get(line) !== "error") found.set(line, severity);
  }
  return found;
}

/**
 * What to select in the text: from the column to the end of the line; an empty line gives an empty range.
 * @param {string} text
 * @param {Pick<Problem, "line" | "column">} problem
 * @returns {[number, number]}
 */
export function rangeOf(text, { line, column }) {
  const lines = text.split("\n");
  const number = Math.min(Math.max(1, line ?? 1), lines.length);
  const start = lines.slice(0, number - 1).reduce((sum, each) => sum + each.length + 1, 0);
  const length = lines[number - 1].length;
  return [start + Math.min(Math.max(0, (column ?? 1) - 1), length), start + length];
}

/** @param {string} text @returns {number} as an editor counts: an empty text has one */
export function countLines(text) {
  return text.split("\n").length;
}
