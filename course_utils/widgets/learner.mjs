// A training as it goes, in one thread or shared by several: each reads some of a step's windows,
// and moves some of the weights. Nobody is asked for a number here that the package would not have:
// weights, windows and rates come from the seed as in course_utils/training/engine.py.

import { Network } from "./network.mjs";
import { clipping, learningRateAt, makeOptimizers } from "./optimizers.mjs";
import { shapes } from "./safetensors.mjs";
import { Twister } from "./twister.mjs";

const STD = 0.02; // of fresh weights

export class Learner {
  /**
   * @param {object} model a GPTConfig of the laptop's kind @param {object} train a TrainConfig
   * @param {ArrayLike<number>} ids the training split, as tokens
   * @param {number} [number] which of the threads this is @param {number} [threads] how many
   */
  constructor(model, train, ids, number = 0, threads = 1) {
    Object.assign(this, { model, train, ids, number, threads });
    this.windows = train.batch_size / threads;
    this.network = new Network(model, this.windows);
    this.optimizers = makeOptimizers(this.network, train, (name) => this.mover(name) === number);
    this.draws = new Twister(train.seed);
    this.steps = 0;
  }

  /** Which thread moves a weight: a block's in turn, the first all others. */
  mover(name) {
    const block = name.match(/^blocks\.(\d+)/);
    return block ? Number(block[1]) % this.threads : 0;
  }

  /** GPT-2's start: normal weights; what writes to the stream is smaller by 1/√(2L). */
  initialise() {
    const { vocab_size: V, d_model: C, n_layers: L } = this.model;
    const random = new Twister(this.train.seed);
    const sizes = Object.values(shapes(this.model)).map(([R, columns = 0]) => R * columns);
    // PyTorch fills each part as it makes it, the head too; these numbers are thrown away.
    for (const size of [...sizes, V * C]) random.skip(size);
    this.network.names.forEach((name, i) => {
      const { values } = this.network.weights[i];
      const writes = name.endsWith("out.weight");
      if (!sizes[i]) values.fill(1);
      else random.normal(values.subarray(0, sizes[i]), writes ? STD / Math.sqrt(2 * L) : STD);
    });
  }

  /** This thread's windows of the next step: tokens, and for each the one that comes after it. */
  batch() {
    const { context_length: T } = this.model;
    const tokens = new Int32Array(this.windows * T);
    const targets = new Int32Array(this.windows * T);
    for (let window = 0; window < this.train.batch_size; window++) {
      const start = this.draws.below(this.ids.length - T);
      const at = (window - this.number * this.windows) * T;
      if (at < 0 || at >= tokens.length) continue; // another thread's
      tokens.set(this.ids.subarray(start, start + T), at);
      targets.set(this.ids.subarray(start + 1, start + 1 + T), at);
    }
    return { tokens, targets };
  }

  /** Read the next windows. @returns {number} this thread's part of the batch's loss */
  read() {
    const { tokens, targets } = this.batch();
    const share = 1 / (this.threads * tokens.length);
    this.network.forward(tokens);
    const loss = share * this.network.loss(targets);
    this.network.backward(tokens, targets, share);
    return loss;
  }

  /** Add what another thread found. */
  gather(gradients) {
    const all = this.network.allGradients;
    for (let i = 0; i < all.length; i++) all[i] += gradients[i];
  }

  /** Once all gradients are together: let none be too long. */
  clip() {
    const all = this.network.allGradients;
    const factor = clipping(all, this.train.clip_norm);
    if (factor < 1) for (let i = 0; i < all.length; i++) all[i] *= factor;
  }

  /** Move this thread's weights. */
  move() {
    const { weights, gradients } = this.network;
    const rate = learningRateAt(this.steps, this.train);
    this.optimizers.forEach((optimizer, i) => {
      optimizer?.step(weights[i].values, gradients[i].values, rate);
    });
    this.steps++;
  }

  /**
   * The summed losses of held-out text, in windows of the context's length that don't overlap; the
   * last may be shorter.
   * @param {Int32Array} ids @param {number} from the first that is read @param {number} to the last
   *   that is foretold
   */
  hold(ids, from, to) {
    const tokens = new Int32Array(this.network.N);
    const targets = new Int32Array(this.network.N);
    let sum = 0;
    for (let start = from; start < to; start += tokens.length) {
      const end = Math.min(start + tokens.length, to);
      tokens.set(ids.subarray(start, end));
      targets.set(ids.subarray(start + 1, end + 1));
      this.network.forward(tokens); // what stands behind the end changes nothing before it
      sum += this.network.loss(targets, end - start);
    }
    return sum;
  }

  /** The weights that a thread moves. @returns {Float32Array[]} */
  movedBy(number) {
    const { names, weights } = this.network;
    const theirs = weights.filter((_, i) => this.mover(names[i]) === number);
    return theirs.map(({ values }) => values);
  }

  /** Have what another thread has moved. */
  take(moved, number) {
    this.movedBy(number).forEach((values, i) => values.set(moved[i]));
  }

  /** The weights by name, without what the alphabet was filled up with: as gpt.mjs takes them. */
  get weights() {
    const { names, weights, V } = this.network;
    const whole = names.map((name, i) => [name, weights[i].values.slice()]);
    whole[0][1] = whole[0][1].slice(0, V * this.model.d_model);
    return Object.fromEntries(whole);
  }

  /** Begin with these, instead of noise. */
  set weights(named) {
    this.network.names.forEach((name, i) => this.network.weights[i].values.set(named[name]));
  }

  /** All that the next steps depend on, of this thread's: arrays in a fixed order. */
  get memory() {
    return this.optimizers.flatMap((optimizer) => optimizer?.kept ?? []);
  }

  /** Go on where a learner of the same thread was. */
  resume({ steps, weights, memory }) {
    restore(this.network.allWeights, weights);
    this.memory.forEach((array, i) => restore(array, memory[i]));
    for (const optimizer of this.optimizers) if (optimizer) optimizer.steps = steps;
    for (this.steps = 0; this.steps < steps; this.steps++) this.batch(); // drawn already
  }
}

function restore(numbers, kept) {
  const whole = kept.length === numbers.length && kept.every(Number.isFinite);
  if (!whole) throw new Error("not the numbers of this training");
  numbers.set(kept);
}
