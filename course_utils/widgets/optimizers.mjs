// How weights move: lesson 4's schedule, clipping, AdamW and Muon, number by number. Lay it beside
// course_utils/lessons/train.py.

import { Memory } from "./kernels.mjs";

const BETAS = [0.9, 0.95]; // how slowly AdamW's two means fade
const POLYNOMIALS = [
  [8.3837, -24.7659, 18.3571],
  [4.0434, -3.0114, 0.5695],
  [3.5056, -2.6267, 0.5257],
  [2.4901, -1.8343, 0.4368],
  [1.9178, -1.2968, 0.3797],
]; // a, b, c of each iteration: Amsel et al. (2025), Polar Express

/** The share of the peak rate at a step: up in a line, flat, down in a line. */
export function learningRateAt(step, { steps, warmup_steps: warmup, decay }) {
  const up = (step + 1) / Math.max(1, warmup);
  const down = (steps - step) / Math.max(1, decay * steps);
  return Math.min(1, up, down);
}

/** By what gradients are multiplied, so that together they are no longer than is let through. */
export function clipping(gradients, longest) {
  let square = 0;
  for (const g of gradients) square += g * g;
  return Math.min(1, longest / (Math.sqrt(square) + 1e-6));
}

/** Adam with decoupled weight decay, for one matrix. Loshchilov and Hutter (2019). */
export class AdamW {
  constructor(size, { learning_rate: rate }, decay) {
    this.mean = new Float32Array(size);
    this.square = new Float32Array(size);
    Object.assign(this, { rate, decay, steps: 0 });
  }

  /** @param {number} share of the peak rate */
  step(weights, gradients, share) {
    const { mean, square } = this;
    const [beta1, beta2] = BETAS;
    const rate = this.rate * share;
    this.steps++;
    const correction1 = 1 - beta1 ** this.steps;
    const correction2 = Math.sqrt(1 - beta2 ** this.steps);
    for (let i = 0; i < weights.length; i++) {
      const g = gradients[i];
      mean[i] += (1 - beta1) * (g - mean[i]);
      square[i] = beta2 * square[i] + (1 - beta2) * g * g;
      const size = Math.sqrt(square[i]) / correction2 + 1e-8;
      weights[i] = weights[i] * (1 - rate * this.decay) - ((rate / correction1) * mean[i]) / size;
    }
  }

  get kept() {
    return [this.mean, this.square];
  }
}

/** Momentum made orthogonal, for one matrix: all directions move alike. Jordan et al. (2024). */
export class Muon {
  /** @param {Orthogonaliser} orthogonaliser for matrices of this shape */
  constructor(size, config, orthogonaliser) {
    this.velocity = new Float32Array(size);
    this.rate = config.muon_learning_rate;
    this.momentum = config.muon_momentum;
    this.iterations = config.muon_iterations;
    this.decay = config.weight_decay;
    this.orthogonaliser = orthogonaliser;
  }

  step(weights, gradients, share) {
    const { velocity, momentum, orthogonaliser, iterations } = this;
    const update = orthogonaliser.update.values;
    for (let i = 0; i < velocity.length; i++) {
      velocity[i] += (1 - momentum) * (gradients[i] - velocity[i]); // a share of the way
      update[i] = gradients[i] + momentum * (velocity[i] - gradients[i]); // one step ahead
    }
    orthogonaliser.apply(iterations);
    const { R, C } = orthogonaliser.update;
    const rate = this.rate * share;
    const length = rate * Math.sqrt(Math.max(1, R / C));
    for (let i = 0; i < weights.length; i++) {
      weights[i] = weights[i] * (1 - rate * this.decay) - length * update[i];
    }
  }

  get kept() {
    return [this.velocity];
  }
}

/** Pushes every singular value of `update` towards 1, in a memory of its own. */
class Orthogonaliser {
  constructor(R, C) {
    const [short, long] = [Math.min(R, C), Math.max(R, C)];
    this.memory = new Memory();
    this.update = this.memory.plan(R, C);
    this.lying = R > C ? this.memory.plan(short, long) : this.update; // a tall matrix is laid down
    this.next = this.memory.plan(short, long);
    this.square = this.memory.plan(short, short);
    this.mixed = this.memory.plan(short, short);
    this.memory.open();
  }

  apply(iterations) {
    const { memory, update, lying, next, square, mixed } = this;
    let length = 0;
    for (const u of update.values) length += u * u;
    const scale = 1 / (1.01 * Math.sqrt(length) + 1e-7);
    for (let i = 0; i < update.values.length; i++) update.values[i] *= scale;
    if (lying !== update) memory.turn(update, lying);
    for (const [a, b, c] of POLYNOMIALS.slice(0, iterations)) {
      memory.map(lying, lying, square);
      memory.product(square, square, mixed);
      const s = square.values;
      const m = mixed.values;
      for (let i = 0; i < s.length; i++) m[i] = b * s[i] + c * m[i];
      for (let i = 0; i < s.length; i += square.C + 1) m[i] += a;
      memory.product(mixed, lying, next); // a x + (b s + c s²) x
      lying.values.set(next.values);
    }
    if (lying !== update) memory.turn(lying, update);
  }
}

/**
 * An optimizer for each weight: Muon for the blocks' matrices, AdamW for the rest; only matrices
 * decay.
 * @param {import("./network.mjs").Network} network
 * @param {(name: string) => boolean} mine whether this one is to be moved here
 * @returns {(AdamW|Muon|undefined)[]} in the order of the network's weights
 */
export function makeOptimizers(network, config, mine = () => true) {
  const shapes = new Map();
  return network.names.map((name, i) => {
    const { R, C } = network.weights[i];
    if (!mine(name)) return undefined;
    if (R === 1) return new AdamW(C, config, 0);
    if (!name.startsWith("blocks.")) return new AdamW(R * C, config, config.weight_decay);
    const shape = `${R} ${C}`;
    if (!shapes.has(shape)) shapes.set(shape, new Orthogonaliser(R, C));
    return new Muon(R * C, config, shapes.get(shape));
  });
}
