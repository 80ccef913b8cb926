// A checkpoint of course_utils/training/checkpoints.py, read with suspicion and by the same rules:
// nothing in a file is executed, and memory is taken for what it says only when all of that fits
// together and stands in the file.

import { roomFor } from "./gpt.mjs";
import { whole } from "./linear.mjs";
import { _ } from "./words.mjs";

/** A file can't be used; the message is one sentence that says why. */
export class FileError extends Error {}

const FORMAT = "1"; // as in course_utils/files.py
const LONGEST_HEADER = 2 ** 22; // bytes
const MOST_LAYERS = 256;
const MOST = 2 ** 28; // numbers to be held in memory: a gigabyte
const LARGEST = 1e6; // a weight: no training makes larger ones
const BYTES = { F32: 4, F16: 2, BF16: 2, I8: 1 }; // what a weight may be kept in
const SCALE = "F16"; // what the scales of an I8 matrix are kept in
const GROUP = 16; // neighbours in a row of an I8 matrix that share a scale
const SIZES = ["vocab_size", "context_length", "n_layers", "n_heads", "d_model", "d_ff"];
const CHOICES = {
  position: ["learned", "sinusoidal", "rope", "none"],
  norm: ["layernorm", "rmsnorm", "none"],
  norm_placement: ["pre", "post"],
  activation: ["gelu", "relu", "relu2", "swiglu"],
  tie_embeddings: [true, false],
  qk_norm: [true, false],
  residual: [true, false],
};
const MISFIT = _`Its weights do not fit the model that it describes.`;

function check(holds, problem) {
  if (!holds) throw new FileError(problem);
}

/**
 * Read what save_model has written. Beside an I8 matrix (O, I) lies "NAME.scale".
 * @param {ArrayBuffer} buffer
 * @returns {{config: object, alphabet: string[], weights: Record<string, Float32Array>}}
 */
export function readSafetensors(buffer) {
  const { tensors, about, start } = readHeader(buffer);
  const config = checkConfig(about.config);
  const alphabet = checkAlphabet(about.alphabet, config.vocab_size);
  const expected = shapes(config);
  checkTensors(tensors, expected);
  checkPlaces(Object.values(tensors), buffer.byteLength - start);
  check(numbersToHold(config, expected) <= MOST, _`Its model is too large for a page.`);

  const weights = {};
  for (const name of Object.keys(expected)) {
    const values = numbers(buffer, start, tensors[name]);
    if (tensors[name].dtype === "I8") {
      rescale(values, numbers(buffer, start, tensors[`${name}.scale`]));
    }
    check(
      sound(values),
      _`It holds weights that are not numbers, or larger than any training makes.`,
    );
    weights[name] = values;
  }
  return { config, alphabet, weights };
}

/** What the file says of itself, and where its numbers start. */
function readHeader(buffer) {
  check(buffer.byteLength >= 8, _`This is not a safetensors file: it is too short.`);
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const start = 8 + size;
  const whole = start <= buffer.byteLength && size <= LONGEST_HEADER;
  check(whole, _`This is not a safetensors file, or it is cut short.`);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 8, size));
  const { __metadata__: metadata, ...tensors } = parse(text);
  const about = parse(metadata?.course ?? "{}");
  const ours = about.format === FORMAT;
  check(ours, _`This safetensors file is not a checkpoint of this course in format ${FORMAT}.`);
  return { tensors, about, start };
}

function parse(text) {
  const problem = _`This is not a safetensors file: its header can't be read.`;
  try {
    const value = JSON.parse(text);
    check(typeof value === "object" && value !== null, problem);
    check(countNames(value) === countColons(text), problem); // one name twice: which would count?
    return value;
  } catch {
    throw new FileError(problem);
  }
}

function countNames(value) {
  if (typeof value !== "object" || value === null) return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce((sum, inner) => sum + countNames(inner), own);
}

/** The colons of a JSON text outside its strings: one after each name. */
function countColons(text) {
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"/g, "").split(":").length - 1;
}

function checkConfig(config) {
  const problem = _`It describes no model of this course.`;
  check(typeof config === "object" && config !== null, problem);
  for (const name of SIZES) check(Number.isInteger(config[name]) && config[name] >= 1, problem);
  for (const [name, allowed] of Object.entries(CHOICES)) {
    check(allowed.includes(config[name]), problem);
  }
  const { dropout } = config;
  check(typeof dropout === "number" && dropout >= 0 && dropout < 1, problem);
  const names = [...SIZES, ...Object.keys(CHOICES), "dropout"];
  check(Object.keys(config).length === names.length, problem); // and no others
  const D = config.d_model / config.n_heads;
  check(Number.isInteger(D) && !(config.position === "rope" && D % 2), problem);
  check(config.n_layers <= MOST_LAYERS, _`Its model is too large for a page.`);
  return config;
}

/** Different characters in order, as CharTokenizer has them: their places are the tokens. */
function checkAlphabet(alphabet, size) {
  const known = typeof alphabet === "string" && !/\p{Surrogate}/u.test(alphabet);
  const characters = known ? [...alphabet] : [];
  const codes = characters.map((character) => character.codePointAt(0));
  const rising = codes.every((code, i) => i === 0 || code > codes[i - 1]);
  const fits = rising && characters.length === size;
  check(fits, _`Its alphabet does not fit its model, or is not different characters in order.`);
  return characters;
}

/** The weights that a model has, and their shapes, by the names of its state_dict, in order. */
export function shapes(config) {
  const { vocab_size: V, context_length: T, d_model: C, d_ff: F } = config;
  const halves = config.activation === "swiglu" ? 2 : 1;
  const shapes = { "embedding.weight": [V, C] };
  if (config.position === "learned") shapes.positions = [T, C];
  for (let i = 0; i < config.n_layers; i++) {
    shapes[`blocks.${i}.attention.qkv.weight`] = [3 * C, C];
    shapes[`blocks.${i}.attention.out.weight`] = [C, C];
    shapes[`blocks.${i}.feed_forward.up.weight`] = [halves * F, C];
    shapes[`blocks.${i}.feed_forward.out.weight`] = [C, F];
    if (config.norm === "none") continue;
    shapes[`blocks.${i}.norm_1.weight`] = [C];
    shapes[`blocks.${i}.norm_2.weight`] = [C];
  }
  if (config.norm_placement === "pre" && config.norm !== "none") shapes["norm.weight"] = [C];
  if (!config.tie_embeddings) shapes["head.weight"] = [V, C];
  return shapes;
}

/** Whether the tensors are the model's weights, all of them and no others, with their scales. */
function checkTensors(tensors, expected) {
  const kinds = `Its weights must be of the kinds ${Object.keys(BYTES).join(", ")}`;
  for (const [name, tensor] of Object.entries(tensors)) {
    const allowed = name.endsWith(".scale") ? [SCALE] : Object.keys(BYTES);
    check(allowed.includes(tensor?.dtype), `${kinds}, the scales of I8 of ${SCALE}.`);
    check(name.endsWith(".scale") || Object.hasOwn(expected, name), MISFIT);
  }
  for (const [name, shape] of Object.entries(expected)) {
    check(Object.hasOwn(tensors, name), MISFIT);
    checkShape(tensors[name], shape);
    if (tensors[name].dtype !== "I8") continue;
    check(Object.hasOwn(tensors, `${name}.scale`) && shape.length === 2, MISFIT);
    checkShape(tensors[`${name}.scale`], [shape[0], shape[1] / GROUP]);
  }
}

function checkShape({ shape }, expected) {
  const same = Array.isArray(shape) && shape.length === expected.length;
  check(same && shape.every((size, i) => size === expected[i]), MISFIT);
}

/** Whether the tensors cover all bytes from 0 to size, each byte once. */
function checkPlaces(tensors, size) {
  const problem = _`It is cut short, or its header is wrong about the sizes.`;
  const places = tensors.map(({ dtype, shape, data_offsets: offsets }) => {
    const known = [shape, offsets].every((list) => Array.isArray(list) && list.every(isSize));
    check(known && offsets.length === 2, problem);
    check(offsets[1] - offsets[0] === product(shape) * BYTES[dtype], problem);
    return offsets;
  });
  places.sort(([from, to], [otherFrom, otherTo]) => from - otherFrom || to - otherTo);
  let end = 0;
  for (const [from, to] of places) {
    check(from === end, problem);
    end = to;
  }
  check(end === size, problem);
}

function isSize(number) {
  return Number.isSafeInteger(number) && number >= 0;
}

function product(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

/** How many numbers gpt.mjs will hold at a time: weights, matrices, caches, tables, its room. */
function numbersToHold(config, expected) {
  const { n_layers: L, n_heads: H, context_length: T, d_model: C } = config;
  const D = C / H;
  let sum = L * H * (whole(T) * D + whole(D) * T) + 2 * T * C + roomFor(config);
  for (const shape of Object.values(expected)) {
    sum += product(shape) + whole(shape[0]) * (shape[1] ?? 0);
  }
  return sum;
}

/** @returns {Float32Array} a tensor's numbers */
function numbers(buffer, start, { dtype, data_offsets: [from, to] }) {
  const bytes = buffer.slice(start + from, start + to); // its place need not be a multiple of 4
  if (dtype === "F32") return new Float32Array(bytes);
  if (dtype === "I8") return new Float32Array(new Int8Array(bytes));
  if (dtype === "F16") return fromHalf(new Uint16Array(bytes));
  const bits = new Uint32Array(new Uint16Array(bytes));
  for (let i = 0; i < bits.length; i++) bits[i] <<= 16; // the upper half of a float32
  return new Float32Array(bits.buffer);
}

/** Half precision, five bits of exponent. Browsers are only now getting a Float16Array. */
function fromHalf(halves) {
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = HALVES[halves[i]];
  return values;
}

/** The value of every half: looked up, millions are read in milliseconds. */
const HALVES = Float32Array.from({ length: 2 ** 16 }, (_, half) => {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const sign = half >> 15 ? -1 : 1;
  if (exponent === 31) return sign * (fraction ? NaN : Infinity);
  const leading = exponent ? 1024 : 0; // the smallest numbers have no leading 1
  return sign * (leading + fraction) * 2 ** (Math.max(exponent, 1) - 25);
});

/** Multiply each group by its scale, in place. */
function rescale(values, scales) {
  for (let i = 0; i < values.length; i++) values[i] *= scales[Math.floor(i / GROUP)];
}

/** Whether all are numbers of a size that training gives. A loop: `every` would be slow. */
function sound(values) {
  for (const value of values) if (!(Math.abs(value) <= LARGEST)) return false; // NaN is not
  return true;
}

/**
 * What save_model writes, in single precision.
 * @param {{config: object, alphabet: string}} about
 * @param {Record<string, Float32Array>} weights by name, all of the config's
 * @returns {ArrayBuffer}
 */
export function writeSafetensors(about, weights) {
  const course = JSON.stringify({ format: FORMAT, ...about });
  const header = { __metadata__: { course } };
  let size = 0;
  for (const [name, shape] of Object.entries(shapes(about.config))) {
    const end = size + BYTES.F32 * product(shape);
    header[name] = { dtype: "F32", shape, data_offsets: [size, end] };
    size = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = 8 * Math.ceil(json.length / 8); // with spaces, so that numbers begin at eights
  const bytes = new Uint8Array(8 + padded + size).fill(0x20, 8, 8 + padded);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, 8);
  for (const [name, tensor] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { buffer, byteOffset, byteLength } = weights[name];
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), 8 + padded + tensor.data_offsets[0]);
  }
  return bytes.buffer;
}
