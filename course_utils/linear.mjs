// A matrix times a vector, which is nearly all of a model's work, four products at a time: JavaScript has no words for
// the processor's vectors, WebAssembly has. The one function needed is so short that it is assembled here, by hand.
// The bytes' meanings: https://webassembly.github.io/spec/core/binary/instructions.html

const ROWS = 8; // of a matrix, whose sums grow together; one sum alone would wait for itself at each step

const [I32, V128] = [0x7f, 0x7b];
const [X, END, W, Y, VALUE, LOW, HIGH] = [0, 1, 2, 3, 4, 5, 6]; // the function's variables
const get = (variable) => [0x20, variable], set = (variable) => [0x21, variable];
const load = (offset) => [0xfd, 0x00, 2, offset], store = (offset) => [0xfd, 0x0b, 2, offset];
const loadFourTimes = [0xfd, 0x09, 2, 0], multiply = [0xfd, 0xe6, 1], add = [0xfd, 0xe4, 1];
const forward = (variable, bytes) => [...get(variable), 0x41, bytes, 0x6a, ...set(variable)];
const grow = (sum, offset) => [...get(sum), ...get(VALUE), ...get(W), ...load(offset), ...multiply, ...add, ...set(sum)];
const part = (number, ...bytes) => [number, bytes.length, ...bytes], name = [1, "m".charCodeAt()];

/** eight(x, end, w, y): from x to end, each number times the eight at w that go with it; the eight sums go to y. */
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
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
  ...part(1, 1, 0x60, 4, I32, I32, I32, I32, 0), // a type: four addresses in, nothing out
  ...part(2, 1, ...name, ...name, 2, 0, 1), // it is given a memory, m.m
  ...part(3, 1, 0), // one function, of that type
  ...part(7, 1, ...name, 0, 0), // which it calls m
  ...part(10, 1, EIGHT.length, ...EIGHT),
);

const assembled = (memory) => new WebAssembly.Instance(new WebAssembly.Module(MODULE), { m: { m: memory } }).exports.m;

/** The same in JavaScript, slower, for a browser without vectors. */
const inJavaScript = (numbers) => (x, end, w, y) => {
  numbers.fill(0, y / 4, y / 4 + ROWS);
  for (let at = x / 4, from = w / 4; at < end / 4; at++, from += ROWS) {
    for (let row = 0; row < ROWS; row++) numbers[y / 4 + row] += numbers[at] * numbers[from + row];
  }
};

/**
 * Lay matrices out as `eight` reads them: eight rows interleaved, with zeros up to a multiple of eight.
 * @param {Record<string, [Float32Array, number]>} matrices by name: weights (O, I) in order, and O
 * @param {number} most rows that x may have
 * @returns {(x: Float32Array, name: string) => Float32Array} x: (T, I) -> (T, O)
 */
export function multiplier(matrices, most) {
  const places = {};
  let input = 0, widest = 0; // where x goes, behind all matrices
  for (const [name, [weight, O]] of Object.entries(matrices)) {
    const I = weight.length / O;
    places[name] = { at: input, I, O };
    input += Math.ceil(O / ROWS) * ROWS * I;
    widest = Math.max(widest, I);
  }
  const output = input + most * widest;
  const memory = new WebAssembly.Memory({ initial: Math.ceil((4 * (output + ROWS)) / 2 ** 16) });
  const numbers = new Float32Array(memory.buffer);
  for (const [name, [weight, O]] of Object.entries(matrices)) {
    const { at, I } = places[name];
    for (let o = 0; o < O; o++) {
      for (let i = 0, to = at + (o - (o % ROWS)) * I + (o % ROWS); i < I; i++, to += ROWS) numbers[to] = weight[o * I + i];
    }
  }
  const eight = WebAssembly.validate(MODULE) ? assembled(memory) : inJavaScript(numbers);
  return (x, name) => {
    const { at, I, O } = places[name], T = x.length / I, y = new Float32Array(T * O);
    numbers.set(x, input);
    for (let o = 0; o < O; o += ROWS) {
      const sums = numbers.subarray(output, output + Math.min(ROWS, O - o));
      for (let t = 0; t < T; t++) {
        const from = input + t * I;
        eight(4 * from, 4 * (from + I), 4 * (at + o * I), 4 * output);
        y.set(sums, t * O + o);
      }
    }
    return y;
  };
}
