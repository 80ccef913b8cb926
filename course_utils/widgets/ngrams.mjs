// What counting reaches on a text: the lines that a model has to cross. Witten and Bell's rule, as
// lesson 1 builds it.

import { _ } from "./words.mjs";

const LONGEST = 5;
const NAMES = [_`uniform`, _`unigram`, _`bigram`, _`3-gram`, _`4-gram`, _`5-gram`];

/**
 * @param {Int32Array} train @param {Int32Array} held tokens @param {number} V the alphabet's size
 * @returns {{name: string, loss: number}[]} nats a character, over all of held but its first
 */
export function countedLines(train, held, V) {
  const p = new Float64Array(held.length).fill(1 / V);
  const lines = [{ name: NAMES[0], loss: Math.log(V) }];
  for (let n = 1; n <= LONGEST && V ** n < Number.MAX_SAFE_INTEGER; n++) {
    extend(p, count(train, n, V), held, n, V);
    let sum = 0;
    for (let t = 1; t < p.length; t++) sum -= Math.log(p[t]);
    lines.push({ name: NAMES[n], loss: sum / (p.length - 1) });
  }
  return lines;
}

/** Each n-gram as one number in base V, ending at `end`. */
function code(ids, end, n, V) {
  let number = 0;
  for (let t = end - n + 1; t <= end; t++) number = number * V + ids[t];
  return number;
}

/** How often each n-gram comes, and after each context: how many characters, how many different. */
function count(ids, n, V) {
  const grams = new Map();
  const contexts = new Map();
  for (let end = n - 1; end < ids.length; end++) {
    const gram = code(ids, end, n, V);
    const before = Math.floor(gram / V);
    const seen = grams.get(gram) ?? 0;
    grams.set(gram, seen + 1);
    let context = contexts.get(before);
    if (!context) contexts.set(before, (context = { total: 0, types: 0 }));
    context.total++;
    if (!seen) context.types++;
  }
  return { grams, contexts };
}

/** p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)), in place: p has those of shorter contexts. */
function extend(p, { grams, contexts }, ids, n, V) {
  for (let t = n - 1; t < ids.length; t++) {
    const gram = code(ids, t, n, V);
    const context = contexts.get(Math.floor(gram / V));
    if (!context) continue; // never seen: the shorter one must do
    const { total, types } = context;
    p[t] = ((grams.get(gram) ?? 0) + types * p[t]) / (total + types);
  }
}
