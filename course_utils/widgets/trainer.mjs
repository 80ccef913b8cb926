// A training in threads of its own, so that the page never waits for it. Asked {kind: "start",
// about, file}, {kind: "recall", about}, {kind: "pause"}, {kind: "go"} or {kind: "file"}, it
// tells of what happens: {kind: "news" | "text" | "learning" | "step" | "held" | "sample" |
// "paused" | "ended" | "file" | "nothing" | "error", …}. `about` is the page's
// training.json: the recipe, and where the text is found.

import { find, prepare } from "./corpus.mjs";
import { GPT } from "./gpt.mjs";
import { keep, recall } from "./kept.mjs";
import { Learner } from "./learner.mjs";
import { countedLines } from "./ngrams.mjs";
import { FileError, writeSafetensors } from "./safetensors.mjs";
import { draw, encode, filter } from "./sampler.mjs";
import { _ } from "./words.mjs";

const SAMPLES_EVERY = 40; // steps
const KEPT_EVERY_MS = 5000;
const PATIENCE_MS = 3000;
const LINES = 2; // that are written each time,
const [SHORTEST_SAMPLE, LONGEST_SAMPLE] = [60, 120]; // in so many characters
const LUCK = { temperature: 0.8, topK: null, topP: null, seed: 0 };

function tell(kind, content = {}, transfer = []) {
  self.postMessage({ kind, ...content }, transfer);
}

/** One more thread, asked a question at a time. */
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
  give(kind, numbers, content = {}) {
    const copy = numbers.slice();
    return this.ask(kind, { ...content, numbers: copy }, [copy.buffer]);
  }
}

/** How many threads share a batch: a power of two, most of the processor. */
function threadsFor(cores) {
  const some = Math.max(Math.min(cores, 2), Math.floor((3 * cores) / 4));
  return 2 ** Math.floor(Math.log2(Math.min(some, 8)));
}

/** After which steps the whole held-out text is read: at every line that may have been crossed. */
function evaluationsOf(steps) {
  const shares = [0.16, 0.3, 0.45, 0.6, 0.75, 0.9, 1].map((share) => Math.round(share * steps));
  return new Set([40, 100, ...shares]);
}

class Training {
  /** @param {object} about @param {{text: string}} found @param {object} [kept] to go on from */
  constructor(about, found, kept) {
    const { alphabet, ids, held } = prepare(found.text, about.model.context_length);
    const model = { ...about.model, vocab_size: alphabet.length };
    const { train } = about;
    this.threads = kept?.threads ?? threadsFor(navigator.hardwareConcurrency || 1);
    Object.assign(this, { found, alphabet, model, train, ids, held, kept: Boolean(kept) });
    this.recipe = recipeOf(about);
    this.learner = new Learner(model, train, ids, 0, this.threads);
    this.hands = Array.from({ length: this.threads - 1 }, () => new Hand());
    this.evaluations = evaluationsOf(train.steps);
    this.told = kept?.told ?? { losses: [], held: [], samples: [], elapsed_s: 0 };
    this.lines = kept?.lines ?? countedLines(ids, held, alphabet.length);
  }

  get step() {
    return this.told.losses.length;
  }

  get isOver() {
    return this.step === this.train.steps;
  }

  /** Ask all other threads at a time. @param {(hand: Hand, number: number) => Promise} ask */
  others(ask) {
    return Promise.all(this.hands.map((hand, i) => ask(hand, i + 1)));
  }

  async begin(kept) {
    const { model, train, ids, held, threads } = this;
    const all = { model, train, ids, held, threads };
    await this.others((hand, number) => hand.ask("begin", { ...all, number }));
    if (!kept) return this.learner.initialise();
    const { weights, memory } = kept;
    const state = (number) => ({ steps: this.step, weights, memory: memory[number] });
    this.learner.resume(state(0));
    return this.others((hand, number) => hand.ask("resume", state(number)));
  }

  /** Step after step, until all are done or somebody wants a pause. */
  async run() {
    this.paused = false;
    this.counted = performance.now();
    this.keptAt = this.kept ? this.counted : -Infinity; // what is new is kept at once
    tell("learning");
    while (!this.isOver && !this.paused) {
      await this.learn();
      this.report("step", { step: this.step, loss: this.told.losses.at(-1) });
      if (this.evaluations.has(this.step)) await this.evaluate();
      if (this.step === 1 || this.step % SAMPLES_EVERY === 0 || this.isOver) this.write();
      if (performance.now() > this.keptAt + KEPT_EVERY_MS) await this.keep();
      await aMoment();
    }
    await this.keep();
    this.rest();
  }

  rest() {
    tell(this.isOver ? "ended" : "paused", { kept: this.kept });
  }

  /** Tell the page, with the seconds that it took so far; pauses don't count. */
  report(kind, content) {
    const now = performance.now();
    this.told.elapsed_s += (now - this.counted) / 1000;
    this.counted = now;
    tell(kind, { ...content, elapsed_s: this.told.elapsed_s });
  }

  /** One step: all read; the first gathers and clips; all move; the first hears of it. */
  async learn() {
    const { learner } = this;
    const { allWeights, allGradients } = learner.network;
    const reading = this.others((hand) => hand.give("read", allWeights));
    let loss = learner.read();
    for (const theirs of await reading) {
      loss += theirs.loss;
      learner.gather(theirs.arrays[0]);
    }
    learner.clip();
    const moving = this.others((hand) => hand.give("move", allGradients));
    learner.move();
    (await moving).forEach(({ arrays }, i) => learner.take(arrays, i + 1));
    this.told.losses.push(loss);
  }

  /** The exact loss over the whole validation split, of which each thread reads a part. */
  async evaluate() {
    tell("news", { words: _`Reading the whole validation text …` });
    const { learner, held, threads } = this;
    const last = held.length - 1;
    const T = this.model.context_length; // windows are cut as for one thread
    const edge = (number) => Math.min(last, Math.ceil(last / T / threads) * T * number);
    const others = this.others((hand, number) => {
      const part = { from: edge(number), to: edge(number + 1) };
      return hand.give("hold", learner.network.allWeights, part);
    });
    let sum = learner.hold(held, 0, edge(1));
    for (const part of await others) sum += part.sum;
    this.report("held", { step: this.step, loss: sum / last });
    this.told.held.push({ step: this.step, loss: sum / last, elapsed_s: this.told.elapsed_s });
  }

  /** Two lines by the model as it is now. */
  write() {
    const gpt = new GPT({ config: this.model, weights: this.learner.weights });
    const { ids } = encode(this.alphabet, "\n");
    const all = ids.length ? ids : [this.ids[0]];
    let text = "";
    const isShort = () => text.split("\n").length <= LINES || text.length < SHORTEST_SAMPLE;
    while (all.length < LONGEST_SAMPLE && isShort()) {
      const logits = gpt.next(all.slice(-this.model.context_length));
      all.push(draw(filter(logits, LUCK).p, LUCK.seed, all.length));
      text = (text + this.alphabet[all.at(-1)]).trimStart();
    }
    this.told.samples.push({ step: this.step, text: text.trimEnd() });
    tell("sample", this.told.samples.at(-1));
  }

  async keep() {
    const theirs = await this.others((hand) => hand.ask("memory"));
    const memory = [this.learner.memory, ...theirs.map(({ arrays }) => arrays)];
    const { recipe, found, threads, told, lines } = this;
    const weights = this.learner.network.allWeights.slice();
    const state = { recipe, found, threads, told, lines, weights, memory };
    this.kept = await keep(state).then(
      () => true,
      () => false, // no room, or a window that keeps nothing: then the page is all there is
    );
    this.keptAt = performance.now();
  }

  /** All that a page has to draw. */
  describe() {
    const { found, lines, told, train, alphabet, ids, held, threads } = this;
    const sizes = { V: alphabet.length, learned: ids.length, heldOut: held.length, threads };
    const { name, note } = found;
    tell("text", { name, note, steps: train.steps, lines, ...told, ...sizes });
  }

  file() {
    const { model: config, alphabet, learner } = this;
    const about = { config, alphabet: alphabet.join("") };
    const bytes = writeSafetensors(about, learner.weights);
    tell("file", { bytes, step: this.step }, [bytes]);
  }
}

function recipeOf({ model, train }) {
  return JSON.stringify([model, train]);
}

/** Let what the page has said be heard. */
function aMoment() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** Only one page at a time trains: the browser keeps one training. */
async function alone(action) {
  if (!navigator.locks) return action(); // this browser can't tell
  const signal = AbortSignal.timeout(PATIENCE_MS); // a trainer that was let go may still hold it
  try {
    return await navigator.locks.request("course-training", { signal }, action);
  } catch (error) {
    if (error.name !== "TimeoutError") throw error;
    throw new FileError(_`Another tab of this page is training: pause it there first.`);
  }
}

let training;

const answers = {
  /** From noise, on the reader's own file or on what is found. */
  async start({ about, file }) {
    tell("news", { words: file ? _`Reading ${file.name} …` : _`Fetching the text …` });
    const found = await find(file, about.corpus);
    training = new Training(about, found);
    await training.begin();
    training.describe();
    await alone(() => training.run());
  },

  /** Where a training by this recipe stood, if one is kept: it waits for "go". */
  async recall({ about }) {
    const kept = await recall().catch(() => undefined); // where nothing may be kept, nothing is
    try {
      if (kept?.recipe !== recipeOf(about)) return tell("nothing");
      training = new Training(about, kept.found, kept);
      await training.begin(kept);
    } catch {
      return tell("nothing", { words: _`What was kept of a training can't be used: begin anew.` });
    }
    training.describe();
    return training.rest();
  },

  pause() {
    if (training) training.paused = true;
  },

  go: () => alone(() => training.run()),
  file: () => training.file(),
};

self.onmessage = async ({ data }) => {
  try {
    await answers[data.kind](data);
  } catch (error) {
    const known = error instanceof FileError;
    tell("error", { words: known ? error.message : _`Training stopped: ${error.message}.` });
  }
};
