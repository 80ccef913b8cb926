// The sampling rule, as lesson 6's filter_logits and window_start have it: the same code draws in a
// notebook and on the page, whoever works out the logits.

import { _ } from "./words.mjs";

export const [KEPT, CUT_BY_K, CUT_BY_P, CUT_BY_TEMPERATURE] = [0, 1, 2, 3]; // a token's fate
export const LARGEST_SEED = 999999;

/**
 * @typedef {object} Settings
 * @property {number} temperature at least 0; 0 is greedy
 * @property {number|null} topK a whole number of at least 1; null: off
 * @property {number|null} topP in (0, 1]; null: off
 * @property {number} seed a whole number from 0 to LARGEST_SEED
 */

/**
 * What is allowed, as one sentence, for settings that mean nothing; else "".
 * @param {Settings} settings
 */
export function wrongSettings({ temperature, topK, topP, seed }) {
  if (!(temperature >= 0 && temperature < Infinity)) {
    return _`The temperature must be at least 0 (0 is greedy).`;
  }
  if (topK !== null && !(Number.isInteger(topK) && topK >= 1)) {
    return _`Top-k must be a whole number of at least 1.`;
  }
  if (topP !== null && !(topP > 0 && topP <= 1)) {
    return _`Top-p must lie above 0 and be at most 1.`;
  }
  if (!(Number.isInteger(seed) && seed >= 0 && seed <= LARGEST_SEED)) {
    return _`The seed must be a whole number from 0 to ${LARGEST_SEED}.`;
  }
  return "";
}

/**
 * @param {ArrayLike<number>} logits
 * @param {object} [p] an array for the probabilities, the logits' own too
 * @returns {object} p; -Infinity becomes 0
 */
export function softmax(logits, p = new Float64Array(logits.length)) {
  const top = highest(logits);
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    p[i] = Math.exp(logits[i] - top);
    sum += p[i];
  }
  for (let i = 0; i < p.length; i++) p[i] /= sum;
  return p;
}

/** The largest number. A loop, because Math.max(...) has a limit. */
function highest(numbers) {
  let top = -Infinity;
  for (let i = 0; i < numbers.length; i++) if (numbers[i] > top) top = numbers[i];
  return top;
}

/**
 * Temperature, then top-k, then top-p over what is left. Ties with the k-th stay; top-p keeps the
 * smallest set whose mass reaches p, at least one; of equals at that border the later in the
 * alphabet stays.
 * @param {ArrayLike<number>} logits (V,) @param {Settings} settings
 * @returns {{p: Float64Array, fate: Uint8Array}} the probabilities after; KEPT, or what cut it
 */
export function filter(logits, { temperature, topK, topP }) {
  const V = logits.length;
  const top = highest(logits);
  const fate = new Uint8Array(V); // KEPT
  if (temperature === 0) {
    fate.fill(CUT_BY_TEMPERATURE);
    fate[Array.prototype.indexOf.call(logits, top)] = KEPT; // the first of the best, alone
    return { p: Float64Array.from(fate, (f) => (f === KEPT ? 1 : 0)), fate };
  }

  // Subtle: what is divided is at most 0, so that no temperature, however small, overflows.
  const scaled = Float64Array.from(logits, (logit) => (logit - top) / temperature);
  if (topK !== null && topK < V) {
    const kth = Float64Array.from(logits).sort()[V - topK];
    for (let i = 0; i < V; i++) if (logits[i] < kth) cut(i, CUT_BY_K);
  }
  if (topP !== null && topP < 1) {
    const before = softmax(scaled);
    const rising = Array.from(scaled.keys()).sort((a, b) => scaled[a] - scaled[b] || a - b);
    const butTheBest = rising.slice(0, -1); // which stays, however small p is
    let mass = 0;
    for (const i of butTheBest) {
      mass += before[i];
      if (mass > 1 - topP) break;
      if (fate[i] === KEPT) cut(i, CUT_BY_P);
    }
  }
  return { p: softmax(scaled), fate };

  function cut(i, why) {
    scaled[i] = -Infinity;
    fate[i] = why;
  }
}

/**
 * Random numbers in (0, 1): mulberry32 (Tommy Ettinger, 2017), 32 bits of state.
 * @param {number} state @returns {() => number}
 */
export function generator(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

/**
 * One token, by a race as in lesson 6's draw: token j arrives at -ln(u_j) / p_j, and the first to
 * arrive is drawn. The u, one for each token of the alphabet, come from a generator that is seeded
 * by the seed and by how many characters were written before. So a text can be continued, and
 * several models race under the same luck.
 * @param {ArrayLike<number>} p @param {number} seed @param {number} written
 */
export function draw(p, seed, written) {
  const random = generator(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(written + 1, 0x85ebca6b));
  let first = Infinity;
  let drawn = 0;
  for (let j = 0; j < p.length; j++) {
    const time = -Math.log(random()) / p[j]; // p = 0: never
    if (time < first) {
      first = time;
      drawn = j;
    }
  }
  return drawn;
}

const ALIKE = { temperature: 0.8, topK: null, topP: null, seed: 0 };

/** One token by settings that no reader chooses, so that all that is written so can be compared. */
export function drawAlike(logits, written) {
  return draw(filter(logits, ALIKE).p, ALIKE.seed, written);
}

/** Where the model begins to read a text of so many tokens: lesson 6's window_start. */
export function windowStart(length, contextLength) {
  const jump = Math.max(1, Math.floor(contextLength / 2));
  return Math.max(0, Math.ceil((length - contextLength) / jump) * jump);
}

/** How surprised the model was, in nats: before temperature and filters. */
export function surprise(logits, token) {
  return -Math.log(softmax(logits)[token]);
}

/**
 * @param {Iterable<string>} alphabet every character once
 * @param {string} text
 * @returns {{ids: number[], unknown: string[]}}
 */
export function encode(alphabet, text) {
  const ids = new Map(Array.from(alphabet, (character, id) => [character, id]));
  const characters = Array.from(text);
  const unknown = [...new Set(characters)].filter((character) => !ids.has(character));
  return { ids: unknown.length ? [] : characters.map((character) => ids.get(character)), unknown };
}
