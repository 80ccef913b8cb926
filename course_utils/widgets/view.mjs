// One model's reading of a text, from top to bottom: the letters, what it knew at one of them, its
// guesses layer by layer and its heads, and what it writes.

import { calm, make, percent, unknownTo, visible } from "./elements.mjs";
import { Heads } from "./heads.mjs";
import { Lens } from "./lens.mjs";
import { Letters, quoted } from "./letters.mjs";
import { Reading } from "./reading.mjs";
import { drawAlike, encode, windowStart } from "./sampler.mjs";
import { _ } from "./words.mjs";

export const WRITTEN = 40; // characters at a time
const KEPT_TEXTS = 4; // of those that the model has written
const BEFORE = 12; // characters that are read aloud before the chosen one

export class View {
  /**
   * @param {{number: number, name: string, about: {alphabet: string, context: number}}} model
   * @param {boolean} alone whether it is the only one
   * @param {object} around
   * @param {import("./host.mjs").Host} around.host
   * @param {object} around.pointer what is pointed at, in all views: {chosen, over}
   * @param {(view: View) => void} around.onPoint
   * @param {() => void} around.onSwitch
   */
  constructor({ number, name, about }, alone, { host, pointer, onPoint, onSwitch }) {
    Object.assign(this, { number, name, host, context: about.context });
    this.alphabet = [...about.alphabet];
    this.letters = new Letters(pointer, () => onPoint(this));
    this.lens = new Lens();
    this.heads = new Heads(onSwitch, (weights) => this.letters.weigh(weights));
    this.loss = make("p", { className: "inside-loss", "aria-live": "polite" });
    this.note = make("p", { className: "inside-note" });
    this.written = make("dl", { className: "inside-written" });
    const title = make("p", { className: "sampler-name", hidden: alone }, name);
    const parts = make("div", { className: "inside-parts" }, this.lens.element, this.heads.element);
    const all = [title, this.letters.element, this.note, this.loss, parts, this.written];
    this.element = make("div", { className: "inside-view", role: "group" }, ...all);
    this.element.setAttribute("aria-label", name);
  }

  /** What is wrong with a text, as one sentence; else "". */
  problem(text) {
    const { name, alphabet, context } = this;
    const { length } = [...text];
    if (length < 2) return _`A text needs at least two characters.`;
    if (length > context) return _`${name} reads up to ${context} characters; these are ${length}.`;
    return unknownTo(name, alphabet, text);
  }

  /**
   * Read a text as the switches are, and with all parts on if that has not been done yet.
   * @returns {Promise<object>} what `show` takes
   */
  async read(text, signal) {
    const { ids } = encode(this.alphabet, text);
    if (String(ids) !== String(this.whole?.ids)) this.whole = await this.look(ids, [], signal);
    const { off } = this.heads;
    const reading = off.length ? await this.look(ids, off, signal) : this.whole;
    return { reading, off };
  }

  async look(ids, off, signal) {
    const question = { kind: "look", model: this.number, ids, off };
    return new Reading(ids, await this.host.ask(question, signal));
  }

  show({ reading, off }) {
    if (!this.reading) {
      this.lens.put(reading.layers);
      this.heads.put(reading.layers, reading.heads);
    }
    this.reading = reading;
    const characters = reading.ids.map((id) => this.alphabet[id]);
    const surprises = characters.slice(1).map((_, i) => reading.surprise(i + 1));
    this.letters.show(characters, surprises);
    this.tell(reading.loss, this.whole.loss, off);
  }

  /**
   * Show what went on at the place that is pointed at. No model is asked.
   * @param {boolean} aloud whether it is read aloud: only where the reader is
   */
  point(aloud) {
    const { reading, letters, alphabet } = this;
    if (!reading) return;
    letters.mark();
    this.lens.show(reading, letters.place, alphabet);
    this.heads.show(reading, letters.place, alphabet);
    this.note.setAttribute("aria-live", aloud ? "polite" : "off");
    this.note.textContent = told(reading, letters.place, alphabet);
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

  /** Go on after the text, with the parts that are on. */
  async write(signal) {
    const { number, alphabet, context, heads } = this;
    const { off } = heads;
    const ids = [...this.reading.ids];
    const line = this.line(off);
    let written = "";
    for (let i = 0; i < WRITTEN; i++) {
      const seen = ids.slice(windowStart(ids.length, context));
      const logits = await this.host.logits(number, seen, signal, off);
      ids.push(drawAlike(logits, i)); // whatever the switches
      written += visible(alphabet[ids.at(-1)]).replace("␣", " ");
      if (!calm() || i === WRITTEN - 1) line.textContent = written;
    }
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
