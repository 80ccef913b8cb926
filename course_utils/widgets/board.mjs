// What the reader sees of a training: buttons, how things stand, the curves, and what the models
// write.

import { Curve } from "./curve.mjs";
import { button, calm, make, takeDropped } from "./elements.mjs";
import { Lane, words } from "./lane.mjs";
import { Status } from "./status.mjs";
import { _ } from "./words.mjs";

const PAINT_MS = 250; // between two paintings of the curve
const CALM_PAINT_MS = 3000; // for readers who want few things to move
const SETTLED = 10; // steps, after which it can be told how long all will take
const MAIN = { empty: _`Train`, training: _`Pause`, paused: _`Go on`, ended: _`Train anew` };

export class Board {
  /** What the reader wants is told to these functions; the last two get a model's number. */
  constructor(el, { onMain, onAnew, onFile, onSave, onPlay }) {
    this.wishes = { onSave, onPlay };
    this.main = button(MAIN.empty, onMain, { className: "sampler-main" });
    this.anew = button(_`Start over`, onAnew);
    this.race = make("input", { type: "checkbox" });
    const accept = ".txt,text/plain,.safetensors";
    this.file = make("input", { type: "file", accept, multiple: true });
    this.file.addEventListener("change", onFile);
    this.status = new Status();
    this.numbers = make("p", { className: "training-numbers" });
    this.legend = make("ul", { className: "training-legend" });
    this.curve = new Curve();
    this.note = make("p", { className: "training-note" });
    this.samples = make("div", { className: "training-written" });
    this.mount(el);
  }

  mount(el) {
    const race = make("label", {}, this.race, _` 2, 4 and 6 layers race`);
    const files = [_`A text of yours, or weights: `, this.file];
    const own = make("label", { className: "sampler-file" }, ...files);
    const parts = [this.numbers, this.legend, this.curve.element, this.samples, this.note];
    this.result = make("div", {}, ...parts);
    el.classList.add("sampler", "training");
    el.replaceChildren(
      make("div", { className: "sampler-buttons" }, this.main, this.anew, race, own),
      this.status.element,
      this.result,
    );
    takeDropped(el, this.file);
  }

  /**
   * Let the buttons do what makes sense now.
   * @param {"empty" | "busy" | "training" | "paused" | "ended"} state
   * @param {boolean} plays whether the page has a widget that writes
   */
  settle(state, plays) {
    const still = ["paused", "ended"].includes(state);
    this.main.textContent = MAIN[state] ?? this.main.textContent;
    this.main.setAttribute("aria-disabled", state === "busy"); // and not disabled: it has the focus
    this.anew.hidden = state !== "paused";
    this.file.disabled = this.race.disabled = !still && state !== "empty";
    for (const lane of this.lanes ?? []) lane.settle(still, plays);
  }

  /** A training begins, or one that was kept is there again; none: there is nothing to show. */
  describe(training) {
    this.result.hidden = !training;
    if (!training) return;
    const { note, V, learned, heldOut, threads, runs, lines, steps, elapsed_s } = training;
    this.now = { step: runs[0].losses.length, steps, elapsed_s };
    const sizes = _`${words(learned)} characters to learn from, ${words(heldOut)} held out`;
    this.note.textContent = _`${note} ${sizes}, ${V} different; threads: ${threads}.`;
    this.race.checked = runs.length > 1;
    this.lanes = runs.map((run, i) => new Lane(run, i, runs.length, this.wishes));
    this.legend.replaceChildren(...this.lanes.map(({ element }) => element));
    this.samples.replaceChildren(...this.lanes.map(({ written }) => written));
    this.curve.put(lines, steps, this.lanes);
    this.paint();
  }

  learnt({ which, step, loss, elapsed_s }) {
    this.lanes[which].losses.push(loss);
    Object.assign(this.now, { step, elapsed_s });
    this.painting ??= setTimeout(() => this.paint(), calm() ? CALM_PAINT_MS : PAINT_MS);
  }

  measured({ which, step, loss, elapsed_s }) {
    const lane = this.lanes[which];
    const before = lane.crossed;
    lane.held.push({ step, loss });
    this.now.elapsed_s = elapsed_s;
    this.paint();
    if (which < this.lanes.length - 1) return; // told once all have been read
    const names = lane.crossed.filter((name) => !before.includes(name));
    const fresh = names.length && !lane.title ? _`: now below ${names.join(", ")}` : "";
    const said = _`Validation loss ${this.reached} after ${words(step)} steps`;
    this.status.say(_`${said}, ${Math.round(elapsed_s)} s${fresh}.`);
  }

  /** The last losses of all models over the whole validation split, in words. */
  get reached() {
    const loss = (lane) => lane.loss.toFixed(3) + (lane.title && ` (${lane.title})`);
    return this.lanes.map(loss).join(", ");
  }

  show({ which, ...sample }) {
    this.lanes[which].show(sample);
  }

  paint() {
    clearTimeout(this.painting);
    this.painting = null;
    this.curve.paint();
    for (const lane of this.lanes) lane.tell();
    const { step, steps, elapsed_s } = this.now;
    const all = _`Step ${words(step)} of ${words(steps)}`;
    const minutes = Math.ceil(((steps - step) * elapsed_s) / step / 60);
    const left = step >= SETTLED && minutes ? _`, about ${minutes} min to go` : "";
    this.numbers.textContent = _`${all} · ${Math.round(elapsed_s)} s${left}`;
  }
}
