// A matrix times a vector, which is nearly all of a model's work, four products at a time:
// JavaScript has no words for the processor's vectors, WebAssembly has. The one function needed is
// so short that it is assembled here, by hand. The bytes' meanings:
// https://webassembly.github.io/spec/core/binary/instructions.html

const PAGE = 2 ** 16; // bytes: the unit in which WebAssembly hands out memory
const ROWS = 8; // of a matrix, whose sums grow together; one sum alone would wait for itself

const [I32, V128] = [0x7f, 0x7b]; // an address, four numbers
const [X, END, W, Y, VALUE, LOW, HIGH] = [0, 1, 2, 3, 4, 5, 6]; // the function's variables
const get = (variable) => [0x20, variable];
const set = (variable) => [0x21, variable];
const load = (offset) => [0xfd, 0x00, 2, offset];
const store = (offset) => [0xfd, 0x0b, 2, offset];
const loadFourTimes = [0xfd, 0x09, 2, 0];
const multiply = [0xfd, 0xe6, 1];
const add = [0xfd, 0xe4, 1];
const forward = (variable, bytes) => [...get(variable), 0x41, bytes, 0x6a, ...set(variable)];
const product = (offset) => [...get(VALUE), ...get(W), ...load(offset), ...multiply];
const grow = (sum, offset) => [...get(sum), ...product(offset), ...add, ...set(sum)];

/**
 * eight(x, end, w, y): from x to end, each number times the eight at w that go with it; the eight
 * sums go to y.
 */
// prettier-ignore
const EIGHT = [
  1, 3, V128, // three variables of four numbers each, beside the parameters
  0x03, 0x40, // loop
  ...get(X), ...loadFourTimes, ...set(VALUE),
  ...grow(LOW, 0), ...grow(HIGH, 16),
  ...forward(X, 4), ...forward(W, 4 * ROWS),
  ...get(X), ...get(END), 0x49, 0x0d, 0, 0x0b, // again, while x < end
  ...get(Y), ...get(LOW), ...store(0), ...get(Y), ...get(HIGH), ...store(16),
  0x0b,
];
const part = (number, ...bytes) => [number, bytes.length, ...bytes];
const name = [1, "m".charCodeAt()];
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
  ...part(1, 1, 0x60, 4, I32, I32, I32, I32, 0), // a type: four addresses in, nothing out
  ...part(2, 1, ...name, ...name, 2, 0, 1), // it is given a memory, m.m
  ...part(3, 1, 0), // one function, of that type
  ...part(7, 1, ...name, 0, 0), // which it calls m
  ...part(10, 1, EIGHT.length, ...EIGHT),
);

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
      this.eight = new WebAssembly.Instance(module, { m: { m: this.memory } }).exports.m;
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
