// "Train one yourself": a model that learns in the page, from noise, while the reader watches its
// loss cross the lines that counting has drawn, and what it writes become verse. This shell tells
// trainer.mjs what the reader wants, and board.mjs what the trainer tells.

import { Board, words } from "./board.mjs";
import { _ } from "./words.mjs";

const SAMPLER = ".sampler-place.sampler"; // the widget that writes, if the page has it

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
    this.board = new Board(el, {
      onMain: () => this.press(),
      onAnew: () => this.start(),
      onSave: () => this.have("save"),
      onPlay: () => this.have("play"),
      onFile: () => this.start(),
    });
    document.addEventListener("visibilitychange", () => this.looked());
    this.call("recall");
  }

  /** A trainer of our own; one that was there before is let go. */
  call(kind, content = {}) {
    this.worker?.terminate();
    this.worker = new Worker(new URL("trainer.mjs", this.about.parts), { type: "module" });
    this.worker.onmessage = ({ data }) => this.hear[data.kind](data);
    this.worker.onerror = () => this.become("empty", _`This browser can't train the model.`);
    this.become("busy");
    this.board.describe(null);
    this.ask(kind, { about: this.about, ...content });
  }

  ask(kind, content = {}) {
    this.worker.postMessage({ kind, ...content });
  }

  /** What the trainer tells of. */
  hear = {
    nothing: (told) => this.become("empty", told.words),
    news: (told) => this.board.status.say(told.words),
    text: (told) => this.board.describe(told),
    learning: () => {
      this.become("training", _`Learning …`);
      this.looked();
    },
    step: (told) => this.board.learnt(told),
    held: (told) => this.board.measured(told),
    sample: (told) => this.board.show(told),
    paused: (told) => this.stopped(told),
    ended: (told) => this.ended(told),
    file: (told) => this.take(told),
    error: (told) => this.failed(told.words),
  };

  become(state, news = "") {
    this.state = state;
    this.board.settle(state, document.querySelector(SAMPLER) !== null);
    this.board.status.say(this.problem || news, Boolean(this.problem));
    if (state !== "busy") this.problem = "";
  }

  /** The one button that means what makes sense now. */
  press() {
    if (this.state === "training") this.pause(_`Pausing …`);
    else if (this.state === "paused") this.go();
    else if (this.state !== "busy") this.start();
  }

  start() {
    this.call("start", { file: this.board.file.files[0] });
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
      this.pause(_`Paused while this tab is hidden.`);
    } else if (!document.hidden && this.rests && this.state === "paused") {
      this.go();
    }
    document.title = document.hidden && this.rests ? _`Paused · ${this.title}` : this.title;
  }

  stopped({ kept }) {
    const { step, steps } = this.board.now;
    const where = kept ? _`kept in this browser` : _`not kept, so leave the page open`;
    this.become("paused", _`Paused after ${words(step)} of ${words(steps)} steps; ${where}.`);
    this.looked();
  }

  ended({ kept }) {
    this.rests = false;
    const loss = this.board.curve.held.at(-1).loss.toFixed(3);
    const where = kept ? _`, and kept in this browser` : "";
    this.become("ended", _`Trained: validation loss ${loss}. The weights are yours${where}.`);
    this.looked();
  }

  /** What could not be done leaves a training that was kept before as it is. */
  failed(problem) {
    this.board.file.value = "";
    this.problem = problem;
    this.call("recall");
  }

  /** Have the weights as a file. @param {"save" | "play"} wanted what for */
  have(wanted) {
    this.wanted = wanted;
    this.ask("file");
  }

  take({ bytes, step }) {
    const file = new File([bytes], `trained-in-the-page_${step}-steps.safetensors`);
    if (this.wanted === "play") {
      document.querySelector(SAMPLER).scrollIntoView({ block: "start" });
      document.dispatchEvent(new CustomEvent("course-model", { detail: file }));
      return;
    }
    const link = { href: URL.createObjectURL(file), download: file.name };
    Object.assign(document.createElement("a"), link).click();
    URL.revokeObjectURL(link.href);
    this.board.status.say(_`${file.name}: load_model opens it, in JupyterLab too.`);
  }
}
