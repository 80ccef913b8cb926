// A matrix times a vector, which is nearly all of a model's work, four products at a time:
// JavaScript has no words for the processor's vectors, WebAssembly has.

import { add, assemble, below, four, load, multiply, spread } from "./assembly.mjs";

const PAGE = 2 ** 16; // bytes: the unit in which WebAssembly hands out memory
const ROWS = 8; // of a matrix, whose sums grow together; one sum alone would wait for itself

const MODULE = assemble({
  /** From x to end, each number times the eight at w that go with it; the eight sums go to y. */
  eight(routine, x, end, w, y) {
    const [low, high] = [routine.let(four(0)), routine.let(four(0))];
    const value = routine.let(four(0));
    const grow = (sum, offset) => routine.set(sum, add(sum, multiply(value, load(w, offset))));
    const body = () => {
      routine.set(value, spread(x));
      grow(low, 0);
      grow(high, 16);
      routine.move(x, 4);
      routine.move(w, 4 * ROWS);
    };
    routine.loop(body, below(x, end));
    routine.store(y, low);
    routine.store(y, high, 16);
  },
});

/** The same in JavaScript, slower, for a browser without vectors. */
function eightInJavaScript(numbers, x, end, w, y) {
  numbers.fill(0, y / 4, y / 4 + ROWS);
  for (let at = x / 4, from = w / 4; at < end / 4; at++, from += ROWS) {
    for (let row = 0; row < ROWS; row++) {
      numbers[y / 4 + row] += numbers[at] * numbers[from + row];
    }
  }
}

/**
 * Matrices in one memory, laid out as `eight` reads them: eight rows interleaved, and zeros up to a
 * multiple of eight.
 */
export class Matrices {
  /** @param {number} most numbers in an x; it lies at 0, the sums behind it, then the matrices */
  constructor(most) {
    this.sums = most;
    this.used = most + ROWS;
    this.memory = new WebAssembly.Memory({ initial: pages(this.used) });
    this.numbers = new Float32Array(this.memory.buffer);
    if (WebAssembly.validate(MODULE)) {
      const module = new WebAssembly.Module(MODULE);
      this.eight = new WebAssembly.Instance(module, { m: { m: this.memory } }).exports.eight;
    } else {
      this.eight = (...places) => eightInJavaScript(this.numbers, ...places);
    }
  }

  /** Make room for a matrix of zeros, (O, I). */
  add(O, I) {
    const matrix = { at: this.used, O, I };
    this.used += Math.ceil(O / ROWS) * ROWS * I;
    this.memory.grow(Math.max(0, pages(this.used) - this.memory.buffer.byteLength / PAGE));
    this.numbers = new Float32Array(this.memory.buffer);
    return matrix;
  }

  set({ at, I }, o, i, value) {
    this.numbers[at + (o - (o % ROWS)) * I + i * ROWS + (o % ROWS)] = value;
  }

  /**
   * T rows of x times the matrix, or its upper O rows, or its first columns if the rows of x are
   * short. -> (T, O)
   */
  product(x, T, { at, I, O: all }, O = all) {
    const y = new Float32Array(T * O);
    const length = x.length / T;
    this.numbers.set(x);
    for (let o = 0; o < O; o += ROWS) {
      const sums = this.numbers.subarray(this.sums, this.sums + Math.min(ROWS, O - o));
      for (let t = 0; t < T; t++) {
        this.eight(4 * t * length, 4 * (t + 1) * length, 4 * (at + o * I), 4 * this.sums);
        y.set(sums, t * O + o);
      }
    }
    return y;
  }
}

function pages(numbers) {
  return Math.ceil((4 * numbers) / PAGE);
}
