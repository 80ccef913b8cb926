// The course's GPT in plain JavaScript: one text in, logits out, with a key-value cache. Lay it
// beside course_utils/lessons/model.py: its parts stand here in the same order, by the same names,
// and what is (B, T, C) there is (T, C) here, row after row in one array. All arrays lie in
// `memory`, where linear.mjs can multiply them fast; `weights` finds a weight by its name.

import { Matrices } from "./linear.mjs";
import { softmax } from "./sampler.mjs";

/** A linear map without a bias: (T, I) -> (T, O). */
class Linear {
  constructor(memory, weight, I) {
    const O = weight.length / I;
    this.memory = memory;
    this.matrix = memory.add(O, I);
    for (let o = 0; o < O; o++) {
      for (let i = 0; i < I; i++) memory.set(this.matrix, o, i, weight[o * I + i]);
    }
  }

  forward(x) {
    const { memory, matrix } = this;
    const T = x.length / matrix.I;
    const y = memory.room(T * matrix.O);
    memory.product(x, T, matrix, y);
    return y;
  }
}

/** Multi-head causal self-attention, to the positions in its cache too: (T, C) -> (T, C). */
class Attention {
  constructor(config, weights, memory) {
    const { n_heads: H, d_model: C, context_length: T, qk_norm: qkNorm } = config;
    Object.assign(this, { H, C, T, D: C / H, qkNorm, memory });
    this.qkv = new Linear(memory, weights("qkv.weight"), C);
    this.out = new Linear(memory, weights("out.weight"), C);
    this.silent = new Array(H).fill(false); // the heads that are switched off: they add nothing
    // By head. The values lie a column a position, so that a head's output is a product too.
    this.keys = Array.from({ length: H }, () => memory.add(T, this.D));
    this.values = Array.from({ length: H }, () => memory.add(this.D, T));
  }

  /** x: (T, C) -> queries, keys, values (T, 3C), normed and turned as the config says. */
  queriesKeysValues(x, start, angles) {
    const { C, D } = this;
    const half = D / 2;
    const qkv = this.qkv.forward(x);
    for (let t = 0, row = 0; row < qkv.length; t++, row += 3 * C) {
      for (let at = row; at < row + 2 * C; at += D) {
        const head = qkv.subarray(at, at + D);
        if (this.qkNorm) rmsNorm(head);
        if (angles) rotate(head, angles.subarray((start + t) * half, (start + t + 1) * half));
      }
    }
    return qkv;
  }

  /** watch: told of every head's weights, of each position over itself and those before it. */
  forward(x, start, angles, watch) {
    const { C, D, H, memory } = this;
    const qkv = this.queriesKeysValues(x, start, angles);
    this.extend(qkv, start);
    const q = memory.room(D);
    const scores = memory.room(this.T);
    const mixed = memory.room(x.length).fill(0);
    for (let t = 0; t < x.length / C; t++) {
      const weights = scores.subarray(0, start + t + 1); // up to its own position
      for (let h = 0; h < H; h++) {
        const at = t * C + h * D;
        for (let d = 0; d < D; d++) q[d] = qkv[at + 2 * t * C + d] / Math.sqrt(D);
        memory.product(q, 1, this.keys[h], weights);
        softmax(weights, weights);
        watch?.attention(h, start + t, weights);
        if (this.silent[h]) continue;
        memory.product(weights, 1, this.values[h], mixed.subarray(at, at + D));
      }
    }
    return this.out.forward(mixed);
  }

  /** Keep the keys and values of positions from `start` on. */
  extend(qkv, start) {
    const { C, D, H, memory } = this;
    for (let t = 0; t < qkv.length / (3 * C); t++) {
      const key = t * 3 * C + C;
      const value = key + C;
      for (let h = 0; h < H; h++) {
        for (let d = 0; d < D; d++) {
          memory.set(this.keys[h], start + t, d, qkv[key + h * D + d]);
          memory.set(this.values[h], d, start + t, qkv[value + h * D + d]);
        }
      }
    }
  }
}

/** Scale a head to a root mean square of 1, in place: torch's rms_norm, with its eps. */
function rmsNorm(head) {
  let square = 0;
  for (const number of head) square += number * number;
  const factor = 1 / Math.sqrt(square / head.length + 2 ** -23);
  for (let d = 0; d < head.length; d++) head[d] *= factor;
}

/** Position t times d/2 speeds that fall from 1 to 1/10000: (T, d/2) radians, as float32. */
export function positionAngles(T, d) {
  const half = d / 2;
  const speeds = Float32Array.from({ length: half }, (_, i) => 10000 ** (-i / half));
  const angle = (_, at) => Math.floor(at / half) * speeds[at % half];
  return Float32Array.from({ length: T * half }, angle);
}

/** A fixed vector a position, sines then cosines: (T, C). */
function sinusoidalPositions(T, C) {
  const half = Math.ceil(C / 2);
  const angles = positionAngles(T, 2 * half);
  const sinusoids = new Float32Array(T * C);
  for (let at = 0; at < T * C; at++) {
    const c = at % C;
    const row = Math.floor(at / C) * half;
    sinusoids[at] = c < half ? Math.sin(angles[row + c]) : Math.cos(angles[row + c - half]);
  }
  return sinusoids;
}

/** Turn the channel pair (i, i + D/2) of a head by angles[i], in place. */
function rotate(head, angles) {
  const half = head.length / 2;
  for (let i = 0; i < half; i++) {
    const cos = Math.cos(angles[i]);
    const sin = Math.sin(angles[i]);
    const a = head[i];
    const b = head[i + half];
    head[i] = a * cos - b * sin;
    head[i + half] = a * sin + b * cos;
  }
}

/** Two linear maps with a nonlinearity between them, at each position alone: (T, C) -> (T, C). */
class FeedForward {
  constructor(config, weights, memory) {
    this.activation = config.activation;
    this.F = config.d_ff;
    this.up = new Linear(memory, weights("up.weight"), config.d_model);
    this.out = new Linear(memory, weights("out.weight"), config.d_ff);
  }

  forward(x) {
    return this.out.forward(activate(this.up.forward(x), this.activation, this.F));
  }
}

/** The nonlinearity between the two maps, in place; swiglu's half of h gates the other half. */
function activate(h, activation, F) {
  const { length } = h;
  if (activation !== "swiglu") {
    const f = ACTIVATIONS[activation];
    for (let i = 0; i < length; i++) h[i] = f(h[i]);
    return h;
  }
  for (let i = 0; i < length / 2; i++) {
    const gate = i + Math.floor(i / F) * F; // a row of h is F gates, then F values
    h[i] = (h[gate] / (1 + Math.exp(-h[gate]))) * h[gate + F];
  }
  return h.subarray(0, length / 2);
}

const ACTIVATIONS = {
  gelu,
  relu: (x) => Math.max(x, 0),
  relu2: (x) => Math.max(x, 0) ** 2,
};

/** The exact GELU, by an erf that is off by 1.5e-7 at most (Abramowitz and Stegun, 7.1.26). */
function gelu(x) {
  const z = Math.abs(x) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * z);
  const high = ((1.061405429 * t - 1.453152027) * t + 1.421413741) * t;
  const series = ((high - 0.284496736) * t + 0.254829592) * t;
  const tail = 0.5 * series * Math.exp(-z * z); // the normal distribution's mass beyond |x|
  return x * (x > 0 ? 1 - tail : tail);
}

/** Each position's channels rescaled to a common size, or left alone: (T, C) -> (T, C). */
function makeNorm(config, weight, memory) {
  if (config.norm === "none") return (x) => x;
  const C = config.d_model;
  return (x) => {
    const y = memory.room(x.length);
    for (let at = 0; at < x.length; at += C) {
      let mean = 0;
      let square = 0;
      if (config.norm === "layernorm") {
        for (let c = 0; c < C; c++) mean += x[at + c];
        mean /= C;
      }
      for (let c = 0; c < C; c++) square += (x[at + c] - mean) ** 2;
      const factor = 1 / Math.sqrt(square / C + 1e-5);
      for (let c = 0; c < C; c++) y[at + c] = (x[at + c] - mean) * factor * weight[c];
    }
    return y;
  };
}

/** Attention, then feed-forward, each added to the stream that passes by, (T, C), in place. */
class Block {
  constructor(config, weights, memory) {
    const within = (part) => (name) => weights(`${part}.${name}`);
    this.attention = new Attention(config, within("attention"), memory);
    this.feedForward = new FeedForward(config, within("feed_forward"), memory);
    this.norm1 = makeNorm(config, weights("norm_1.weight"), memory);
    this.norm2 = makeNorm(config, weights("norm_2.weight"), memory);
    this.memory = memory;
    this.pre = config.norm_placement === "pre";
    this.residual = config.residual;
    this.off = false; // switched off, it lets the stream pass
  }

  /** x becomes x plus what the layer makes of it, with the norm before it or after the sum. */
  add(x, norm, layer) {
    const { taken } = this.memory;
    const update = layer(this.pre ? norm(x) : x);
    if (this.residual) for (let i = 0; i < x.length; i++) update[i] += x[i];
    x.set(this.pre ? update : norm(update));
    this.memory.taken = taken;
  }

  forward(x, start, angles, watch) {
    if (this.off) return;
    this.add(x, this.norm1, (h) => this.attention.forward(h, start, angles, watch));
    this.add(x, this.norm2, (h) => this.feedForward.forward(h));
  }
}

/** Room for the stream, and for all that a layer makes of it. @returns {number} of numbers */
export function roomFor({ context_length: T, d_model: C, d_ff: F, vocab_size: V }) {
  const between = 256; // them, at most: each begins at a sixteen
  return T * (7 * C + 2 * F + V + 1) + C + between;
}

/**
 * A decoder-only Transformer. It keeps what it has read: asked how a text goes on that begins as
 * the last one did, it reads the rest alone.
 */
export class GPT {
  /** @param {object} model config and weights, as readSafetensors returns them */
  constructor({ config, weights }) {
    const { n_layers: L, n_heads: H, context_length: T, d_model: C } = config;
    this.config = config;
    this.scale = config.position === "sinusoidal" ? Math.sqrt(C) : 1; // or they drown the tokens
    this.embedding = weights["embedding.weight"];
    this.added = config.position === "sinusoidal" ? sinusoidalPositions(T, C) : weights.positions;
    this.angles = config.position === "rope" ? positionAngles(T, C / H) : undefined;
    const memory = (this.memory = new Matrices(roomFor(config)));
    const within = (i) => (name) => weights[`blocks.${i}.${name}`];
    this.blocks = Array.from({ length: L }, (_, i) => new Block(config, within(i), memory));
    const norms = config.norm_placement === "pre";
    this.norm = norms ? makeNorm(config, weights["norm.weight"], memory) : (x) => x;
    this.head = new Linear(memory, weights["head.weight"] ?? this.embedding, C);
    this.read = []; // the tokens in the cache
    this.off = [];
  }

  /**
   * Switch these off, and all others on.
   * @param {string[]} off heads, "L2:H3", and whole layers, "L2"
   */
  switchOff(off) {
    if (String(off) === String(this.off)) return;
    this.off = [...off];
    this.read = []; // with other parts they meant something else
    this.blocks.forEach((block, i) => {
      block.off = off.includes(`L${i + 1}`);
      const { silent } = block.attention;
      silent.forEach((_, h) => (silent[h] = off.includes(`L${i + 1}:H${h + 1}`)));
    });
  }

  /**
   * @param {number[]} ids at most context_length tokens
   * @returns {Float32Array} (V,) the logits of what follows
   */
  next(ids) {
    return this.logits(ids).slice(-this.config.vocab_size);
  }

  /**
   * Read a text and keep what passes by.
   * @param {number[]} ids at most context_length tokens
   * @returns {{lens: Float32Array, attention: Float32Array}} lens: (L + 1, T, V), the logits that
   *   the last norm and the head make of the stream, before the first block and after each;
   *   attention: (L, H, T (T + 1) / 2), each head's weights, row after row, of row t the first
   *   t + 1; zeros in a layer that is off
   */
  look(ids) {
    const { n_layers: L, n_heads: H, vocab_size: V } = this.config;
    const T = ids.length;
    const below = (t) => (t * (t + 1)) / 2; // weights in the rows before row t
    const attention = new Float32Array(L * H * below(T));
    const lens = new Float32Array((L + 1) * T * V);
    let stage = 0;
    this.read = []; // none is skipped
    this.logits(ids, {
      stream: (x) => lens.set(this.guess(x), stage++ * T * V),
      attention: (h, t, weights) => {
        const i = stage - 1; // the block that is at work
        attention.set(weights, (i * H + h) * below(T) + below(t));
      },
    });
    return { lens, attention };
  }

  /**
   * The logits after each token that had to be read, the last at least: (those, V).
   * @param {object} [watch] is told of the stream at each stage, and of the heads' weights
   */
  logits(ids, watch) {
    const { vocab_size: V, context_length: most } = this.config;
    if (!(ids.length >= 1 && ids.length <= most)) {
      throw new Error(`1 to ${most} tokens, not ${ids.length}`);
    }
    if (!ids.every((id) => Number.isInteger(id) && id >= 0 && id < V)) {
      throw new Error("a token outside the alphabet");
    }

    let start = 0;
    while (start < ids.length - 1 && ids[start] === this.read[start]) start++;
    this.read = []; // until the cache is whole again
    this.memory.taken = 0;
    const x = this.embed(ids.slice(start), start);
    watch?.stream(x);
    for (const block of this.blocks) {
      block.forward(x, start, this.angles, watch);
      watch?.stream(x);
    }
    this.read = [...ids];
    return this.guess(x);
  }

  /** The logits that the last norm and the head make of the stream: (T, C) -> (T, V) */
  guess(x) {
    const { taken } = this.memory;
    const logits = this.head.forward(this.norm(x)).slice();
    this.memory.taken = taken;
    return logits;
  }

  /** Tokens that stand at `start` and after it -> (T, C) */
  embed(ids, start) {
    const C = this.config.d_model;
    const x = this.memory.room(ids.length * C);
    ids.forEach((id, t) => {
      for (let c = 0; c < C; c++) {
        const added = this.added?.[(start + t) * C + c] ?? 0;
        x[t * C + c] = this.embedding[id * C + c] * this.scale + added;
      }
    });
    return x;
  }
}
