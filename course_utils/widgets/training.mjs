// "Train one yourself": a model that learns in the page, from noise, while the reader watches its
// loss cross the lines that counting has drawn, and what it writes become verse. This shell tells
// trainer.mjs what the reader wants, and board.mjs what the trainer tells.

import { Board } from "./board.mjs";
import { words } from "./lane.mjs";
import { _ } from "./words.mjs";

const RACE = [2, 4, 6]; // layers
const SAMPLER = ".sampler-place.sampler"; // the widget that writes, if the page has it

export default {
  /**
   * @param {object} place {el, about: training.json, with whole addresses, begin: whether to learn
   *   at once, from where a kept training stands}
   */
  render({ el, about, begin }) {
    new Training(el, about, begin);
  },
};

class Training {
  constructor(el, about, begin) {
    Object.assign(this, { about, begin, title: document.title });
    this.problem = ""; // that is to be told once things have settled
    this.rests = false; // because nobody looks
    this.board = new Board(el, {
      onMain: () => this.press(),
      onAnew: () => this.start(),
      onFile: () => this.start(),
      onSave: (which) => this.have("save", which),
      onPlay: (which) => this.have("play", which),
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
    if (state === "busy") return;
    this.problem = "";
    if (this.begin && state !== "ended") this.press(); // what is trained already stays
    this.begin = false;
  }

  /** The one button that means what makes sense now. */
  press() {
    if (this.state === "training") this.pause(_`Pausing …`);
    else if (this.state === "paused") this.go();
    else if (this.state !== "busy") this.start();
  }

  start() {
    const layers = this.board.race.checked ? RACE : [this.about.model.n_layers];
    this.call("start", { files: [...this.board.file.files], layers });
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
    const { reached } = this.board;
    const where = kept ? _`, and kept in this browser` : "";
    this.become("ended", _`Trained: validation loss ${reached}. The weights are yours${where}.`);
    this.looked();
  }

  /** What could not be done leaves a training that was kept before as it is. */
  failed(problem) {
    this.board.file.value = "";
    this.problem = problem;
    this.call("recall");
  }

  /** Have a model's weights as a file. @param {"save" | "play"} wanted what for */
  have(wanted, which) {
    this.wanted = wanted;
    this.ask("file", { which });
  }

  take({ bytes, layers, step }) {
    const name = `trained-in-the-page_${layers}-layers_${step}-steps.safetensors`;
    const file = new File([bytes], name);
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
