// One model's text, a character at a time, and beside it the bars of one of them.

import { Bars } from "./bars.mjs";
import { make } from "./elements.mjs";
import { draw, filter, windowStart, wrongSettings } from "./sampler.mjs";

export class Pane {
  /**
   * @param {string} name of the model
   * @param {{alphabet: string, context: number}} about it
   * @param {(ids: number[], signal: AbortSignal) => Promise<Float32Array>} ask for the logits of
   *   what follows
   * @param {() => import("./sampler.mjs").Settings} settings those of now
   */
  constructor(name, { alphabet, context }, ask, settings) {
    Object.assign(this, { name, context, ask, settings });
    this.alphabet = [...alphabet];
    this.text = make("div", {
      className: "sampler-text",
      tabIndex: 0,
      role: "group",
      "aria-label": `Text of ${name}; arrow keys walk through it`,
    });
    this.bars = new Bars(name, this.alphabet);
    const title = make("p", { className: "sampler-name" }, name);
    this.element = make(
      "div",
      { className: "sampler-pane" },
      make("div", {}, title, this.text),
      this.bars.element,
    );
    const point = ({ target }) => this.focus(target.dataset.at ?? null);
    this.text.addEventListener("pointerover", point);
    this.text.addEventListener("click", point);
    this.text.addEventListener("pointerleave", ({ pointerType }) => {
      if (pointerType === "mouse") this.focus(null);
    });
    this.text.addEventListener("keydown", (event) => this.walk(event));
    this.begin([]);
  }

  /** Start anew after a prompt. @param {number[]} prompt */
  begin(prompt) {
    this.prompt = prompt;
    this.ids = [...prompt];
    this.written = []; // {token, logits: those that it was drawn by}
    this.shown = 0; // of them
    this.next = null; // the logits of what follows, once they are known
    this.at = null; // which written character is explained; null: the next one
    const characters = prompt.map((id) => this.alphabet[id]).join("");
    this.text.replaceChildren(make("span", { className: "sampler-prompt" }, characters));
  }

  /** The logits of what follows the text, asked for once. */
  async ready(signal) {
    this.next ??= await this.ask(
      this.ids.slice(windowStart(this.ids.length, this.context)),
      signal,
    );
  }

  /** Write one character: the logits are ready. */
  write() {
    const settings = this.settings();
    const { p } = filter(this.next, settings);
    const token = draw(p, settings.seed, this.written.length);
    this.written.push({ token, logits: this.next });
    this.ids.push(token);
    this.next = null;
  }

  /** @param {number|string|null} at which written character to explain; null: the next one */
  focus(at) {
    this.text.querySelector(".sampler-at")?.classList.remove("sampler-at");
    this.at = at === null ? null : Number(at);
    const letter = at === null ? null : this.text.children[this.at + 1];
    letter?.classList.add("sampler-at");
    this.paint();
    return letter;
  }

  walk(event) {
    const last = this.shown - 1;
    const at = this.at ?? last + 1;
    const ways = {
      ArrowLeft: Math.max(0, at - 1),
      ArrowRight: Math.min(last, at + 1),
      Home: 0,
      End: last,
      Escape: null,
    };
    const to = ways[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.focus(to)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Show what has been written since, and the bars by the settings of now. No model is asked. */
  paint() {
    const { text } = this;
    const atEnd = text.scrollTop + text.clientHeight > text.scrollHeight - 8;
    const fresh = this.written.slice(this.shown);
    fresh.forEach(({ token }, i) => {
      const letter = make("span", {}, this.alphabet[token]);
      letter.dataset.at = this.shown + i;
      text.append(letter);
    });
    this.shown = this.written.length;
    if (fresh.length && atEnd) text.scrollTop = text.scrollHeight;

    const explained = this.explained();
    this.element.classList.toggle("sampler-empty", !explained);
    const settings = this.settings();
    if (explained && !wrongSettings(settings)) this.bars.explain(explained, settings);
  }

  /** The character that the bars are about: the one pointed at, else the next, else the last. */
  explained() {
    if (this.at !== null) return this.written[this.at];
    return this.next ? { logits: this.next } : this.written.at(-1);
  }
}
