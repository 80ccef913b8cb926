// A matrix times a vector, which is nearly all of a model's work, sixteen rows at a time:
// JavaScript has no words for the processor's vectors, WebAssembly has.

import { add, assemble, below, four, I32, load, multiply, plus, spread } from "./assembly.mjs";

const PAGE = 2 ** 16; // bytes: the unit in which WebAssembly hands out memory
const ROWS = 16; // of a matrix, whose sums grow together; one sum alone would wait for itself

const MODULE = assemble({
  /** Each x, so many bytes, times the sixteen rows at m; sixteen sums go to y, the next yRow on. */
  sixteen(w, x, bytes, xEnd, m, y, yRow) {
    const sums = Array.from({ length: ROWS / 4 }, () => w.let(four(0)));
    const value = w.let(four(0));
    const [end, at] = [w.let(0, I32), w.let(0, I32)];
    w.loop(() => {
      w.set(end, plus(x, bytes));
      w.set(at, m);
      for (const sum of sums) w.set(sum, four(0));
      w.loop(() => {
        w.set(value, spread(x));
        sums.forEach((sum, i) => w.set(sum, add(sum, multiply(value, load(at, 16 * i)))));
        w.move(x, 4);
        w.move(at, 4 * ROWS);
      }, below(x, end));
      sums.forEach((sum, i) => w.store(y, sum, 16 * i));
      w.move(y, yRow);
    }, below(x, xEnd));
  },
});

/** The same in JavaScript, slower, for a browser without vectors. */
function sixteenInJavaScript(numbers, x, bytes, xEnd, m, y, yRow) {
  for (let begin = x; begin < xEnd; begin += bytes, y += yRow) {
    numbers.fill(0, y / 4, y / 4 + ROWS);
    for (let at = begin / 4, from = m / 4; at < (begin + bytes) / 4; at++, from += ROWS) {
      for (let row = 0; row < ROWS; row++) {
        numbers[y / 4 + row] += numbers[at] * numbers[from + row];
      }
    }
  }
}

/**
 * One memory for all numbers of a model: in front room for what is being worked out, then its
 * matrices, as `sixteen` reads them: sixteen rows interleaved, zeros up to a multiple of sixteen.
 */
export class Matrices {
  /** @param {number} most numbers that there is room for */
  constructor(most) {
    this.used = most;
    this.taken = 0; // of the room; who sets it back gives free what was taken since
    this.memory = new WebAssembly.Memory({ initial: pages(this.used) });
    this.numbers = new Float32Array(this.memory.buffer);
    if (WebAssembly.validate(MODULE)) {
      const module = new WebAssembly.Module(MODULE);
      this.sixteen = new WebAssembly.Instance(module, { m: { m: this.memory } }).exports.sixteen;
    } else {
      this.sixteen = (...places) => sixteenInJavaScript(this.numbers, ...places);
    }
  }

  /** Make a matrix of zeros, (O, I), before any room is taken. */
  add(O, I) {
    const matrix = { at: this.used, O, I };
    this.used += whole(O) * I;
    this.memory.grow(Math.max(0, pages(this.used) - this.memory.buffer.byteLength / PAGE));
    this.numbers = new Float32Array(this.memory.buffer);
    return matrix;
  }

  set({ at, I }, o, i, value) {
    this.numbers[at + (o - (o % ROWS)) * I + i * ROWS + (o % ROWS)] = value;
  }

  /** Room for some numbers, and for a product's last rows behind them. */
  room(length) {
    const from = this.taken;
    this.taken += whole(length);
    return this.numbers.subarray(from, from + length);
  }

  /**
   * T rows of x, (T, I), times the matrix; or times its first columns and upper rows, if those of x
   * and y are short. The last sixteen first: what they write beyond a row of y is written anew.
   * @param {Float32Array} x @param {Float32Array} y (T, O), both from `room`
   */
  product(x, T, { at, I }, y) {
    const [bytes, row] = [x.byteLength / T, y.byteLength / T];
    const end = x.byteOffset + x.byteLength;
    const height = whole(row / 4);
    for (let i = 0; i < height; i += ROWS) {
      const o = (i || height) - ROWS;
      this.sixteen(x.byteOffset, bytes, end, 4 * (at + o * I), y.byteOffset + 4 * o, row);
    }
  }
}

/** So many rows in whole sixteens. */
export function whole(rows) {
  return Math.ceil(rows / ROWS) * ROWS;
}

function pages(numbers) {
  return Math.ceil((4 * numbers) / PAGE);
}
