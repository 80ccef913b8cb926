// "Train it here": a model that learns in the page, from noise, while the reader watches its loss
// cross the lines that counting has drawn, and what it writes become verse. This shell shows what
// trainer.mjs tells of, and tells it what the reader wants.

import { Curve } from "./curve.mjs";
import { make } from "./elements.mjs";
import { Status } from "./frame.mjs";

const PAINT_MS = 250; // between two paintings of the curve
const CALM_PAINT_MS = 3000; // for readers who want few things to move
const SHOWN_SAMPLES = 5;
const SAMPLER = ".sampler-place.sampler"; // the widget that writes, if the page has it
const MAIN = { empty: "Train", training: "Pause", paused: "Go on", ended: "Train anew" };

export default {
  /** @param {{el: Element, about: object}} place about: training.json, with whole addresses */
  render({ el, about }) {
    new Training(el, about);
  },
};

class Training {
  constructor(el, about) {
    Object.assign(this, { about, title: document.title });
    this.problem = ""; // that is to be told once things have settled
    this.rests = false; // because nobody looks
    const button = (name, onclick) => make("button", { type: "button", onclick }, name);
    this.main = button(MAIN.empty, () => this.press());
    this.main.className = "sampler-main";
    this.anew = button("Start over", () => this.start());
    this.save = button("Download the weights", () => this.have("save"));
    this.play = button("Write with it", () => this.have("play"));
    this.file = make("input", { type: "file", accept: ".txt,text/plain" });
    this.file.addEventListener("change", () => this.start());
    this.own = make("label", { className: "sampler-file" }, "A text of yours: ", this.file);
    this.status = new Status();
    this.numbers = make("p", { className: "training-numbers" });
    this.curve = new Curve();
    this.note = make("p", { className: "training-note" });
    this.samples = make("dl", { className: "training-samples" });
    const parts = [this.numbers, this.curve.element, this.note, this.samples];
    this.result = make("div", { className: "training-result" }, ...parts);
    const buttons = [this.main, this.anew, this.save, this.play, this.own];
    el.classList.add("sampler", "training");
    el.replaceChildren(
      make("div", { className: "sampler-buttons" }, ...buttons),
      this.status.element,
      this.result,
    );
    for (const name of ["dragover", "dragleave", "drop"]) {
      el.addEventListener(name, (event) => this.dragged(event, el));
    }
    document.addEventListener("visibilitychange", () => this.looked());
    this.call("recall");
  }

  /** A trainer of our own; one that was there before is let go. */
  call(kind, content = {}) {
    this.worker?.terminate();
    this.worker = new Worker(new URL("trainer.mjs", this.about.parts), { type: "module" });
    this.worker.onmessage = ({ data }) => this.hear[data.kind](data);
    this.worker.onerror = () => this.become("empty", "This browser can't train the model.");
    this.now = {}; // {step, steps, loss, elapsed_s}, once there is a training
    this.become("busy");
    this.ask(kind, { about: this.about, ...content });
  }

  ask(kind, content = {}) {
    this.worker.postMessage({ kind, ...content });
  }

  /** Have the weights as a file. @param {string} wanted what for */
  have(wanted) {
    this.wanted = wanted;
    this.ask("file");
  }

  hear = {
    nothing: (content) => this.become("empty", content.words),
    news: (content) => this.status.say(content.words),
    text: (content) => this.describe(content),
    learning: () => {
      this.become("training", "Learning …");
      this.looked();
    },
    step: (content) => this.learnt(content),
    held: (content) => this.measured(content),
    sample: (content) => this.show(content),
    paused: (content) => this.stopped(content),
    ended: (content) => this.ended(content),
    file: (content) => this.take(content),
    error: (content) => this.failed(content.words),
  };

  /** The one button that means what makes sense now. */
  press() {
    if (this.state === "busy") return;
    if (this.state === "training") this.pause("Pausing …");
    else if (this.state === "paused") this.go();
    else this.start();
  }

  start() {
    this.call("start", { file: this.file.files[0] });
  }

  go() {
    this.rests = false;
    this.become("busy");
    this.ask("go");
  }

  pause(news) {
    this.become("busy", news);
    this.ask("pause");
  }

  /** A tab that nobody sees rests, and goes on by itself when somebody does. */
  looked() {
    if (document.hidden && this.state === "training") {
      this.rests = true;
      this.pause("Paused while this tab is hidden.");
    } else if (!document.hidden && this.rests && this.state === "paused") {
      this.go();
    }
    document.title = document.hidden && this.rests ? `Paused · ${this.title}` : this.title;
  }

  stopped({ kept }) {
    const { step, steps } = this.now;
    const where = kept ? "kept in this browser" : "not kept, so leave the page open";
    this.become("paused", `Paused after ${words(step)} of ${words(steps)} steps; ${where}.`);
    this.looked();
  }

  ended({ kept }) {
    const loss = this.curve.held.at(-1).loss.toFixed(3);
    const where = kept ? ", and kept in this browser" : "";
    this.become("ended", `Trained: validation loss ${loss}. The weights are yours${where}.`);
  }

  /** What could not be done leaves a training that was kept before as it is. */
  failed(problem) {
    this.file.value = "";
    this.problem = problem;
    this.call("recall");
  }

  /** Let the buttons do what makes sense now. */
  become(state, news = "") {
    this.state = state;
    const still = ["paused", "ended"].includes(state);
    this.main.textContent = MAIN[state] ?? this.main.textContent;
    this.main.setAttribute("aria-disabled", state === "busy"); // and not disabled: it has the focus
    this.result.hidden = !this.now.steps;
    this.anew.hidden = state !== "paused";
    this.save.hidden = !still;
    this.play.hidden = !still || !document.querySelector(SAMPLER);
    this.file.disabled = !still && state !== "empty";
    this.status.say(this.problem || news, Boolean(this.problem));
    if (state !== "busy") this.problem = "";
  }

  /** A training begins, or one that was kept is there again. */
  describe({ note, V, learned, heldOut, samples, threads, elapsed_s, ...curve }) {
    const { steps, losses } = curve;
    this.now = { step: losses.length, steps, loss: losses.at(-1), elapsed_s };
    const sizes = `${words(learned)} characters to learn from, ${words(heldOut)} held out`;
    this.note.textContent = `${note} ${sizes}, ${V} different; threads: ${threads}.`;
    this.samples.replaceChildren();
    this.become("busy");
    this.curve.put(curve);
    for (const sample of samples) this.show(sample);
    this.paint();
  }

  measured({ step, loss, elapsed_s }) {
    const before = this.curve.crossed.length;
    this.curve.held.push({ step, loss });
    const names = this.curve.crossed.slice(before).map(({ name }) => name);
    const said = `Validation loss ${loss.toFixed(3)} after ${step} steps`;
    const crossed = names.length ? `: now below ${names.join(", ")}` : "";
    this.status.say(`${said}, ${Math.round(elapsed_s)} s${crossed}.`);
    this.now.elapsed_s = elapsed_s;
    this.paint();
  }

  /** What the model writes by now, above what it wrote before. */
  show({ step, text }) {
    const after = make("dt", {}, `after ${step} ${step === 1 ? "step" : "steps"}`);
    this.samples.prepend(after, make("dd", {}, text));
    while (this.samples.children.length > 2 * SHOWN_SAMPLES) this.samples.lastChild.remove();
  }

  learnt({ step, loss, elapsed_s }) {
    this.curve.losses.push(loss);
    Object.assign(this.now, { step, loss, elapsed_s });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.painting ??= setTimeout(() => this.paint(), calm ? CALM_PAINT_MS : PAINT_MS);
  }

  paint() {
    clearTimeout(this.painting);
    this.painting = null;
    this.curve.paint();
    const { step, steps, loss, elapsed_s } = this.now;
    const by = `Step ${words(step)} of ${words(steps)}`;
    const nats = loss === undefined ? "" : ` · loss of the last batch ${loss.toFixed(2)}`;
    this.numbers.textContent = `${by}${nats} · ${Math.round(elapsed_s)} s`;
  }

  /** The weights as a file: to be saved, or for the sampling widget. */
  take({ bytes, step }) {
    const file = new File([bytes], `trained-in-the-page_${step}-steps.safetensors`);
    if (this.wanted === "play") {
      document.querySelector(SAMPLER).scrollIntoView({ block: "start" });
      document.dispatchEvent(new CustomEvent("course-model", { detail: file }));
      return;
    }
    const link = make("a", { href: URL.createObjectURL(file), download: file.name });
    link.click();
    URL.revokeObjectURL(link.href);
    this.status.say(`${file.name} is saved: \`load_model\` opens it.`);
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
    this.start();
  }
}

function words(number) {
  return number.toLocaleString("en");
}
