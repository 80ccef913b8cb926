// Where each head of each layer looks, a strip a head, and the buttons that switch heads and whole
// layers off.

import { button, make, percent, visible } from "./elements.mjs";
import { _ } from "./words.mjs";

const STRIP_PX = 480; // before the page makes it fit
const HINT = _`A strip runs from the first character to the last one read; strong colour: looked \
at more. Press a name to switch it off.`;
const INK = "#2a86a8"; // seen on light ground and on dark

export class Heads {
  /**
   * @param {() => void} onSwitch something was switched off or on: `off`
   * @param {(weights: ArrayLike<number>) => void} onPoint the weights of the head pointed at
   */
  constructor(onSwitch, onPoint) {
    Object.assign(this, { onSwitch, onPoint });
    this.switches = new Map(); // by the name of what is switched
    this.strips = [];
    this.pointed = null;
    this.note = make("p", { className: "inside-note" });
    this.rows = make("div", { className: "inside-layers" });
    this.element = make("div", {}, this.note, this.rows);
  }

  /** Make room for a model of so many layers and heads, with all of them on. */
  put(layers, heads) {
    const count = (length, make) => Array.from({ length }, (_, i) => make(i));
    this.switches.clear();
    this.strips = [];
    this.point(null);
    const rows = count(layers, (layer) => {
      const label = _`Layer ${layer + 1}`;
      const whole = this.switchFor(`L${layer + 1}`, label);
      const strips = count(heads, (head) => this.strip(layer, head));
      this.strips.push(...strips);
      const parts = [whole, ...strips.map(({ element }) => element)];
      const named = { role: "group", "aria-label": label };
      return make("div", { className: "inside-layer", ...named }, ...parts);
    });
    this.rows.replaceChildren(...rows);
  }

  strip(layer, head) {
    const name = `${layer + 1}·${head + 1}`;
    const strip = new Strip(layer, head, name, this.switchFor(`L${layer + 1}:H${head + 1}`, name));
    for (const event of ["pointerenter", "focusin"]) {
      strip.element.addEventListener(event, () => this.point(strip));
    }
    for (const event of ["pointerleave", "focusout"]) {
      strip.element.addEventListener(event, () => this.point(null));
    }
    return strip;
  }

  /** A button that switches off what has this name. */
  switchFor(name, label) {
    const press = () => {
      this.press(name, !this.off.includes(name));
      this.onSwitch();
    };
    const named = { "aria-pressed": "false", "aria-label": _`${label}, switch off` };
    this.switches.set(name, button(label, press, named));
    return this.switches.get(name);
  }

  press(name, off) {
    this.switches.get(name).setAttribute("aria-pressed", off);
  }

  /** What is switched off, by gpt.mjs's names. */
  get off() {
    const pressed = (name) => this.switches.get(name).getAttribute("aria-pressed") === "true";
    return [...this.switches.keys()].filter(pressed);
  }

  restore() {
    for (const name of this.off) this.press(name, false);
  }

  /**
   * @param {import("./reading.mjs").Reading} reading
   * @param {number} place
   * @param {string[]} alphabet
   */
  show(reading, place, alphabet) {
    for (const strip of this.strips) strip.show(reading, place, alphabet);
    this.point(this.pointed);
  }

  point(strip) {
    this.pointed = strip;
    this.note.textContent = strip?.words || HINT;
    this.onPoint(strip?.weights ?? []);
  }
}

/** One head: its button, and its weights over the characters before a place. */
class Strip {
  constructor(layer, head, name, button) {
    Object.assign(this, { layer, head, name });
    this.weights = [];
    this.words = "";
    this.canvas = make("canvas", { width: STRIP_PX, height: 1, role: "img" });
    this.element = make("div", { className: "inside-head" }, button, this.canvas);
  }

  show(reading, place, alphabet) {
    this.weights = reading.attention(this.layer, this.head, place);
    this.words = this.told(reading, place, alphabet);
    this.canvas.setAttribute("aria-label", this.words);
    const cell = STRIP_PX / place;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, STRIP_PX, 1); // cheaper than another canvas of another width
    pen.fillStyle = INK;
    this.weights.forEach((weight, i) => {
      pen.globalAlpha = Math.sqrt(weight); // or a head that looks everywhere would not be seen
      pen.fillRect(i * cell, 0, cell, 1);
    });
  }

  told({ ids }, place, alphabet) {
    const most = this.weights.reduce((best, w, i, all) => (w > all[best] ? i : best), 0);
    if (!this.weights[most]) return _`${this.name} is off with its layer`;
    const character = visible(alphabet[ids[most]]);
    const share = percent(this.weights[most]);
    return _`${this.name} looks most at “${character}”, ${place - most} back: ${share}`;
  }
}
