// The texts of the models that are shown, side by side: what may follow the prompt, and what does.

import { calm, make } from "./elements.mjs";
import { Pane } from "./pane.mjs";
import { encode } from "./sampler.mjs";

const PAUSE_MS = 60; // between two paintings, each of which may show many new characters
const CALM_PAUSE_MS = 500; // for readers who want few things to move

export class Texts {
  /**
   * @param {import("./controls.mjs").Controls} controls
   * @param {import("./host.mjs").Host} host
   * @param {(said: string) => void} tell the reader what was done
   */
  constructor(controls, host, tell) {
    this.controls = controls;
    this.host = host;
    this.tell = tell;
    this.panes = [];
    this.element = make("div", { className: "sampler-panes" });
  }

  /** @param {{number: number, name: string, about: object}[]} models to be shown */
  put(models) {
    const settings = () => this.controls.settings();
    this.panes = models.map(({ number, name, about }) => {
      const ask = (ids, signal) => this.host.logits(number, ids, signal);
      return new Pane(name, about, { ask, settings, tell: this.tell });
    });
    this.element.replaceChildren(...this.panes.map(({ element }) => element));
  }

  /** Show what may follow the prompt, in every pane. */
  async guess(signal) {
    const guesses = this.panes.map((pane) => {
      pane.begin(this.prompt(pane));
      return pane.ready(signal);
    });
    await Promise.all(guesses);
    this.paint();
  }

  /**
   * @param {number} length characters to write in each pane
   * @param {boolean} anew from the prompt on, whatever has been written
   * @param {AbortSignal} signal
   */
  async write(length, anew, signal) {
    await Promise.all(this.panes.map((pane) => this.fill(pane, length, anew, signal)));
    this.paint();
  }

  async fill(pane, length, anew, signal) {
    const prompt = this.prompt(pane);
    if (anew || String(prompt) !== String(pane.prompt)) pane.begin(prompt);
    pane.text.point(null);
    for (let i = 0; i < length; i++) {
      await pane.ready(signal);
      pane.write();
      this.soon();
    }
    await pane.ready(signal);
  }

  prompt(pane) {
    return encode(pane.alphabet, this.controls.prompt.value).ids;
  }

  paint() {
    clearTimeout(this.painting);
    this.painting = null;
    for (const pane of this.panes) pane.paint();
  }

  /** Paint a little later, once for many characters. */
  soon() {
    this.painting ??= setTimeout(() => this.paint(), calm() ? CALM_PAUSE_MS : PAUSE_MS);
  }

  /** Whether changes are read aloud: not while texts are being written. */
  hush(silent) {
    for (const { bars } of this.panes) bars.hush(silent);
  }

  close() {
    clearTimeout(this.painting);
  }
}
