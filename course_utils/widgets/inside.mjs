// "Look inside", in anywidget's shape: a text that a model reads, or all models side by side, what
// went on at each of its characters, and what it costs to switch parts off. On the screen: the text
// to edit, and a view a model (view.mjs). This shell asks whoever stands behind `model` (host.mjs
// says how) for a whole text at once; pointing only redraws.

import { Choice } from "./choice.mjs";
import { button, make } from "./elements.mjs";
import { Host } from "./host.mjs";
import { Models } from "./models.mjs";
import { Status } from "./status.mjs";
import { View, WRITTEN } from "./view.mjs";
import { _ } from "./words.mjs";

const TYPING_MS = 300; // after the last key, the text is taken for finished

export default {
  render({ model, el }) {
    const inside = new Inside(model, el);
    inside.start();
    return () => inside.close();
  },
};

class Inside {
  constructor(model, el) {
    this.task = new AbortController(); // of what is under way: the next task ends it
    this.host = new Host(model, {
      onProgress: (share) => this.status.advance(share),
      onSilence: (silence) => this.page || this.status.show({ silence }),
      onGone: (problem) => this.status.say(problem, true),
    });
    this.models = new Models(this.host);
    this.views = [];
    this.around = {
      host: this.host,
      pointer: { chosen: null, over: null },
      onPoint: (view) => this.point(view),
      onSwitch: () => this.read(),
    };
    this.desk = new Desk({
      onText: () => this.typed(),
      onModel: () => this.load(),
      onWrite: () => this.write(),
      onRestore: () => this.restore(),
    });
    this.status = this.desk.status;
    this.desk.mount(el);
  }

  start() {
    return this.instead(_`Loading …`, async (signal) => {
      const { settings, page } = await this.models.meet(signal);
      this.page = page;
      this.desk.take(this.models.names, settings);
      await this.load();
    });
  }

  /** Do what takes its time, in place of what was under way, and tell the reader if it fails. */
  async instead(news, action) {
    this.task.abort();
    const { signal } = (this.task = new AbortController());
    this.status.say(news);
    try {
      await action(signal);
    } catch (error) {
      if (!signal.aborted) this.status.say(error.message, true);
    }
  }

  /** Take the chosen models, with all their parts on. */
  load() {
    return this.instead(_`Loading …`, async (signal) => {
      const models = await this.models.load(this.desk.choice.chosen, signal);
      const alone = models.length === 1;
      this.views = models.map((model) => new View(model, alone, this.around));
      this.desk.ready(false);
      await this.read();
    });
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.views.length && this.read(), TYPING_MS);
  }

  restore() {
    for (const { heads } of this.views) heads.restore();
    this.read();
  }

  /** Let all models read the text as their switches are. */
  read() {
    const { views } = this;
    const text = this.desk.text.value;
    const problem = views.map((view) => view.problem(text)).find(Boolean);
    if (problem) {
      this.task.abort();
      return this.status.refuse(problem);
    }
    return this.instead(_`Reading …`, async (signal) => {
      const readings = await Promise.all(views.map((view) => view.read(text, signal)));
      views.forEach((view, i) => view.show(readings[i]));
      this.desk.put(views);
      this.desk.ready(true);
      this.point(views[0]);
    });
  }

  /** Show in all views what went on where the reader points at in one of them. */
  point(pointed) {
    for (const view of this.views) view.point(view === pointed);
  }

  /** Go on after the text. */
  write() {
    return this.instead(_`Writing …`, async (signal) => {
      await Promise.all(this.views.map((view) => view.write(signal)));
      this.status.say(_`${WRITTEN} characters written.`);
    });
  }

  close() {
    this.task.abort();
    clearTimeout(this.typing);
    this.host.close();
  }
}

/** The inputs and the line of news, above the views. */
class Desk {
  constructor({ onText, onModel, onWrite, onRestore }) {
    this.text = make("textarea", { rows: 3, spellcheck: false, "aria-label": _`Text` });
    this.choice = new Choice(onModel);
    this.choice.offer([]);
    this.go = button(_`Write on`, onWrite);
    this.restore = button(_`Everything on`, onRestore);
    this.status = new Status();
    this.views = make("div", { className: "inside-views" });
    this.text.addEventListener("input", onText);
    this.ready(false);
  }

  /** Put all parts where the reader sees them. */
  mount(el) {
    el.classList.add("sampler", "inside");
    el.dataset.lmSuppressShortcuts = "true"; // in JupyterLab keys mean what they mean here
    const field = (name, input) => make("label", {}, name, input);
    const { list, togetherField } = this.choice;
    const parts = [field(_`Model `, list), togetherField, this.go, this.restore];
    el.replaceChildren(
      field(_`Text`, this.text),
      make("div", { className: "sampler-buttons" }, ...parts),
      this.status.element,
      this.status.progress,
      this.views,
    );
  }

  /** Begin with these models and settings. */
  take(names, settings) {
    this.choice.offer(names);
    this.choice.take(settings);
    this.text.value = settings.text;
  }

  /** @param {View[]} views that are to be seen */
  put(views) {
    const elements = views.map(({ element }) => element);
    if (elements[0] !== this.views.firstChild) this.views.replaceChildren(...elements);
  }

  /** @param {boolean} usable whether a text has been read */
  ready(usable) {
    this.go.disabled = this.restore.disabled = !usable;
    if (usable) this.status.say("");
  }
}
