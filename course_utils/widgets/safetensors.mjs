// A checkpoint of course_utils/training/checkpoints.py, read with suspicion: nothing in a file is
// executed, and what it claims is held against what stands in it.

/** A file can't be used; the message is one sentence that says why. */
export class FileError extends Error {}

const FORMAT = "1"; // as in course_utils/files.py
const SIZES = ["vocab_size", "context_length", "n_layers", "n_heads", "d_model", "d_ff"];
const CHOICES = {
  position: ["learned", "sinusoidal", "rope", "none"],
  norm: ["layernorm", "rmsnorm", "none"],
  norm_placement: ["pre", "post"],
  activation: ["gelu", "relu", "relu2", "swiglu"],
  tie_embeddings: [true, false],
  qk_norm: [true, false],
  residual: [true, false],
};
const BYTES = { F32: 4, F16: 2, BF16: 2, I8: 1 };
const GROUP = 16; // neighbours in a row of an I8 matrix that share a scale
const MOST = 2 ** 28; // numbers in a cache; a file that asks for more is not one of this course

function check(holds, problem) {
  if (!holds) throw new FileError(problem);
}

/**
 * Read what save_model has written. Beside an I8 matrix (O, I) lies "NAME.scale".
 * @param {ArrayBuffer} buffer
 * @returns {{config: object, alphabet: string[], weights: Record<string, Float32Array>}}
 */
export function readSafetensors(buffer) {
  const view = new DataView(buffer);
  check(buffer.byteLength >= 8, "This is not a safetensors file: it is too short.");
  const size = Number(view.getBigUint64(0, true));
  const start = 8 + size;
  const whole = start <= buffer.byteLength && size <= 1e7;
  check(whole, "This is not a safetensors file, or it is cut short.");
  const header = parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const about = parse(header.__metadata__?.course ?? "{}");
  const ours = `This safetensors file is not a checkpoint of this course in format ${FORMAT}.`;
  check(about.format === FORMAT, ours);
  const config = checkConfig(about.config);
  const alphabet = typeof about.alphabet === "string" ? [...about.alphabet] : [];
  const distinct = new Set(alphabet).size === alphabet.length;
  const fits = distinct && alphabet.length === config.vocab_size;
  check(fits, "Its alphabet does not fit the model that it describes.");
  const read = (name, shape) => {
    const tensor = Object.hasOwn(header, name) ? header[name] : null;
    return readTensor(buffer, start, tensor, shape);
  };
  const weights = {};
  for (const [name, shape] of Object.entries(shapes(config))) {
    const values = (weights[name] = read(name, shape));
    if (header[name].dtype === "I8") {
      rescale(values, read(`${name}.scale`, [shape[0], shape[1] / GROUP]));
    }
    let zero = 0; // a loop: `every` calls a function for each of millions
    for (let i = 0; i < values.length; i++) zero += 0 * values[i];
    check(zero === 0, "It holds weights that are not numbers.");
  }
  return { config, alphabet, weights };
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    /* the same sentence for both */
  }
  throw new FileError("This is not a safetensors file: its header can't be read.");
}

function checkConfig(config) {
  const problem = "It describes no model of this course.";
  check(typeof config === "object" && config !== null, problem);
  for (const name of SIZES) check(Number.isInteger(config[name]) && config[name] >= 1, problem);
  for (const [name, allowed] of Object.entries(CHOICES)) {
    check(allowed.includes(config[name]), problem);
  }
  const d = config.d_model / config.n_heads;
  check(Number.isInteger(d) && !(config.position === "rope" && d % 2), problem);
  const cached = 2 * config.n_layers * config.context_length * config.d_model;
  check(cached <= MOST, "Its model is too large for a page.");
  return config;
}

/** The weights that a model has, and their shapes: the names of its state_dict. */
function shapes(config) {
  const { vocab_size: V, context_length: T, d_model: C, d_ff: F } = config;
  const halves = config.activation === "swiglu" ? 2 : 1;
  const shapes = { "embedding.weight": [V, C] };
  if (config.position === "learned") shapes.positions = [T, C];
  for (let i = 0; i < config.n_layers; i++) {
    shapes[`blocks.${i}.attention.qkv.weight`] = [3 * C, C];
    shapes[`blocks.${i}.attention.out.weight`] = [C, C];
    shapes[`blocks.${i}.feed_forward.up.weight`] = [halves * F, C];
    shapes[`blocks.${i}.feed_forward.out.weight`] = [C, F];
    if (config.norm === "none") continue;
    shapes[`blocks.${i}.norm_1.weight`] = [C];
    shapes[`blocks.${i}.norm_2.weight`] = [C];
  }
  if (config.norm_placement === "pre" && config.norm !== "none") shapes["norm.weight"] = [C];
  if (!config.tie_embeddings) shapes["head.weight"] = [V, C];
  return shapes;
}

function readTensor(buffer, start, about, shape) {
  const { dtype, shape: said, data_offsets: offsets } = about ?? {};
  const count = shape.reduce((a, b) => a * b);
  const same = Array.isArray(said) && said.length === shape.length;
  const fits = same && shape.every((n, i) => n === said[i]);
  check(fits, "Its weights do not fit the model that it describes.");
  const kinds = `Its weights must be of the kinds ${Object.keys(BYTES).join(", ")}.`;
  check(Object.hasOwn(BYTES, dtype), kinds);
  const [from, to] = Array.isArray(offsets) ? offsets : [];
  const fills = Number.isInteger(from) && from >= 0 && to - from === count * BYTES[dtype];
  const there = fills && start + to <= buffer.byteLength;
  check(there, "It is cut short, or its header is wrong about the sizes.");
  // A copy, because its place need not be a multiple of 4.
  return numbers(buffer.slice(start + from, start + to), dtype);
}

/** @param {ArrayBuffer} bytes @returns {Float32Array} */
function numbers(bytes, dtype) {
  if (dtype === "F32") return new Float32Array(bytes);
  if (dtype === "I8") return new Float32Array(new Int8Array(bytes));
  if (dtype === "F16") return fromHalf(new Uint16Array(bytes));
  const bits = new Uint32Array(new Uint16Array(bytes));
  for (let i = 0; i < bits.length; i++) bits[i] <<= 16; // the upper half of a float32
  return new Float32Array(bits.buffer);
}

/** Half precision, five bits of exponent. Browsers are only now getting a Float16Array. */
function fromHalf(halves) {
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = HALVES[halves[i]];
  return values;
}

/** The value of every half: looked up, millions are read in milliseconds. */
const HALVES = Float32Array.from({ length: 2 ** 16 }, (_, half) => {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const sign = half >> 15 ? -1 : 1;
  if (exponent === 31) return sign * (fraction ? NaN : Infinity);
  const leading = exponent ? 1024 : 0; // the smallest numbers have no leading 1
  return sign * (leading + fraction) * 2 ** (Math.max(exponent, 1) - 25);
});

/** Multiply each group by its scale, in place. */
function rescale(values, scales) {
  for (let i = 0; i < values.length; i++) values[i] *= scales[Math.floor(i / GROUP)];
}
