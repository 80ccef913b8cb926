// One model of a training: how it learns with the help of the other threads, and what it has to
// show for it.

import { GPT } from "./gpt.mjs";
import { Learner } from "./learner.mjs";
import { writeSafetensors } from "./safetensors.mjs";
import { drawAlike, encode } from "./sampler.mjs";
import { _ } from "./words.mjs";

const LINES = 2; // that are written each time,
const [SHORTEST_SAMPLE, LONGEST_SAMPLE] = [60, 120]; // in so many characters

export class Runner {
  /**
   * @param {number} which of the training's models this is @param {object} model its GPTConfig
   * @param {object} task what all models have in common: train, alphabet, ids, held, threads, hands
   * @param {object} [told] what was told of it before
   */
  constructor(which, model, task, told = { losses: [], held: [], samples: [] }) {
    Object.assign(this, { which, model, task, told });
    this.learner = new Learner(model, task.train, task.ids, 0, task.threads);
  }

  get step() {
    return this.told.losses.length;
  }

  /** As a reader knows it. */
  get name() {
    return _`${this.model.n_layers} layers`;
  }

  async resume({ weights, memory }) {
    const { learner, step: steps, which, task } = this;
    const state = (number) => ({ which, steps, weights, memory: memory[number] });
    learner.resume(state(0));
    await task.hands.ask("resume", state);
  }

  /**
   * One step: all read; the first gathers and clips; all move; the first hears of it.
   * @returns {Promise<object>} {step, loss}
   */
  async learn() {
    const { learner, which } = this;
    const { hands } = this.task;
    const { allWeights, allGradients } = learner.network;
    const reading = hands.give("read", allWeights, () => ({ which }));
    let loss = learner.read();
    for (const theirs of await reading) {
      loss += theirs.loss;
      learner.gather(theirs.arrays[0]);
    }
    learner.clip();
    const moving = hands.give("move", allGradients, () => ({ which }));
    learner.move();
    (await moving).forEach(({ arrays }, i) => learner.take(arrays, i + 1));
    this.told.losses.push(loss);
    return { step: this.step, loss };
  }

  /**
   * The exact loss over the whole validation split, of which each thread reads a part.
   * @returns {Promise<object>} {step, loss}
   */
  async evaluate() {
    const { learner, which } = this;
    const { held, threads, hands } = this.task;
    const last = held.length - 1;
    const T = this.model.context_length; // windows are cut as for one thread
    const edge = (number) => Math.min(last, Math.ceil(last / T / threads) * T * number);
    const part = (number) => ({ which, from: edge(number), to: edge(number + 1) });
    const others = hands.give("hold", learner.network.allWeights, part);
    let sum = learner.hold(held, 0, edge(1));
    for (const theirs of await others) sum += theirs.sum;
    this.told.held.push({ step: this.step, loss: sum / last });
    return this.told.held.at(-1);
  }

  /** Two lines by the model as it is now. @returns {{step: number, text: string}} */
  write() {
    const { alphabet, ids: read } = this.task;
    const gpt = new GPT({ config: this.model, weights: this.learner.weights });
    const { ids } = encode(alphabet, "\n");
    const all = ids.length ? ids : [read[0]];
    let text = "";
    const isShort = () => text.split("\n").length <= LINES || text.length < SHORTEST_SAMPLE;
    while (all.length < LONGEST_SAMPLE && isShort()) {
      const logits = gpt.next(all.slice(-this.model.context_length));
      all.push(drawAlike(logits, all.length));
      text = (text + alphabet[all.at(-1)]).trimStart();
    }
    this.told.samples.push({ step: this.step, text: text.trimEnd() });
    return this.told.samples.at(-1);
  }

  /** All that it needs to go on another day. */
  async state() {
    const { model, told, learner, which, task } = this;
    const theirs = await task.hands.ask("memory", () => ({ which }));
    const memory = [learner.memory, ...theirs.map(({ arrays }) => arrays)];
    return { model, told, weights: learner.network.allWeights.slice(), memory };
  }

  /** @returns {ArrayBuffer} a checkpoint of the course */
  file() {
    const about = { config: this.model, alphabet: this.task.alphabet.join("") };
    return writeSafetensors(about, this.learner.weights);
  }
}
