// What one reading of a text showed: how surprised the model was at each character, what it would
// have guessed after each layer, and where its heads looked. Asked about a place, it tells what the
// model knew there: place t is the character t, read from the t characters before it.

import { softmax, surprise } from "./sampler.mjs";

export class Reading {
  /**
   * @param {number[]} ids the text, T tokens
   * @param {{layers: number, heads: number, numbers: Float32Array[]}} seen as gpt.mjs's look has it
   */
  constructor(ids, { layers, heads, numbers: [lens, attention] }) {
    Object.assign(this, { ids, layers, heads, lens, weights: attention });
    this.T = ids.length;
    this.V = lens.length / (layers + 1) / this.T;
  }

  /** @param {number} stage 0: before any layer; i: after layer i @returns {Float32Array} (V,) */
  logits(stage, place) {
    const at = (stage * this.T + place - 1) * this.V;
    return this.lens.subarray(at, at + this.V);
  }

  /** The nats of the character at a place, from 1 on: nothing stands before the first. */
  surprise(place) {
    return surprise(this.logits(this.layers, place), this.ids[place]);
  }

  /** Nats a character, over all but the first. */
  get loss() {
    let sum = 0;
    for (let place = 1; place < this.T; place++) sum += this.surprise(place);
    return sum / (this.T - 1);
  }

  /** The likeliest tokens at a place. @returns {{id: number, p: number}[]} */
  guesses(stage, place, count) {
    const p = softmax(this.logits(stage, place));
    const order = Array.from(p.keys()).sort((a, b) => p[b] - p[a] || a - b);
    return order.slice(0, count).map((id) => ({ id, p: p[id] }));
  }

  probability(stage, place, id) {
    return softmax(this.logits(stage, place))[id];
  }

  /** One head's weights over the characters before a place; layer and head count from 0. */
  attention(layer, head, place) {
    const below = (t) => (t * (t + 1)) / 2;
    const at = (layer * this.heads + head) * below(this.T) + below(place - 1);
    return this.weights.subarray(at, at + place);
  }
}
