// The course's GPT as it learns: forward with all that is needed on the way back, and backward.
// Lay it beside gpt.mjs, which only writes: the parts stand in the same order. Here each has a
// `backward` too, which takes the gradient of what the part gave, adds to the gradients of its
// weights, and says what the gradient of its input is. It is the laptop recipe's kind of model:
// rotary positions, normed queries and keys, LayerNorm before each layer, GELU, tied embeddings, no
// dropout. What is (B, T, C) there is (N, C) here, N = B T rows.

import { positionAngles } from "./gpt.mjs";
import { Memory } from "./kernels.mjs";
import { shapes } from "./safetensors.mjs";

const BLOCK = 32; // positions of a window that attend together: beyond them nothing is worked out
const HIDDEN = -1e30; // the score of what may not be seen
const KIND = {
  position: "rope",
  norm: "layernorm",
  norm_placement: "pre",
  activation: "gelu",
  tie_embeddings: true,
  qk_norm: true,
  residual: true,
  dropout: 0,
};

/** Whether a model is of the kind that learns here, in sizes that kernels.mjs can count. */
export function canLearn(config) {
  const { d_model: C, n_heads: H, d_ff: F, context_length: T } = config;
  const sizes = (C / H) % 8 === 0 && F % 8 === 0 && T % BLOCK === 0;
  return sizes && Object.entries(KIND).every(([name, value]) => config[name] === value);
}

/** A linear map without a bias: (N, I) -> (N, O). */
class Linear {
  constructor(plan, name) {
    Object.assign(this, { memory: plan.memory, ...plan.weight(name) });
  }

  forward(x, y, adds = false) {
    this.memory.map(x, this.weight, y, adds);
  }

  backward(x, dy, dx) {
    this.memory.gradient(dy, x, this.gradient);
    this.memory.product(dy, this.weight, dx);
  }
}

/** LayerNorm: each row at mean 0 and variance 1, times its gains: (N, C) -> (N, C). */
class Norm {
  constructor(plan, name) {
    Object.assign(this, plan.weight(name));
    this.means = new Float64Array(plan.N);
    this.factors = new Float64Array(plan.N);
  }

  forward({ values: x, C }, { values: y }) {
    const gains = this.weight.values;
    for (let at = 0, row = 0; at < x.length; at += C, row++) {
      let mean = 0;
      let square = 0;
      for (let c = at; c < at + C; c++) mean += x[c];
      mean /= C;
      for (let c = at; c < at + C; c++) square += (x[c] - mean) * (x[c] - mean);
      const factor = 1 / Math.sqrt(square / C + 1e-5);
      for (let c = 0; c < C; c++) y[at + c] = (x[at + c] - mean) * factor * gains[c];
      this.means[row] = mean;
      this.factors[row] = factor;
    }
  }

  /** Adds to dx, where the stream's own gradient is already. */
  backward({ values: x, C }, { values: dy }, { values: dx }) {
    const gains = this.weight.values;
    const slopes = this.gradient.values;
    for (let at = 0, row = 0; at < x.length; at += C, row++) {
      const mean = this.means[row];
      const factor = this.factors[row];
      let shift = 0;
      let stretch = 0;
      for (let c = 0; c < C; c++) {
        const normed = (x[at + c] - mean) * factor;
        slopes[c] += dy[at + c] * normed;
        shift += (dy[at + c] * gains[c]) / C;
        stretch += (dy[at + c] * gains[c] * normed) / C;
      }
      for (let c = 0; c < C; c++) {
        const normed = (x[at + c] - mean) * factor;
        dx[at + c] += factor * (dy[at + c] * gains[c] - shift - stretch * normed);
      }
    }
  }
}

/** Multi-head causal self-attention: (N, C) -> (N, C). */
class Attention {
  constructor(plan, name) {
    const { memory, N, config, shared } = plan;
    const { n_heads: H, d_model: C, context_length: T } = config;
    Object.assign(this, { memory, N, H, C, T, D: C / H, shared, angles: plan.angles });
    this.qkv = new Linear(plan, `${name}.qkv.weight`);
    this.out = new Linear(plan, `${name}.out.weight`);
    this.three = memory.plan(N, 3 * C); // queries, keys and values, side by side
    this.weights = memory.plan(N * H, T); // of the first window's first head, its second, …
    this.mixed = memory.plan(N, C);
    this.factors = new Float64Array(N * 2 * H); // by which queries and keys were normed
  }

  /** Every block of every head: its rows, and the places that they may see. */
  *blocks() {
    const { N, H, D, T } = this;
    for (let head = 0; head < H; head++) {
      for (let top = 0; top < N; top += BLOCK) {
        const window = top - (top % T);
        const seen = top - window + BLOCK;
        const weights = this.weights.part(window * H + head * T + top - window, BLOCK, 0, seen);
        yield { rows: [top, BLOCK, head * D, D], places: [window, seen, head * D, D], weights };
      }
    }
  }

  /** Some rows of the queries (0), keys (1) or values (2) of one head. */
  of(three, which, [top, R, left, D]) {
    return three.part(top, R, which * this.C + left, D);
  }

  forward(x, stream) {
    const { memory, three, mixed } = this;
    this.qkv.forward(x, three);
    this.normAndTurn();
    for (const { rows, places, weights } of this.blocks()) {
      memory.map(this.of(three, 0, rows), this.of(three, 1, places), weights);
      this.cover(weights, HIDDEN);
      memory.softmax(weights);
      this.cover(weights, 0);
      memory.product(weights, this.of(three, 2, places), mixed.part(...rows));
    }
    this.out.forward(mixed, stream, true);
  }

  /** What would be seen of the future. */
  cover({ at, row, R, C }, value) {
    const all = this.memory.all;
    for (let r = 0; r < R; r++) {
      const begin = (at + r * row) / 4;
      all.fill(value, begin + C - R + r + 1, begin + C);
    }
  }

  /** @returns {object} the gradient of x */
  backward(x, dy) {
    const { memory, three } = this;
    const { mixed: dMixed, three: dThree, weights: dWeights, normed: dx } = this.shared;
    this.out.backward(this.mixed, dy, dMixed);
    dThree.values.fill(0);
    for (const { rows, places, weights } of this.blocks()) {
      const scores = dWeights.part(0, BLOCK, 0, weights.C);
      memory.map(dMixed.part(...rows), this.of(three, 2, places), scores);
      memory.gradient(weights, dMixed.part(...rows), this.of(dThree, 2, places));
      this.throughSoftmax(weights, scores);
      memory.product(scores, this.of(three, 1, places), this.of(dThree, 0, rows));
      memory.gradient(scores, this.of(three, 0, rows), this.of(dThree, 1, places));
    }
    this.throughNorm(dThree.values);
    this.qkv.backward(x, dThree, dx);
    return dx;
  }

  /** From the gradient of the weights to that of the scores, in place. */
  throughSoftmax(weights, scores) {
    const all = this.memory.all;
    for (let r = 0; r < BLOCK; r++) {
      const p = (weights.at + r * weights.row) / 4;
      const d = (scores.at + r * scores.row) / 4;
      let mean = 0;
      for (let i = 0; i < weights.C; i++) mean += all[p + i] * all[d + i];
      for (let i = 0; i < weights.C; i++) all[d + i] = all[p + i] * (all[d + i] - mean);
    }
  }

  /** Call visit(at, its first number; angles at; factor's place; size) for each query and key. */
  eachHead(visit) {
    const { N, H, C, D, T } = this;
    for (let row = 0, place = 0; row < N; row++) {
      for (let head = 0; head < 2 * H; head++, place++) {
        const size = head < H ? 1 / Math.sqrt(D) : 1; // the scores' scale: on the queries
        visit(row * 3 * C + head * D, ((row % T) * D) / 2, place, size);
      }
    }
  }

  /** Queries and keys to a root mean square of 1, then turned by their position's angles. */
  normAndTurn() {
    const { factors, D } = this;
    const { cos, sin } = this.angles;
    const x = this.three.values;
    this.eachHead((at, angle, place, size) => {
      let square = 0;
      for (let d = 0; d < D; d++) square += x[at + d] * x[at + d];
      const factor = 1 / Math.sqrt(square / D + 2 ** -23);
      factors[place] = factor;
      for (let i = 0, j = at; i < D / 2; i++, j++) {
        const a = x[j] * factor * size;
        const b = x[j + D / 2] * factor * size;
        x[j] = a * cos[angle + i] - b * sin[angle + i];
        x[j + D / 2] = a * sin[angle + i] + b * cos[angle + i];
      }
    });
  }

  /** The same backward, in place: turned back, without what the norm lets nobody change. */
  throughNorm(dx) {
    const { factors, D } = this;
    const { cos, sin } = this.angles;
    const x = this.three.values;
    this.eachHead((at, angle, place, size) => {
      let along = 0;
      for (let d = at; d < at + D; d++) along += (dx[d] * x[d]) / D;
      along /= size;
      for (let i = 0, j = at; i < D / 2; i++, j++) {
        const a = (dx[j] * size - x[j] * along) * factors[place];
        const b = (dx[j + D / 2] * size - x[j + D / 2] * along) * factors[place];
        dx[j] = a * cos[angle + i] + b * sin[angle + i];
        dx[j + D / 2] = b * cos[angle + i] - a * sin[angle + i];
      }
    });
  }
}

/** Two linear maps with a GELU between them: (N, C) -> (N, C). */
class FeedForward {
  constructor(plan, name) {
    const { memory, N, config, shared } = plan;
    Object.assign(this, { memory, shared });
    this.up = new Linear(plan, `${name}.up.weight`);
    this.out = new Linear(plan, `${name}.out.weight`);
    this.hidden = memory.plan(N, config.d_ff);
    this.slopes = memory.plan(N, config.d_ff);
  }

  forward(x, stream) {
    this.up.forward(x, this.shared.hidden);
    this.memory.gelu(this.shared.hidden, this.hidden, this.slopes);
    this.out.forward(this.hidden, stream, true);
  }

  backward(x, dy) {
    const { hidden: dHidden, normed: dx } = this.shared;
    this.out.backward(this.hidden, dy, dHidden);
    const d = dHidden.values;
    const slopes = this.slopes.values;
    for (let i = 0; i < d.length; i++) d[i] *= slopes[i];
    this.up.backward(x, dHidden, dx);
    return dx;
  }
}

/** Attention or feed-forward, with its norm before it and the stream that passes by. */
class Layer {
  constructor(plan, norm, inner) {
    this.norm = new Norm(plan, norm);
    this.inner = inner;
    this.x = plan.memory.plan(plan.N, plan.config.d_model);
    this.normed = plan.memory.plan(plan.N, plan.config.d_model);
  }

  /** Adds to the stream. */
  forward(stream) {
    this.x.values.set(stream.values);
    this.norm.forward(this.x, this.normed);
    this.inner.forward(this.normed, stream);
  }

  /** Adds to the stream's gradient. */
  backward(dStream) {
    const dNormed = this.inner.backward(this.normed, dStream);
    this.norm.backward(this.x, dNormed, dStream);
  }
}

/** What the parts are made from: the memory, the sizes, and room that the layers share. */
class Plan {
  constructor(config, windows) {
    const { n_heads: H, context_length: T, d_model: C, d_ff: F } = config;
    this.config = config;
    this.N = windows * T;
    this.memory = new Memory();
    // The alphabet is filled up to eights, with characters that never come.
    const padded = shapes({ ...config, vocab_size: 8 * Math.ceil(config.vocab_size / 8) });
    const plan = ([R, width]) => (width ? this.memory.plan(R, width) : this.memory.plan(1, R));
    this.weights = Object.values(padded).map(plan);
    this.gradients = Object.values(padded).map(plan);
    this.names = Object.keys(padded);
    const angles = positionAngles(T, C / H);
    this.angles = { cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
    this.shared = {
      normed: this.memory.plan(this.N, C),
      mixed: this.memory.plan(this.N, C),
      three: this.memory.plan(this.N, 3 * C),
      hidden: this.memory.plan(this.N, F),
      weights: this.memory.plan(BLOCK, T),
    };
  }

  weight(name) {
    const i = this.names.indexOf(name);
    return { weight: this.weights[i], gradient: this.gradients[i] };
  }
}

/** A model, what it keeps of some windows, and the gradients of its weights. */
export class Network {
  /** @param {object} config @param {number} windows that are read at a time */
  constructor(config, windows) {
    const { n_layers: L, vocab_size: V, d_model: C } = config;
    const plan = new Plan(config, windows);
    const { memory, N, names, weights, gradients } = plan;
    Object.assign(this, { config, windows, memory, N, V, names, weights, gradients });
    Object.assign(this, plan.weight("embedding.weight"));
    this.layers = [];
    for (let i = 0; i < L; i++) {
      const within = (part) => `blocks.${i}.${part}`;
      const attention = new Attention(plan, within("attention"));
      this.layers.push(new Layer(plan, within("norm_1.weight"), attention));
      const feedForward = new FeedForward(plan, within("feed_forward"));
      this.layers.push(new Layer(plan, within("norm_2.weight"), feedForward));
    }
    this.norm = new Norm(plan, "norm.weight");
    this.stream = memory.plan(N, C);
    this.dStream = memory.plan(N, C);
    this.normed = memory.plan(N, C);
    this.dNormed = memory.plan(N, C);
    this.logits = memory.plan(N, this.weight.R);
    memory.open();
    this.allWeights = memory.span(weights[0], weights.at(-1));
    this.allGradients = memory.span(gradients[0], gradients.at(-1));
  }

  /** @param {ArrayLike<number>} tokens (N,) window after window; the logits are then known */
  forward(tokens) {
    const { stream, weight, normed } = this;
    const { C } = weight;
    for (let row = 0; row < this.N; row++) {
      const from = tokens[row] * C;
      stream.values.set(weight.values.subarray(from, from + C), row * C);
    }
    for (const layer of this.layers) layer.forward(stream);
    this.norm.forward(stream, normed);
    this.memory.map(normed, weight, this.logits);
  }

  /**
   * After forward: the sum of the first rows' losses, in nats. The logits become probabilities.
   * @param {ArrayLike<number>} targets (N,) @param {number} rows that count
   */
  loss(targets, rows = this.N) {
    const { C, values } = this.logits;
    for (let row = 0; row < this.N; row++) values.fill(HIDDEN, row * C + this.V, (row + 1) * C);
    this.memory.softmax(this.logits);
    let sum = 0;
    for (let row = 0; row < rows; row++) sum -= Math.log(values[row * C + targets[row]]);
    return sum;
  }

  /**
   * After loss: the gradients of all weights, of the summed losses times `share`.
   */
  backward(tokens, targets, share) {
    const { memory, stream, logits, weight, gradient, normed, dNormed, dStream } = this;
    const { C } = logits;
    this.allGradients.fill(0);
    for (let row = 0; row < this.N; row++) logits.values[row * C + targets[row]] -= 1;
    for (let i = 0; i < logits.values.length; i++) logits.values[i] *= share;
    memory.gradient(logits, normed, gradient);
    memory.product(logits, weight, dNormed);
    dStream.values.fill(0);
    this.norm.backward(stream, dNormed, dStream);
    for (const layer of [...this.layers].reverse()) layer.backward(dStream);
    for (let row = 0; row < this.N; row++) {
      const to = tokens[row] * weight.C;
      const from = row * weight.C;
      for (let c = 0; c < weight.C; c++) gradient.values[to + c] += dStream.values[from + c];
    }
  }
}
