// The arithmetic of training that takes the time, four numbers at once, in one memory. Rows are
// counted in fours and columns in eights throughout, so that no kernel has a rest to care about.

import {
  I32,
  absolute,
  across,
  add,
  assemble,
  below,
  choose,
  divide,
  four,
  load,
  maximum,
  minimum,
  multiply,
  nearest,
  plus,
  positive,
  powerOfTwo,
  shuffle,
  spread,
  subtract,
} from "./assembly.mjs";
import { _ } from "./words.mjs";

const ROWS = 4; // of a tile: with its eight columns, sixteen registers hold all that is needed
const COLUMNS = 8;
const MOST_BYTES = 2 ** 30;
const AT_ONCE = 4; // steps along the sum before the loop turns

/**
 * c = a b, or c += a b, for eight columns: a is (M, K) by rows, b (K, 8) without gaps.
 * @param {boolean} keeps whether c is added to
 */
function eightColumns(keeps) {
  return (w, a, aRow, b, c, cRow, K, cEnd) => {
    const sums = Array.from({ length: ROWS }, () => [w.let(four(0)), w.let(four(0))]);
    const out = w.let(c, I32);
    const from = Array.from({ length: ROWS }, () => w.let(a, I32));
    const next = w.let(a, I32);
    const [low, high] = [w.let(four(0)), w.let(four(0))];
    const [value, right, end] = [w.let(four(0)), w.let(b, I32), w.let(0, I32)];
    w.loop(() => {
      w.set(next, from[0]);
      w.set(end, plus(from[0], K));
      for (let row = 1; row < ROWS; row++) w.set(from[row], plus(from[row - 1], aRow));
      w.set(right, b);
      w.set(out, c);
      for (const [left, rest] of sums) {
        w.set(left, keeps ? load(out) : four(0));
        w.set(rest, keeps ? load(out, 16) : four(0));
        w.move(out, cRow);
      }
      w.loop(() => {
        for (let k = 0; k < AT_ONCE; k++) {
          w.set(low, load(right, 32 * k));
          w.set(high, load(right, 32 * k + 16));
          sums.forEach(([left, rest], row) => {
            w.set(value, spread(from[row], 4 * k));
            w.set(left, add(left, multiply(value, low)));
            w.set(rest, add(rest, multiply(value, high)));
          });
        }
        w.move(right, 32 * AT_ONCE);
        for (const row of from) w.move(row, 4 * AT_ONCE);
      }, below(from[0], end));
      for (const [left, rest] of sums) {
        w.store(c, left);
        w.store(c, rest, 16);
        w.move(c, cRow);
      }
      w.set(from[0], next);
      for (let row = 0; row < ROWS; row++) w.move(from[0], aRow);
    }, below(c, cEnd));
  };
}

/** Four rows of x become four columns of y, over so many bytes of x's rows. */
function fourTurned(w, x, xRow, bytes, y, yRow) {
  const end = w.let(plus(x, bytes), I32);
  const from = [x, ...Array.from({ length: 3 }, () => w.let(0, I32))];
  for (let i = 1; i < 4; i++) w.set(from[i], plus(from[i - 1], xRow));
  w.loop(() => {
    const [a, b, c, d] = from.map((row) => w.let(load(row)));
    const [ab, AB] = [[0, 4, 1, 5], [2, 6, 3, 7]].map((places) => w.let(shuffle(a, b, places)));
    const [cd, CD] = [[0, 4, 1, 5], [2, 6, 3, 7]].map((places) => w.let(shuffle(c, d, places)));
    for (const [left, right] of [[ab, cd], [AB, CD]]) {
      for (const places of [[0, 1, 4, 5], [2, 3, 6, 7]]) {
        w.store(y, shuffle(left, right, places));
        w.move(y, yRow);
      }
    }
    for (const row of from) w.move(row, 16);
  }, below(x, end));
}

/** Eight columns of x, a row below the other. */
function eightCopied(w, x, xRow, y, yEnd) {
  w.loop(() => {
    w.store(y, load(x));
    w.store(y, load(x, 16), 16);
    w.move(x, xRow);
    w.move(y, 32);
  }, below(y, yEnd));
}

/** e to the power of a: 2 to the nearest whole power, times a series of what is left (Cephes). */
function exponential(w, a) {
  const x = w.let(maximum(minimum(a, four(88)), four(-87)));
  const n = w.let(nearest(multiply(x, four(Math.LOG2E))));
  w.set(x, subtract(x, multiply(n, four(0.693359375)))); // ln 2, the part that is exact
  w.set(x, add(x, multiply(n, four(2.12194440e-4)))); // and the rest
  const series = w.let(four(1.9875691500e-4));
  for (const term of [1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5]) {
    w.set(series, add(multiply(series, x), four(term)));
  }
  w.set(series, add(multiply(multiply(series, x), x), add(x, four(1))));
  return multiply(series, powerOfTwo(n));
}

/**
 * y = GELU(x), and its slope there, by gpt.mjs's erf: y = x Φ(x), so the slope is Φ(x) + x φ(x).
 */
function gelu(w, x, y, slope, end) {
  w.loop(() => {
    const a = w.let(load(x));
    const z = w.let(absolute(a));
    const t = w.let(divide(four(1), add(four(1), multiply(z, four(0.3275911 / Math.SQRT2)))));
    const series = w.let(four(1.061405429));
    for (const term of [-1.453152027, 1.421413741, -0.284496736, 0.254829592]) {
      w.set(series, add(multiply(series, t), four(term)));
    }
    const bell = w.let(exponential(w, multiply(multiply(z, z), four(-0.5))));
    const tail = w.let(multiply(multiply(multiply(series, t), bell), four(0.5)));
    const share = w.let(choose(subtract(four(1), tail), tail, positive(a)));
    w.store(y, multiply(a, share));
    w.store(slope, add(share, multiply(multiply(a, bell), four(1 / Math.sqrt(2 * Math.PI)))));
    for (const address of [x, y, slope]) w.move(address, 16);
  }, below(x, end));
}

/** The first numbers of each row of x, so many bytes, become weights that sum to 1. */
function softmax(w, x, row, bytes, end) {
  const stop = w.let(0, I32);
  const at = w.let(0, I32);
  const over = (body) => {
    w.set(at, x);
    w.loop(() => {
      body();
      w.move(at, 16);
    }, below(at, stop));
  };
  w.loop(() => {
    w.set(stop, plus(x, bytes));
    const top = w.let(load(x));
    over(() => w.set(top, maximum(top, load(at))));
    w.set(top, across(maximum, top));
    const sum = w.let(four(0));
    over(() => {
      const p = w.let(exponential(w, subtract(load(at), top)));
      w.set(sum, add(sum, p));
      w.store(at, p);
    });
    w.set(sum, divide(four(1), across(add, sum)));
    over(() => w.store(at, multiply(load(at), sum)));
    w.move(x, row);
  }, below(x, end));
}

const MODULE = assemble({
  put: eightColumns(false),
  add: eightColumns(true),
  turn: fourTurned,
  copy: eightCopied,
  gelu,
  softmax,
});

/** A matrix in the memory: (R, C), row after row; `values` are its numbers. */
export class Matrix {
  constructor(at, R, C, row = 4 * C) {
    Object.assign(this, { at, R, C, row });
  }

  /** Some of its rows, and of their columns: the same numbers, seen in part. */
  part(top, R, left = 0, C = this.C) {
    return new Matrix(this.at + top * this.row + 4 * left, R, C, this.row);
  }

  get end() {
    return this.at + this.R * this.row;
  }
}

/** All numbers of a training: first they are planned, then there is memory for them. */
export class Memory {
  constructor() {
    this.planned = [];
    this.used = 0;
    this.longest = COLUMNS; // sum of any product
    this.largest = 0; // matrix that is ever turned
  }

  /** A matrix of zeros, once the memory is opened. R in fours, C in eights, or R = 1. */
  plan(R, C) {
    const matrix = new Matrix(this.used, R, C);
    this.used = matrix.end;
    this.longest = Math.max(this.longest, R, C);
    this.largest = Math.max(this.largest, R * C);
    this.planned.push(matrix);
    return matrix;
  }

  open() {
    const turned = this.plan(1, this.largest);
    const panel = this.plan(this.longest, COLUMNS);
    if (this.used > MOST_BYTES) throw new Error(_`the model is too large for a page`);
    const memory = new WebAssembly.Memory({ initial: Math.ceil(this.used / 2 ** 16) });
    for (const matrix of this.planned) {
      matrix.values = new Float32Array(memory.buffer, matrix.at, matrix.R * matrix.C);
    }
    const module = new WebAssembly.Module(MODULE);
    this.kernels = new WebAssembly.Instance(module, { m: { m: memory } }).exports;
    this.all = new Float32Array(memory.buffer);
    Object.assign(this, { buffer: memory.buffer, panel: panel.at, turned: turned.at });
  }

  /** The numbers of matrices that were planned one after the other. */
  span(first, last) {
    return new Float32Array(this.buffer, first.at, (last.end - first.at) / 4);
  }

  /** c = a b, or c += a b. */
  product(a, b, c, keeps = false) {
    for (let left = 0; left < c.C; left += COLUMNS) {
      this.kernels.copy(b.at + 4 * left, b.row, this.panel, this.panel + 32 * a.C);
      this.column(a, c, left, keeps);
    }
  }

  /** c = a bᵀ, or c += a bᵀ: what a linear map does, with the matrix b. */
  map(a, b, c, keeps = false) {
    for (let left = 0; left < c.C; left += COLUMNS) {
      const at = b.at + left * b.row;
      this.kernels.turn(at, b.row, 4 * a.C, this.panel, 32);
      this.kernels.turn(at + ROWS * b.row, b.row, 4 * a.C, this.panel + 16, 32);
      this.column(a, c, left, keeps);
    }
  }

  /** c += aᵀ b: the gradient of a map's matrix, from those of its results and from its inputs. */
  gradient(a, b, c) {
    const turned = new Matrix(this.turned, a.C, a.R);
    this.turn(a, turned);
    this.product(turned, b, c, true);
  }

  turn(a, turned) {
    for (let row = 0; row < a.R; row += ROWS) {
      this.kernels.turn(a.at + row * a.row, a.row, 4 * a.C, turned.at + 4 * row, turned.row);
    }
  }

  /** Eight columns of a product, whose right matrix has been laid out in the panel. */
  column(a, c, left, keeps) {
    const from = c.at + 4 * left;
    const kernel = keeps ? this.kernels.add : this.kernels.put;
    kernel(a.at, a.row, this.panel, from, c.row, 4 * a.C, from + c.R * c.row);
  }

  /** The first C numbers of each row of x become weights that sum to 1. */
  softmax(x, C = x.C) {
    this.kernels.softmax(x.at, x.row, 4 * C, x.end);
  }

  gelu(x, y, slope) {
    this.kernels.gelu(x.at, y.at, slope.at, x.end);
  }
}
