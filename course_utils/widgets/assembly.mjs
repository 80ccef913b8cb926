// WebAssembly's instructions by readable names: a value is the list of bytes that computes it, and
// a Routine gathers what is done with values. So kernels.mjs can be read like JavaScript, and the
// page needs no compiler. The bytes' meanings:
// https://webassembly.github.io/spec/core/binary/instructions.html

export const [I32, V128] = [0x7f, 0x7b]; // an address or a count; four numbers

/** A whole number in as many bytes as it needs, seven bits in each. @returns {number[]} */
function leb(number) {
  const bytes = [];
  let left = number;
  do {
    bytes.push((left & 0x7f) | 0x80);
    left >>>= 7;
  } while (left);
  bytes[bytes.length - 1] &= 0x7f;
  return bytes;
}

/** The same for a constant, whose last byte tells its sign too: here it is never negative. */
function constant(number) {
  const bytes = leb(number);
  if (bytes.at(-1) & 0x40) bytes.splice(-1, 1, bytes.at(-1) | 0x80, 0);
  return [0x41, ...bytes];
}

function real(number) {
  return [0x43, ...new Uint8Array(Float32Array.of(number).buffer)];
}

const plain =
  (code) =>
  (...values) => [...values.flat(), code];
const vector =
  (code) =>
  (...values) => [...values.flat(), 0xfd, ...leb(code)];

// Of addresses and counts; a number in JavaScript is a constant.
const whole = (value) => (typeof value === "number" ? constant(value) : value);
export const plus = (a, b) => plain(0x6a)(whole(a), whole(b));
export const below = plain(0x49);

// Of four numbers at a time.
export const four = (number) => [...real(number), 0xfd, 0x13];
export const add = vector(0xe4);
export const subtract = vector(0xe5);
export const multiply = vector(0xe6);
export const divide = vector(0xe7);
export const minimum = vector(0xe8);
export const maximum = vector(0xe9);
export const absolute = vector(0xe0);
export const nearest = vector(0x6a);
export const positive = (a) => vector(0x44)(a, four(0)); // a mask, for choose
export const choose = (yes, no, mask) => vector(0x52)(yes, no, mask);
export const load = (address, offset = 0) => [...address, 0xfd, 0x00, 2, ...leb(offset)];
export const spread = (address, offset = 0) => [...address, 0xfd, 0x09, 2, ...leb(offset)];
/** Two to the power of whole numbers, which are put where a float32 has its exponent. */
export const powerOfTwo = (n) => {
  const exponents = vector(0xae)(vector(0xf8)(n), [...constant(127), 0xfd, 0x11]);
  return vector(0xab)(exponents, constant(23));
};
/** Four of the eight numbers of a and b. @param {number[]} places 0 to 3 in a, 4 to 7 in b */
export const shuffle = (a, b, places) => {
  const bytes = places.flatMap((place) => [0, 1, 2, 3].map((byte) => 4 * place + byte));
  return [...a, ...b, 0xfd, 0x0d, ...bytes];
};
/** The four numbers of a, joined into one, four times. */
export const across = (join, a) => {
  const halves = join(a, shuffle(a, a, [2, 3, 0, 1]));
  return join(halves, shuffle(halves, halves, [1, 0, 3, 2]));
};

/** A function in the making: parameters, which are addresses or counts, and what it does. */
class Routine {
  constructor(parameters) {
    this.parameters = parameters;
    this.kinds = []; // of its other variables
    this.code = [];
  }

  do(...parts) {
    this.code.push(...parts.flat());
  }

  /** A new variable with this value, as a value itself. */
  let(value, kind = V128) {
    const variable = [0x20, ...leb(this.parameters + this.kinds.length)];
    this.kinds.push(kind);
    this.set(variable, value);
    return variable;
  }

  set([, ...index], value) {
    this.do(whole(value), 0x21, index);
  }

  /** Move an address on. */
  move(variable, by) {
    this.set(variable, plus(variable, by));
  }

  store(address, value, offset = 0) {
    this.do(address, value, 0xfd, 0x0b, 2, leb(offset));
  }

  /** Do it at least once, and again while `more` holds. */
  loop(body, more) {
    this.do(0x03, 0x40);
    body();
    this.do(more, 0x0d, 0, 0x0b);
  }

  get bytes() {
    const kinds = this.kinds.flatMap((kind) => [1, kind]);
    const body = [...leb(this.kinds.length), ...kinds, ...this.code, 0x0b];
    return [...leb(body.length), ...body];
  }
}

/**
 * Make one module of routines, each a function (routine, ...its parameters) that writes its code.
 * @param {Record<string, function>} writers
 * @returns {Uint8Array} the module; it is given its memory as m.m
 */
export function assemble(writers) {
  const list = (items) => [...leb(items.length), ...items.flat()];
  const part = (number, items) => {
    const bytes = list(items);
    return [number, ...leb(bytes.length), ...bytes];
  };
  const name = (text) => list([...text].map((character) => character.charCodeAt()));
  const made = Object.values(writers).map((write) => {
    const routine = new Routine(write.length - 1);
    write(routine, ...Array.from({ length: write.length - 1 }, (_, i) => [0x20, ...leb(i)]));
    return routine;
  });
  const type = ({ parameters }) => [0x60, ...list(Array(parameters).fill(I32)), 0];
  const exported = Object.keys(writers).map((text, i) => [...name(text), 0, ...leb(i)]);
  return Uint8Array.of(
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
    ...part(1, made.map(type)),
    ...part(2, [[...name("m"), ...name("m"), 2, 0, 1]]),
    ...part(3, made.map((_, i) => leb(i))),
    ...part(7, exported),
    ...part(10, made.map(({ bytes }) => bytes)),
  );
}
