// One model at work: its text, drawn a character at a time, and the bars of one of them.

import { Bars } from "./bars.mjs";
import { make } from "./elements.mjs";
import { draw, filter, windowStart, wrongSettings } from "./sampler.mjs";
import { Text } from "./text.mjs";

export class Pane {
  /**
   * @param {string} name of the model
   * @param {{alphabet: string, context: number}} about it
   * @param {object} around the pane
   * @param {(ids: number[], signal: AbortSignal) => Promise<Float32Array>} around.ask for the
   *   logits of what follows
   * @param {() => import("./sampler.mjs").Settings} around.settings those of now
   * @param {(said: string) => void} around.tell the reader what was done
   */
  constructor(name, { alphabet, context }, { ask, settings, tell }) {
    Object.assign(this, { name, context, ask, settings });
    this.alphabet = [...alphabet];
    this.text = new Text(name, () => this.paint(), tell);
    this.bars = new Bars(name, this.alphabet);
    const parts = [this.text.element, this.bars.element];
    this.element = make("div", { className: "sampler-pane" }, ...parts);
    this.begin([]);
  }

  /** Start anew after a prompt. @param {number[]} prompt */
  begin(prompt) {
    this.prompt = prompt;
    this.ids = [...prompt];
    this.written = []; // {token, logits: those that it was drawn by}
    this.next = null; // the logits of what follows, once they are known
    this.text.begin(prompt.map((id) => this.alphabet[id]).join(""));
  }

  /** The logits of what follows the text, asked for once. */
  async ready(signal) {
    const seen = this.ids.slice(windowStart(this.ids.length, this.context));
    this.next ??= await this.ask(seen, signal);
  }

  /** Write one character: the logits are ready. */
  write() {
    const settings = this.settings();
    const { p } = filter(this.next, settings);
    const token = draw(p, settings.seed, this.written.length);
    this.written.push({ token, logits: this.next });
    this.ids.push(token);
    this.next = null;
  }

  /** Show what has been written since, and the bars by the settings of now. No model is asked. */
  paint() {
    const fresh = this.written.slice(this.text.letters.length);
    this.text.append(fresh.map(({ token }) => this.alphabet[token]));
    const explained = this.explained();
    this.element.classList.toggle("sampler-empty", !explained);
    const settings = this.settings();
    if (explained && !wrongSettings(settings)) this.bars.explain(explained, settings);
  }

  /** The character that the bars are about: the one pointed at, else the next, else the last. */
  explained() {
    if (this.text.at !== null) return this.written[this.text.at];
    return this.next ? { logits: this.next } : this.written.at(-1);
  }
}
