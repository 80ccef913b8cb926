// The widget's inputs: what they ask for, what is wrong with it, and what a link keeps of them.

import { Choice } from "./choice.mjs";
import { make, unknownTo } from "./elements.mjs";
import { LARGEST_SEED, wrongSettings } from "./sampler.mjs";
import { _ } from "./words.mjs";

const LONGEST = 5000; // characters at a time

/** A range with its name and its value in words. */
class Slider {
  /**
   * @param {string} name
   * @param {{min: number, max: number, step: number, value: number}} range
   * @param {(slider: Slider) => string} words what its value means
   * @param {() => void} onInput
   */
  constructor(name, range, words, onInput) {
    this.words = words;
    this.input = make("input", { type: "range", ...range, "aria-label": name });
    this.output = make("output");
    this.element = make("label", {}, `${name} `, this.output, this.input);
    this.input.addEventListener("input", () => {
      this.tell();
      onInput();
    });
  }

  get value() {
    return Number(this.input.value);
  }

  /** Whether it stands at its upper end, where a filter cuts nothing. */
  get full() {
    return this.value >= Number(this.input.max);
  }

  tell() {
    this.output.textContent = this.words(this);
    this.input.setAttribute("aria-valuetext", this.output.textContent);
  }
}

export class Controls {
  /** Which inputs have changed is told to these functions. */
  constructor({ onPrompt, onSettings, onModel }) {
    const slider = (name, range, words) => new Slider(name, range, words, onSettings);
    const greedy = ({ value }) => (value === 0 ? _`0 (greedy)` : value.toFixed(2));
    const count = ({ value, full }) => (full ? _`off` : String(value));
    const share = ({ value, full }) => (full ? _`off` : value.toFixed(2));
    this.prompt = make("textarea", { rows: 2, spellcheck: false, "aria-label": _`Prompt` });
    this.temperature = slider(_`Temperature`, { min: 0, max: 2, step: 0.05, value: 0.8 }, greedy);
    this.topK = slider(_`Top-k`, { min: 1, max: 65, step: 1, value: 65 }, count);
    this.topP = slider(_`Top-p`, { min: 0.05, max: 1, step: 0.05, value: 1 }, share);
    this.seed = number(_`Seed`, { min: 0, max: LARGEST_SEED, value: 0 });
    this.length = number(_`Characters`, { min: 1, max: LONGEST, value: 400 });
    this.choice = new Choice(onModel);

    const field = (name, input) => make("label", {}, name, input);
    this.promptField = field(_`Prompt`, this.prompt);
    this.element = make(
      "div",
      { className: "sampler-controls" },
      this.temperature.element,
      this.topK.element,
      this.topP.element,
      field(_`Seed`, this.seed),
      field(_`Characters`, this.length),
      field(_`Model`, this.choice.list),
    );

    // By their names in a link and in Python.
    this.fields = {
      prompt: this.prompt,
      temperature: this.temperature.input,
      top_p: this.topP.input,
      seed: this.seed,
      length: this.length,
    };
    this.prompt.addEventListener("input", onPrompt);
    for (const input of [this.seed, this.length]) input.addEventListener("input", onSettings);
  }

  /** Begin with these settings; the inputs themselves refuse what is out of range. */
  take(settings) {
    for (const [name, input] of Object.entries(this.fields)) {
      if (settings[name] !== undefined) input.value = settings[name];
    }
    this.wantedK = settings.top_k; // until the size of the alphabet is known
    this.choice.take(settings);
  }

  /** What a link keeps: the text of the inputs. */
  kept() {
    const kept = {};
    for (const [name, input] of Object.entries(this.fields)) kept[name] = input.value;
    if (!this.topK.full) kept.top_k = this.topK.input.value;
    const { list, together } = this.choice;
    return { ...kept, model: list.value, together: together.checked };
  }

  /** Let top-k go up to the size of the largest alphabet. @param {number} most */
  fit(most) {
    const { topK } = this;
    const value = this.wantedK ?? (topK.full ? most : topK.value);
    topK.input.max = most;
    topK.input.value = value;
    this.wantedK = undefined;
    for (const slider of [this.temperature, topK, this.topP]) slider.tell();
  }

  /** @returns {import("./sampler.mjs").Settings} */
  settings() {
    return {
      temperature: this.temperature.value,
      topK: this.topK.full ? null : this.topK.value,
      topP: this.topP.full ? null : this.topP.value,
      seed: this.seed.value === "" ? NaN : Number(this.seed.value),
    };
  }

  /**
   * What is wrong with prompt and settings, as one sentence; else "".
   * @param {import("./pane.mjs").Pane[]} panes which must know the prompt's characters
   */
  problem(panes) {
    if (!this.prompt.value) return _`A prompt needs at least one character.`;
    for (const { alphabet, name } of panes) {
      const unknown = unknownTo(name, alphabet, this.prompt.value);
      if (unknown) return unknown;
    }
    const length = Number(this.length.value);
    const possible = Number.isInteger(length) && length >= 1 && length <= LONGEST;
    const lengths = _`Characters: a whole number from 1 to ${LONGEST}.`;
    return wrongSettings(this.settings()) || (possible ? "" : lengths);
  }
}

function number(name, range) {
  return make("input", { type: "number", step: 1, ...range, "aria-label": name });
}
