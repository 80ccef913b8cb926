// The threads that help with a training, each of which runs crew.mjs.

import { _ } from "./words.mjs";

/** One of them, asked a question at a time. */
class Hand {
  constructor() {
    this.worker = new Worker(new URL("crew.mjs", import.meta.url), { type: "module" });
  }

  ask(kind, content = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data }) => resolve(data);
      this.worker.onerror = () => reject(new Error(_`a thread of the training broke off`));
      this.worker.postMessage({ kind, ...content }, transfer);
    });
  }

  /** The same, with numbers, of which it gets a copy. @param {Float32Array} numbers */
  give(kind, numbers, content) {
    const copy = numbers.slice();
    return this.ask(kind, { ...content, numbers: copy }, [copy.buffer]);
  }
}

/** All of them but the first, which is the trainer itself. */
export class Hands {
  /** @param {number} threads the first included */
  constructor(threads) {
    this.all = Array.from({ length: threads - 1 }, () => new Hand());
  }

  /** Ask all at a time. @param {(number: number) => object} content for each, from 1 on */
  ask(kind, content) {
    return Promise.all(this.all.map((hand, i) => hand.ask(kind, content(i + 1))));
  }

  /** The same, with numbers. @param {Float32Array} numbers */
  give(kind, numbers, content) {
    return Promise.all(this.all.map((hand, i) => hand.give(kind, numbers, content(i + 1))));
  }
}

/** How many threads share a batch: a power of two, most of the processor. */
export function threadsFor(cores) {
  const some = Math.max(Math.min(cores, 2), Math.floor((3 * cores) / 4));
  return 2 ** Math.floor(Math.log2(Math.min(some, 8)));
}
