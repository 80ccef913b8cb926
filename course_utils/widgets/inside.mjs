// "Look inside", in anywidget's shape: a text that a model reads, what went on at each of its
// characters, and what it costs to switch parts of the model off. On the screen: the text to edit,
// letters.mjs, lens.mjs and heads.mjs, then what the model writes. This shell asks whoever stands
// behind `model` (host.mjs says how) for a whole text at once; pointing only redraws.

import { button, make, percent, unknownTo, visible } from "./elements.mjs";
import { Heads } from "./heads.mjs";
import { Host } from "./host.mjs";
import { Lens } from "./lens.mjs";
import { Letters, quoted } from "./letters.mjs";
import { Models } from "./models.mjs";
import { Reading } from "./reading.mjs";
import { draw, encode, filter, windowStart } from "./sampler.mjs";
import { Status } from "./status.mjs";
import { _ } from "./words.mjs";

const TYPING_MS = 300; // after the last key, the text is taken for finished
const WRITTEN = 40; // characters at a time
const LUCK = { temperature: 0.8, topK: null, topP: null, seed: 0 }; // the same for all switches
const KEPT_TEXTS = 4; // of those that the model has written
const BEFORE = 12; // characters that are read aloud before the chosen one

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
      onProgress: (share) => this.desk.advance(share),
      onSilence: (silence) => this.page || this.desk.status.show({ silence }),
      onGone: (problem) => this.desk.say(problem, true),
    });
    this.models = new Models(this.host);
    this.letters = new Letters(() => this.point());
    this.lens = new Lens();
    this.heads = new Heads(
      () => this.read(),
      (weights) => this.letters.weigh(weights),
    );
    this.desk = new Desk({
      onText: () => this.typed(),
      onModel: () => this.load(),
      onWrite: () => this.write(),
      onRestore: () => this.restore(),
    });
    this.desk.mount(el, this);
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
    this.desk.say(news);
    try {
      await action(signal);
    } catch (error) {
      if (!signal.aborted) this.desk.say(error.message, true);
    }
  }

  /** Take the chosen model, with all its parts on. */
  load() {
    return this.instead(_`Loading …`, async (signal) => {
      const [{ number, name, about }] = await this.models.load([this.desk.model], signal);
      this.model = { number, name, context: about.context, alphabet: [...about.alphabet] };
      this.whole = this.reading = null;
      this.desk.ready(false);
      await this.read();
    });
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.model && this.read(), TYPING_MS);
  }

  restore() {
    this.heads.restore();
    this.read();
  }

  /** Read the text as the switches are, and with all parts on if that has not been done yet. */
  read() {
    const problem = this.problem();
    if (problem) {
      this.task.abort();
      return this.desk.status.refuse(problem);
    }
    return this.instead(_`Reading …`, async (signal) => {
      const { ids } = encode(this.model.alphabet, this.desk.text.value);
      if (String(ids) !== String(this.whole?.ids)) this.whole = await this.look(ids, [], signal);
      const off = this.reading ? this.heads.off : []; // a new model's parts are all on
      const now = off.length ? await this.look(ids, off, signal) : this.whole;
      this.show(now, off);
    });
  }

  async look(ids, off, signal) {
    const question = { kind: "look", model: this.model.number, ids, off };
    return new Reading(ids, await this.host.ask(question, signal));
  }

  /** What is wrong with the text, as one sentence; else "". */
  problem() {
    const { name, alphabet, context } = this.model;
    const { length } = [...this.desk.text.value];
    if (length < 2) return _`A text needs at least two characters.`;
    if (length > context) return _`${name} reads up to ${context} characters; these are ${length}.`;
    return unknownTo(name, alphabet, this.desk.text.value);
  }

  show(reading, off) {
    if (!this.reading) {
      this.lens.put(reading.layers);
      this.heads.put(reading.layers, reading.heads);
    }
    this.reading = reading;
    const characters = reading.ids.map((id) => this.model.alphabet[id]);
    const surprises = characters.slice(1).map((_, i) => reading.surprise(i + 1));
    this.letters.show(characters, surprises);
    this.desk.tell(reading.loss, this.whole.loss, off);
    this.desk.ready(true);
    this.point();
  }

  /** Show what went on at the place that is pointed at. No model is asked. */
  point() {
    const { reading, model, letters } = this;
    if (!reading) return;
    this.lens.show(reading, letters.place, model.alphabet);
    this.heads.show(reading, letters.place, model.alphabet);
    this.desk.note.textContent = told(reading, letters.place, model.alphabet);
  }

  /** Go on after the text, with the parts that are on. */
  write() {
    const { number, alphabet, context } = this.model;
    const off = this.heads.off;
    const ids = [...this.reading.ids];
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    return this.instead(_`Writing …`, async (signal) => {
      const line = this.desk.line(off);
      let written = "";
      for (let i = 0; i < WRITTEN; i++) {
        const seen = ids.slice(windowStart(ids.length, context));
        const logits = await this.host.logits(number, seen, signal, off);
        ids.push(draw(filter(logits, LUCK).p, LUCK.seed, i));
        written += visible(alphabet[ids.at(-1)]).replace("␣", " ");
        if (!calm || i === WRITTEN - 1) line.textContent = written;
      }
      this.desk.say(_`${WRITTEN} characters written.`);
    });
  }

  close() {
    this.task.abort();
    clearTimeout(this.typing);
    this.host.close();
  }
}

/** What the model knew at a place, in one sentence. */
function told(reading, place, alphabet) {
  const { ids, layers } = reading;
  const before = ids.slice(Math.max(0, place - BEFORE), place).map((id) => alphabet[id]);
  const [{ id, p }] = reading.guesses(layers, place, 1);
  const guess = _`layer ${layers}'s first guess ${visible(alphabet[id])} ${percent(p)}`;
  if (place === ids.length) return _`After ${quoted(before)}: ${guess}`;
  const next = quoted([alphabet[ids[place]]]);
  const nats = reading.surprise(place).toFixed(2);
  return _`After ${quoted(before)}, next ${next}: ${nats} nats; ${guess}`;
}

/** The inputs, the line of news, and the words about the whole text. */
class Desk {
  constructor({ onText, onModel, onWrite, onRestore }) {
    this.text = make("textarea", { rows: 3, spellcheck: false, "aria-label": _`Text` });
    this.choice = make("select", { "aria-label": _`Model`, disabled: true });
    this.go = button(_`Write on`, onWrite);
    this.restore = button(_`Everything on`, onRestore);
    this.status = new Status();
    this.progress = make("progress", { max: 1, "aria-label": _`Loading the weights` });
    this.loss = make("p", { className: "inside-loss", "aria-live": "polite" });
    this.note = make("p", { className: "inside-note", "aria-live": "polite" });
    this.written = make("dl", { className: "inside-written" });
    this.text.addEventListener("input", onText);
    this.choice.addEventListener("change", onModel);
    this.ready(false);
  }

  /** Put all parts where the reader sees them. */
  mount(el, { letters, lens, heads }) {
    el.classList.add("sampler", "inside");
    el.dataset.lmSuppressShortcuts = "true"; // in JupyterLab keys mean what they mean here
    const field = (name, input) => make("label", {}, name, input);
    const buttons = [this.go, this.restore];
    el.replaceChildren(
      field(_`Text`, this.text),
      make("div", { className: "sampler-buttons" }, field(_`Model `, this.choice), ...buttons),
      this.status.element,
      this.progress,
      letters.element,
      this.note,
      this.loss,
      make("div", { className: "inside-parts" }, lens.element, heads.element),
      this.written,
    );
  }

  /** Begin with these models and settings. */
  take(names, { text, model }) {
    this.choice.replaceChildren(...names.map((name, value) => make("option", { value }, name)));
    this.choice.value = names[model] ? model : names.length - 1;
    this.choice.disabled = false;
    this.text.value = text;
  }

  get model() {
    return Number(this.choice.value);
  }

  /** @param {boolean} usable whether a text has been read */
  ready(usable) {
    this.go.disabled = this.restore.disabled = !usable;
    this.progress.hidden = true; // until there is progress
    if (usable) this.say("");
  }

  say(news, wrong = false) {
    this.status.say(news, wrong);
  }

  advance(share) {
    this.progress.value = share;
    this.progress.hidden = false;
  }

  /** The loss of the text now, and with all parts on. */
  tell(now, whole, off) {
    const change = now - whole;
    const sign = change < 0 ? "−" : "+";
    const nats = (loss) => _`${loss.toFixed(3)} nats a character`;
    const changed = _`${sign}${Math.abs(change).toFixed(3)} (all on: ${whole.toFixed(3)})`;
    const without = _`Without ${off.join(", ")}: ${nats(now)}, ${changed}`;
    const all = _`The whole text: ${nats(whole)}; the redder, the more surprising`;
    this.loss.textContent = off.length ? without : all;
  }

  /** A new line for what the model writes, above those before it. @returns {Node} */
  line(off) {
    const name = off.length ? _`Without ${off.join(", ")}` : _`Everything on`;
    const text = make("dd");
    this.written.prepend(make("dt", {}, name), text);
    while (this.written.children.length > 2 * KEPT_TEXTS) this.written.lastChild.remove();
    return text;
  }
}
