// A training in threads of its own, so that the page never waits for it. Asked {kind: "start",
// about, files, layers}, {kind: "recall", about}, {kind: "pause"}, {kind: "go"} or {kind: "file",
// which}, it tells of what happens: {kind: "news" | "text" | "learning" | "step" | "held" |
// "sample" | "paused" | "ended" | "file" | "nothing" | "error", …}. `about` is the page's
// training.json: the recipe, and where the text is found; `layers` are those of each model that is
// to learn, and `which` is one of these models, counted from 0.

import { find, prepare } from "./corpus.mjs";
import { Hands, threadsFor } from "./hands.mjs";
import { keep, recall } from "./kept.mjs";
import { canLearn } from "./network.mjs";
import { countedLines } from "./ngrams.mjs";
import { Runner } from "./runner.mjs";
import { FileError, readSafetensors } from "./safetensors.mjs";
import { _ } from "./words.mjs";

const SAMPLES_EVERY = 40; // steps
const KEPT_EVERY_MS = 5000;
const PATIENCE_MS = 3000;
const OTHER_KIND = _`A page can train only models of the laptop recipe's kind: rotary positions, \
normed queries and keys, no dropout.`;

function tell(kind, content = {}, transfer = []) {
  self.postMessage({ kind, ...content }, transfer);
}

/** After which steps the whole held-out text is read: at every line that may have been crossed. */
function evaluationsOf(steps) {
  const shares = [0.16, 0.3, 0.45, 0.6, 0.75, 0.9, 1].map((share) => Math.round(share * steps));
  return new Set([40, 100, ...shares]);
}

/** One text, and the models that learn it, a step each in turn: they see the same windows. */
class Training {
  /**
   * @param {object} about @param {{text: string}} found
   * @param {object[]} models each one's GPTConfig, but for the size of the alphabet
   * @param {string[]} [known] the alphabet, if the models have one
   * @param {object} [kept] to go on from
   */
  constructor(about, found, models, known, kept) {
    if (!models.every(canLearn)) throw new FileError(OTHER_KIND);
    const { alphabet, ids, held } = prepare(found.text, models[0].context_length, known);
    const threads = kept?.threads ?? threadsFor(navigator.hardwareConcurrency || 1);
    const hands = new Hands(threads);
    const task = { train: about.train, alphabet, ids, held, threads, hands };
    this.runners = models.map((model, which) => {
      const whole = { ...model, vocab_size: alphabet.length };
      return new Runner(which, whole, task, kept?.runs[which].told);
    });
    Object.assign(this, { found, task, kept: Boolean(kept), recipe: recipeOf(about) });
    this.evaluations = evaluationsOf(about.train.steps);
    this.elapsed_s = kept?.elapsed_s ?? 0;
    this.lines = kept?.lines ?? countedLines(ids, held, alphabet.length);
  }

  get isOver() {
    return this.runners[0].step === this.task.train.steps;
  }

  /** From what was kept, else from weights, else from noise. */
  async begin({ kept, weights }) {
    const { hands, train, ids, held, threads } = this.task;
    const models = this.runners.map(({ model }) => model);
    await hands.ask("begin", (number) => ({ models, train, ids, held, threads, number }));
    for (const runner of this.runners) {
      if (kept) await runner.resume(kept.runs[runner.which]);
      else if (weights) runner.learner.weights = weights;
      else runner.learner.initialise();
    }
  }

  /** Step after step, until all are done or somebody wants a pause. */
  async run() {
    this.paused = false;
    this.counted = performance.now();
    this.keptAt = this.kept ? this.counted : -Infinity; // what is new is kept at once
    tell("learning");
    while (!this.isOver && !this.paused) {
      for (const runner of this.runners) await this.turn(runner);
      if (performance.now() > this.keptAt + KEPT_EVERY_MS) await this.keep();
      await aMoment();
    }
    await this.keep();
    this.rest();
  }

  /** One model's step, and what comes with it. */
  async turn(runner) {
    const { which } = runner;
    this.report("step", { which, ...(await runner.learn()) });
    if (this.evaluations.has(runner.step)) {
      tell("news", { words: _`Reading the whole validation text …` });
      this.report("held", { which, ...(await runner.evaluate()) });
    }
    const writes = runner.step === 1 || runner.step % SAMPLES_EVERY === 0 || this.isOver;
    if (writes) tell("sample", { which, ...runner.write() });
  }

  rest() {
    tell(this.isOver ? "ended" : "paused", { kept: this.kept });
  }

  /** Tell the page, with the seconds that it took so far; pauses don't count. */
  report(kind, content) {
    const now = performance.now();
    this.elapsed_s += (now - this.counted) / 1000;
    this.counted = now;
    tell(kind, { ...content, elapsed_s: this.elapsed_s });
  }

  async keep() {
    const { recipe, found, lines, elapsed_s, task, runners } = this;
    const runs = [];
    for (const runner of runners) runs.push(await runner.state());
    const { threads, alphabet } = task;
    this.kept = await keep({ recipe, found, lines, elapsed_s, threads, alphabet, runs }).then(
      () => true,
      () => false, // no room, or a window that keeps nothing: then the page is all there is
    );
    this.keptAt = performance.now();
  }

  /** All that a page has to draw. */
  describe() {
    const { found, lines, elapsed_s, task, runners } = this;
    const { train, alphabet, ids, held, threads } = task;
    const sizes = { V: alphabet.length, learned: ids.length, heldOut: held.length, threads };
    const runs = runners.map(({ name, told }) => ({ name, ...told }));
    tell("text", { note: found.note, steps: train.steps, lines, elapsed_s, ...sizes, runs });
  }

  file(which) {
    const runner = this.runners[which];
    const bytes = runner.file();
    tell("file", { bytes, step: runner.step, layers: runner.model.n_layers }, [bytes]);
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
  /** From the reader's own weights, or noise, on their own text, or on what is found. */
  async start({ about, files, layers }) {
    const own = files.find(({ name }) => name.endsWith(".safetensors"));
    const file = files.find((other) => other !== own);
    tell("news", { words: file ? _`Reading ${file.name} …` : _`Fetching the text …` });
    const { config, alphabet, weights } = own ? readSafetensors(await own.arrayBuffer()) : {};
    const found = await find(file, about.corpus);
    if (own) found.note += _` Going on from ${own.name}, with a fresh optimiser state.`;
    const models = own ? [config] : layers.map((n_layers) => ({ ...about.model, n_layers }));
    training = new Training(about, found, models, alphabet);
    await training.begin({ weights });
    training.describe();
    await alone(() => training.run());
  },

  /** Where a training by this recipe stood, if one is kept: it waits for "go". */
  async recall({ about }) {
    const kept = await recall().catch(() => undefined); // where nothing may be kept, nothing is
    try {
      if (kept?.recipe !== recipeOf(about)) return tell("nothing");
      const models = kept.runs.map(({ model }) => model);
      training = new Training(about, kept.found, models, kept.alphabet, kept);
      await training.begin({ kept });
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
  file: ({ which }) => training.file(which),
};

self.onmessage = async ({ data }) => {
  try {
    await answers[data.kind](data);
  } catch (error) {
    const known = error instanceof FileError;
    tell("error", { words: known ? error.message : _`Training stopped: ${error.message}.` });
  }
};
