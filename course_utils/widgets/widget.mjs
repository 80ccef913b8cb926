// The sampling widget, in anywidget's shape: one front end for notebooks and for the book's pages.
//
// Whoever stands behind `model` works out the logits (host.mjs says how they are asked for); all
// drawing of characters is done here, by sampler.mjs. On the screen: controls.mjs, frame.mjs below
// them, then texts.mjs. This shell loads, writes and stops.

import { Controls } from "./controls.mjs";
import { Frame } from "./frame.mjs";
import { Host } from "./host.mjs";
import { Models } from "./models.mjs";
import { wrongSettings } from "./sampler.mjs";
import { Texts } from "./texts.mjs";
import { _ } from "./words.mjs";

const TYPING_MS = 200; // after the last key, the prompt is taken for finished
const COPIED = _`Copied: the link keeps prompt and settings.`;
const SHOWN = _`The address bar now holds the link.`;

export default {
  render({ model, el }) {
    const widget = new Widget(model, el);
    widget.start();
    return () => widget.close();
  },
};

class Widget {
  constructor(model, el) {
    this.activity = ""; // or "loading", "writing"
    this.task = new AbortController(); // of what is under way: the next task ends it
    this.controls = new Controls({
      onPrompt: () => this.typed(),
      onSettings: () => this.changed(),
      onModel: () => this.show(),
    });
    this.frame = new Frame({
      onGenerate: () => this.generate(),
      onOne: () => this.write(1, false),
      onStop: () => this.end(_`Stopped.`),
      onLink: () => this.copyLink(),
      onFile: (file) => this.open(file),
    });
    this.status = this.frame.status;
    this.host = new Host(model, {
      onProgress: (share) => this.status.advance(share),
      onSilence: (silence) => this.frame.page || this.status.show({ silence }),
      onGone: (problem) => this.end(problem, true),
    });
    this.models = new Models(this.host);
    this.texts = new Texts(this.controls, this.host, (said) => this.status.say(said));
    this.frame.mount(el, this.controls, this.texts);
  }

  start() {
    return this.instead("loading", async (signal) => {
      this.status.say(_`Loading …`);
      const { settings, page, write, leads } = await this.models.meet(signal);
      if (leads) this.frame.element.prepend(this.texts.element);
      this.frame.allow(page);
      this.controls.choice.offer(this.models.names);
      this.controls.take(settings);
      await this.show();
      if (write) this.generate();
    });
  }

  /** Do what takes its time, in place of what was under way, and tell the reader if it fails. */
  async instead(activity, action) {
    const signal = this.begin(activity);
    try {
      await action(signal);
    } catch (error) {
      if (!signal.aborted) this.end(error.message, true);
    }
  }

  /** @returns {AbortSignal} which tells the new task that it is no longer wanted */
  begin(activity) {
    this.task.abort();
    this.task = new AbortController();
    this.become(activity);
    return this.task.signal;
  }

  become(activity) {
    this.activity = activity;
    this.frame.settle(activity, this.texts.panes.length > 0 && !this.host.gone);
    this.texts.hush(activity === "writing");
  }

  end(news, wrong = false) {
    this.begin("");
    this.status.say(news, wrong);
    this.texts.paint();
  }

  /** Put up the chosen models, loading those that are not there yet, and then tell the news. */
  show(news = "") {
    return this.instead("loading", async (signal) => {
      this.status.say(_`Loading …`);
      const loaded = await this.models.load(this.controls.choice.chosen, signal);
      this.controls.fit(this.models.mostCharacters);
      this.texts.put(loaded);
      this.become("");
      if (this.refuse()) return;
      await this.texts.guess(signal);
      this.status.say(news);
    });
  }

  /** Offer a reader's own model, and put it up unless they have chosen another meanwhile. */
  open(file) {
    return this.instead("loading", async (signal) => {
      this.status.say(_`Reading ${file.name} …`);
      const number = await this.models.open(file);
      this.controls.choice.offer(this.models.names);
      if (signal.aborted) return;
      this.controls.choice.choose(number);
      await this.show(_`${file.name} is loaded.`);
    });
  }

  generate() {
    this.write(Number(this.controls.length.value), true);
  }

  /** @param {number} length characters to write @param {boolean} anew from the prompt on */
  write(length, anew) {
    clearTimeout(this.typing);
    if (this.refuse()) return;
    this.instead("writing", async (signal) => {
      if (anew) this.status.say(_`Writing …`);
      const begun = performance.now();
      await this.texts.write(length, anew, signal);
      const count = length * this.texts.panes.length;
      const rate = Math.round((1000 * count) / (performance.now() - begun));
      this.end(anew ? _`${count} characters written, ${rate} a second.` : "");
    });
  }

  /** Tell the reader what is wrong with the inputs, if anything is. @returns {string} it */
  refuse() {
    const problem = this.controls.problem(this.texts.panes);
    this.status.refuse(problem);
    return problem;
  }

  /** Another prompt: show what may follow it, once it is finished. */
  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      if (this.activity || !this.texts.panes.length || this.refuse()) return;
      this.instead("", (signal) => this.texts.guess(signal));
    }, TYPING_MS);
  }

  /** Other settings: they hold at once, for what is being written too. */
  changed() {
    const stopped = this.activity === "writing" && wrongSettings(this.controls.settings());
    if (stopped) this.end("");
    if (stopped || this.status.problem) this.refuse(); // a problem is perhaps mended
    this.texts.paint();
  }

  async copyLink() {
    const { copied } = await this.host.ask({ kind: "link", settings: this.controls.kept() });
    this.status.say(copied ? COPIED : SHOWN);
  }

  close() {
    this.task.abort();
    clearTimeout(this.typing);
    this.texts.close();
    this.host.close();
  }
}
