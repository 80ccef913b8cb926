// The course's GPT in plain JavaScript: a .safetensors file in, logits out, with a key-value cache.
// The twin of course_utils/lessons/model.py, switch by switch. Nothing in a file is executed.

import { Matrices } from "./linear.mjs";
import { softmax } from "./sampler.mjs";

/** A file can't be used; the message is one sentence that says why. */
export class FileError extends Error {}

const FORMAT = "1"; // as in course_utils/runs.py
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
const BYTES = { F32: 4, F16: 2, BF16: 2, I8: 1 };
const GROUP = 16; // neighbours in a row of an I8 matrix that share a scale
const MOST = 2 ** 28; // numbers in a cache or a table; a file that asks for more is not one of this course

function check(holds, problem) {
  if (!holds) throw new FileError(problem);
}

/**
 * Read a checkpoint of course_utils.runs.save_model. Beside an I8 matrix (O, I) lies "NAME.scale".
 * @param {ArrayBuffer} buffer
 * @returns {{config: object, alphabet: string[], weights: Record<string, Float32Array>}}
 */
export function readSafetensors(buffer) {
  const view = new DataView(buffer);
  check(buffer.byteLength >= 8, "This is not a safetensors file: it is too short.");
  const size = Number(view.getBigUint64(0, true)), start = 8 + size;
  check(start <= buffer.byteLength && size <= 1e7, "This is not a safetensors file, or it is cut short.");
  const header = parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const about = parse(header.__metadata__?.course ?? "{}");
  check(about.format === FORMAT, `This safetensors file is not a checkpoint of this course in format ${FORMAT}.`);
  const config = checkConfig(about.config), alphabet = typeof about.alphabet === "string" ? [...about.alphabet] : [];
  const distinct = new Set(alphabet).size === alphabet.length;
  check(distinct && alphabet.length === config.vocab_size, "Its alphabet does not fit the model that it describes.");
  const read = (name, shape) => readTensor(buffer, start, Object.hasOwn(header, name) ? header[name] : null, shape);
  const weights = {};
  for (const [name, shape] of Object.entries(shapes(config))) {
    const values = (weights[name] = read(name, shape));
    if (header[name].dtype === "I8") rescale(values, read(`${name}.scale`, [shape[0], shape[1] / GROUP]));
    let zero = 0; // a loop: `every` calls a function for each of millions
    for (let i = 0; i < values.length; i++) zero += 0 * values[i];
    check(zero === 0, "It holds weights that are not numbers.");
  }
  return { config, alphabet, weights };
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch { /* the same sentence for both */ }
  throw new FileError("This is not a safetensors file: its header can't be read.");
}

function checkConfig(config) {
  const problem = "It describes no model of this course.";
  check(typeof config === "object" && config !== null, problem);
  for (const name of SIZES) check(Number.isInteger(config[name]) && config[name] >= 1, problem);
  for (const [name, allowed] of Object.entries(CHOICES)) check(allowed.includes(config[name]), problem);
  const d = config.d_model / config.n_heads;
  check(Number.isInteger(d) && !(config.position === "rope" && d % 2), problem);
  check(2 * config.n_layers * config.context_length * config.d_model <= MOST, "Its model is too large for a page.");
  return config;
}

/** The weights that a model has, and their shapes: the names of its state_dict. */
function shapes(config) {
  const { vocab_size: V, context_length: T, d_model: C, d_ff: F } = config, found = { "embedding.weight": [V, C] };
  if (config.position === "learned") found.positions = [T, C];
  for (let i = 0; i < config.n_layers; i++) {
    found[`blocks.${i}.attention.qkv.weight`] = [3 * C, C];
    found[`blocks.${i}.attention.out.weight`] = [C, C];
    found[`blocks.${i}.feed_forward.up.weight`] = [(config.activation === "swiglu" ? 2 : 1) * F, C];
    found[`blocks.${i}.feed_forward.out.weight`] = [C, F];
    if (config.norm === "none") continue;
    found[`blocks.${i}.norm_1.weight`] = [C];
    found[`blocks.${i}.norm_2.weight`] = [C];
  }
  if (config.norm_placement === "pre" && config.norm !== "none") found["norm.weight"] = [C];
  if (!config.tie_embeddings) found["head.weight"] = [V, C];
  return found;
}

function readTensor(buffer, start, about, shape) {
  const { dtype, shape: said, data_offsets: offsets } = about ?? {}, count = shape.reduce((a, b) => a * b);
  const fits = Array.isArray(said) && said.length === shape.length && shape.every((n, i) => n === said[i]);
  check(fits, "Its weights do not fit the model that it describes.");
  check(Object.hasOwn(BYTES, dtype), `Its weights must be of the kinds ${Object.keys(BYTES).join(", ")}.`);
  const [from, to] = Array.isArray(offsets) ? offsets : [];
  const fills = Number.isInteger(from) && from >= 0 && to - from === count * BYTES[dtype];
  check(fills && start + to <= buffer.byteLength, "It is cut short, or its header is wrong about the sizes.");
  const bytes = buffer.slice(start + from, start + to); // a copy, so that its place need not be a multiple of 4
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
const HALVES = Float32Array.from({ length: 2 ** 16 }, (_, h) => {
  const e = (h >> 10) & 31, m = h & 1023;
  const size = e === 31 ? (m ? NaN : Infinity) : (e ? 1024 + m : m) * 2 ** (Math.max(e, 1) - 25);
  return h >> 15 ? -size : size;
});

/** Multiply each group by its scale, in place. */
function rescale(values, scales) {
  for (let i = 0; i < values.length; i++) values[i] *= scales[Math.floor(i / GROUP)];
}

/** A model that keeps what it has read: asked for a text that goes on from the last one, it reads the rest alone. */
export class Decoder {
  /** @param {{config: object, weights: Record<string, Float32Array>}} model */
  constructor({ config, weights }) {
    const { n_layers: L, n_heads: H, context_length: T, d_model: C } = config, D = C / H, all = shapes(config);
    this.config = config;
    this.weights = weights;
    const width = Math.max(...Object.values(all).filter(({ length }) => length === 2).map(([, I]) => I));
    this.memory = new Matrices(T * width);
    this.matrices = {};
    for (const [name, [O, I]] of Object.entries(all)) {
      if (I === undefined || name === "positions") continue; // what is added or multiplied with channel by channel
      const matrix = (this.matrices[name] = this.memory.add(O, I)), weight = weights[name];
      for (let o = 0; o < O; o++) for (let i = 0; i < I; i++) this.memory.set(matrix, o, i, weight[o * I + i]);
    }
    const heads = (O, I) => Array.from({ length: L }, () => Array.from({ length: H }, () => this.memory.add(O, I)));
    this.keys = heads(T, D); // by layer and head
    this.values = heads(D, T); // a column a position: a head's output is a product too
    this.read = []; // the tokens in the cache
    const half = D / 2;
    if (config.position === "sinusoidal") this.added = sinusoidal(T, C);
    if (config.position === "learned") this.added = weights.positions;
    if (config.position === "rope") this.turns = angles(T, half).map((angle) => [Math.cos(angle), Math.sin(angle)]);
  }

  /** @param {number[]} ids at most context_length tokens @returns {Float32Array} logits (V,) of what follows */
  next(ids) {
    return this.logits(ids).slice(-this.config.vocab_size);
  }

  /** The logits after each token that had to be read, the last at least. -> (those, V), one after the other */
  logits(ids) {
    const { vocab_size: V, context_length: most, d_model: C } = this.config, { weights } = this;
    if (!(ids.length >= 1 && ids.length <= most)) throw new Error(`1 to ${most} tokens, not ${ids.length}`);
    if (!ids.every((id) => Number.isInteger(id) && id >= 0 && id < V)) throw new Error("a token outside the alphabet");
    let start = 0;
    while (start < ids.length - 1 && ids[start] === this.read[start]) start++;
    const T = ids.length - start, scale = this.config.position === "sinusoidal" ? Math.sqrt(C) : 1;
    let x = new Float32Array(T * C);
    for (let t = 0; t < T; t++) {
      for (let c = 0, from = ids[start + t] * C, at = (start + t) * C; c < C; c++) {
        x[t * C + c] = weights["embedding.weight"][from + c] * scale + (this.added?.[at + c] ?? 0);
      }
    }
    this.read.length = 0; // until the cache is whole again
    for (let i = 0; i < this.config.n_layers; i++) {
      x = this.add(x, weights[`blocks.${i}.norm_1.weight`], (h) => this.attend(h, i, start));
      x = this.add(x, weights[`blocks.${i}.norm_2.weight`], (h) => this.feedForward(h, i));
    }
    this.read = [...ids];
    if (this.config.norm_placement === "pre") x = this.norm(x, weights["norm.weight"]);
    return this.linear(x, this.config.tie_embeddings ? "embedding.weight" : "head.weight");
  }

  /** x plus what the layer makes of it, with the norm before the layer or after the sum. */
  add(x, weight, layer) {
    const pre = this.config.norm_placement === "pre", update = layer(pre ? this.norm(x, weight) : x);
    if (this.config.residual) for (let i = 0; i < x.length; i++) update[i] += x[i];
    return pre ? update : this.norm(update, weight);
  }

  norm(x, weight) {
    if (this.config.norm === "none") return x;
    const C = weight.length, y = new Float32Array(x.length);
    for (let at = 0; at < x.length; at += C) {
      let mean = 0, square = 0;
      if (this.config.norm === "layernorm") {
        for (let c = 0; c < C; c++) mean += x[at + c];
        mean /= C;
      }
      for (let c = 0; c < C; c++) square += (x[at + c] - mean) ** 2;
      const factor = 1 / Math.sqrt(square / C + 1e-5);
      for (let c = 0; c < C; c++) y[at + c] = (x[at + c] - mean) * factor * weight[c];
    }
    return y;
  }

  /** x: (T, I) times a matrix of the model's -> (T, O) */
  linear(x, name) {
    const matrix = this.matrices[name];
    return this.memory.product(x, x.length / matrix.I, matrix);
  }

  /** Causal self-attention of new positions to themselves and to all before: (T, C) -> (T, C). */
  attend(x, layer, start) {
    const { memory, config: { n_heads: H, d_model: C } } = this, D = C / H, T = x.length / C;
    const qkv = this.linear(x, `blocks.${layer}.attention.qkv.weight`), out = new Float32Array(T * C);
    for (let t = 0; t < T; t++) {
      const row = t * 3 * C;
      for (let at = row; at < row + 2 * C; at += D) {
        if (this.config.qk_norm) unit(qkv, at, D);
        if (this.turns) turn(qkv, at, D, this.turns, (start + t) * (D / 2));
      }
      for (let c = 0; c < C; c++) {
        const h = Math.floor(c / D), d = c % D;
        memory.set(this.keys[layer][h], start + t, d, qkv[row + C + c]);
        memory.set(this.values[layer][h], d, start + t, qkv[row + 2 * C + c]);
      }
    }
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < H; h++) {
        const at = t * 3 * C + h * D, q = qkv.subarray(at, at + D).map((number) => number / Math.sqrt(D));
        const shares = softmax(memory.product(q, 1, this.keys[layer][h], start + t + 1));
        out.set(memory.product(shares, 1, this.values[layer][h]), t * C + h * D);
      }
    }
    return this.linear(out, `blocks.${layer}.attention.out.weight`);
  }

  feedForward(x, layer) {
    const { activation, d_ff: F, d_model: C } = this.config, gated = activation === "swiglu", T = x.length / C;
    const h = this.linear(x, `blocks.${layer}.feed_forward.up.weight`), down = `blocks.${layer}.feed_forward.out.weight`;
    if (gated) {
      const bent = new Float32Array(T * F);
      for (let i = 0; i < T * F; i++) {
        const gate = i + Math.floor(i / F) * F; // a row of h is F gates, then F values
        bent[i] = (h[gate] / (1 + Math.exp(-h[gate]))) * h[gate + F];
      }
      return this.linear(bent, down);
    }
    const bend = { gelu, relu: (v) => Math.max(v, 0), relu2: (v) => Math.max(v, 0) ** 2 }[activation];
    for (let i = 0; i < h.length; i++) h[i] = bend(h[i]);
    return this.linear(h, down);
  }
}

/** Scale a head to a root mean square of 1, in place: torch's rms_norm, with its eps. */
function unit(x, at, D) {
  let square = 0;
  for (let d = at; d < at + D; d++) square += x[d] * x[d];
  const factor = 1 / Math.sqrt(square / D + 2 ** -23);
  for (let d = at; d < at + D; d++) x[d] *= factor;
}

/** Turn the channel pairs (i, i + D/2) of a head, in place. */
function turn(x, at, D, turns, first) {
  for (let i = 0; i < D / 2; i++) {
    const [cos, sin] = turns[first + i], a = x[at + i], b = x[at + i + D / 2];
    x[at + i] = a * cos - b * sin;
    x[at + i + D / 2] = a * sin + b * cos;
  }
}

/** Position t times `half` speeds that fall from 1 to 1/10000, in single precision as torch has them: T * half. */
function angles(T, half) {
  const speed = (i) => Math.fround(10000 ** (-i / half));
  return Array.from({ length: T * half }, (_, at) => Math.fround(Math.floor(at / half) * speed(at % half)));
}

function sinusoidal(T, C) {
  const half = Math.ceil(C / 2), angle = angles(T, half), waves = new Float32Array(T * C);
  for (let at = 0; at < T * C; at++) {
    const t = Math.floor(at / C), c = at % C;
    waves[at] = c < half ? Math.sin(angle[t * half + c]) : Math.cos(angle[t * half + c - half]);
  }
  return waves;
}

/** The exact GELU, by an erf that is off by 1.5e-7 at most (Abramowitz and Stegun, 7.1.26). */
function gelu(x) {
  const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
  const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const tail = 0.5 * series * Math.exp(-z * z); // the normal distribution's mass beyond |x|
  return x * (x > 0 ? 1 - tail : tail);
}
