// What the reader sees of a training: buttons, how things stand, the curve, and what the model
// writes.

import { Curve } from "./curve.mjs";
import { make } from "./elements.mjs";
import { Status } from "./frame.mjs";
import { _ } from "./words.mjs";

const PAINT_MS = 250; // between two paintings of the curve
const CALM_PAINT_MS = 3000; // for readers who want few things to move
const SHOWN_SAMPLES = 5;
const MAIN = { empty: _`Train`, training: _`Pause`, paused: _`Go on`, ended: _`Train anew` };

export class Board {
  /** What the reader wants is told to these functions. */
  constructor(el, { onMain, onAnew, onSave, onPlay, onFile }) {
    const button = (name, onclick) => make("button", { type: "button", onclick }, name);
    this.main = button(MAIN.empty, onMain);
    this.main.className = "sampler-main";
    this.anew = button(_`Start over`, onAnew);
    this.save = button(_`Download the weights`, onSave);
    this.play = button(_`Write with it`, onPlay);
    this.file = make("input", { type: "file", accept: ".txt,text/plain" });
    this.file.addEventListener("change", onFile);
    this.onFile = onFile;
    this.status = new Status();
    this.numbers = make("p", { className: "training-numbers" });
    this.curve = new Curve();
    this.note = make("p", { className: "training-note" });
    this.samples = make("dl", { className: "training-samples" });
    this.mount(el);
  }

  mount(el) {
    const own = make("label", { className: "sampler-file" }, _`A text of yours: `, this.file);
    const buttons = [this.main, this.anew, this.save, this.play, own];
    const parts = [this.numbers, this.curve.element, this.note, this.samples];
    this.result = make("div", {}, ...parts);
    el.classList.add("sampler", "training");
    el.replaceChildren(
      make("div", { className: "sampler-buttons" }, ...buttons),
      this.status.element,
      this.result,
    );
    for (const name of ["dragover", "dragleave", "drop"]) {
      el.addEventListener(name, (event) => this.dragged(event, el));
    }
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
    this.save.hidden = !still;
    this.play.hidden = !still || !plays;
    this.file.disabled = !still && state !== "empty";
  }

  /** A training begins, or one that was kept is there again; none: there is nothing to show. */
  describe(training) {
    this.result.hidden = !training;
    if (!training) return;
    const { note, V, learned, heldOut, samples, threads, elapsed_s, ...curve } = training;
    const { steps, losses } = curve;
    this.now = { step: losses.length, steps, loss: losses.at(-1), elapsed_s };
    const sizes = _`${words(learned)} characters to learn from, ${words(heldOut)} held out`;
    this.note.textContent = _`${note} ${sizes}, ${V} different; threads: ${threads}.`;
    this.samples.replaceChildren();
    this.curve.put(curve);
    for (const sample of samples) this.show(sample);
    this.paint();
  }

  learnt({ step, loss, elapsed_s }) {
    this.curve.losses.push(loss);
    Object.assign(this.now, { step, loss, elapsed_s });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.painting ??= setTimeout(() => this.paint(), calm ? CALM_PAINT_MS : PAINT_MS);
  }

  measured({ step, loss, elapsed_s }) {
    const before = this.curve.crossed.length;
    this.curve.held.push({ step, loss });
    const names = this.curve.crossed.slice(before).map(({ name }) => name);
    const said = _`Validation loss ${loss.toFixed(3)} after ${words(step)} steps`;
    const crossed = names.length ? _`: now below ${names.join(", ")}` : "";
    this.status.say(_`${said}, ${Math.round(elapsed_s)} s${crossed}.`);
    this.now.elapsed_s = elapsed_s;
    this.paint();
  }

  /** What the model writes by now, above what it wrote before. */
  show({ step, text }) {
    const after = make("dt", {}, step === 1 ? _`after 1 step` : _`after ${words(step)} steps`);
    this.samples.prepend(after, make("dd", {}, text));
    while (this.samples.children.length > 2 * SHOWN_SAMPLES) this.samples.lastChild.remove();
  }

  paint() {
    clearTimeout(this.painting);
    this.painting = null;
    this.curve.paint();
    const { step, steps, loss, elapsed_s } = this.now;
    const nats = loss === undefined ? "" : _` · loss of the last batch ${loss.toFixed(2)}`;
    const all = _`Step ${words(step)} of ${words(steps)}${nats}`;
    this.numbers.textContent = _`${all} · ${Math.round(elapsed_s)} s`;
  }

  dragged(event, el) {
    const { dataTransfer, relatedTarget, type } = event;
    const leaves = type === "dragleave" && !el.contains(relatedTarget);
    if (type === "drop" || leaves) el.classList.remove("sampler-dragged");
    if (type === "dragleave" || !dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // or the browser shows the file itself
    if (this.file.disabled) return;
    if (type === "dragover") el.classList.add("sampler-dragged");
    if (type !== "drop") return;
    this.file.files = dataTransfer.files; // so that its name is shown
    this.onFile();
  }
}

/** A number as it is read. */
export function words(number) {
  return number.toLocaleString("en");
}
