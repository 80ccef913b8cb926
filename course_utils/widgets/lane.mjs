// One model among those that are trained: its line of the legend, and what it writes.

import { button, make } from "./elements.mjs";
import { _ } from "./words.mjs";

const SHOWN_SAMPLES = 6; // of all models together

/** A number as it is read. */
export function words(number) {
  return number.toLocaleString("en");
}

export class Lane {
  /**
   * @param {object} run {name, losses, held: whole readings, samples}
   * @param {number} which @param {number} count of the models that are trained
   * @param {{onSave: function, onPlay: function}} wishes are told of it
   */
  constructor(run, which, count, { onSave, onPlay }) {
    Object.assign(this, { ...run, count });
    this.losses = [...run.losses];
    this.held = [...run.held];
    this.crossed = []; // names of counted lines
    this.title = count > 1 ? run.name : ""; // a single model needs none
    const named = (label) => (this.title ? { "aria-label": _`${label} of ${this.title}` } : {});
    const offer = (label, wish) => button(label, () => wish(which), named(label));
    this.save = offer(_`Download the weights`, onSave);
    this.play = offer(_`Write with it`, onPlay);
    this.told = make("span");
    const mark = make("span", { className: "training-key", "aria-hidden": "true" });
    mark.hidden = !this.title;
    this.element = make("li", {}, mark, this.told, this.save, this.play);
    this.written = make("dl", { className: "training-samples" });
    this.element.dataset.run = this.written.dataset.run = which;
    for (const sample of run.samples) this.show(sample);
  }

  /** @param {boolean} still the weights can be had @param {boolean} plays and played with */
  settle(still, plays) {
    this.save.hidden = !still;
    this.play.hidden = !still || !plays;
  }

  get loss() {
    return this.held.at(-1)?.loss;
  }

  /** How it stands, in words. */
  tell() {
    const parts = [];
    if (this.title) parts.push(this.title);
    if (this.losses.length) parts.push(_`loss of the last batch ${this.losses.at(-1).toFixed(2)}`);
    if (this.loss) parts.push(_`validation loss ${this.loss.toFixed(3)}`);
    if (this.crossed.length) parts.push(_`below the ${this.crossed.at(-1)}`);
    this.told.textContent = parts.join(" · ");
  }

  /** What the model writes by now, above what it wrote before. */
  show({ step, text }) {
    const name = this.title && `${this.title}, `;
    const after = step === 1 ? _`after 1 step` : _`after ${words(step)} steps`;
    this.written.prepend(make("dt", {}, name + after), make("dd", {}, text));
    const most = (2 * SHOWN_SAMPLES) / this.count;
    while (this.written.children.length > most) this.written.lastChild.remove();
  }
}
