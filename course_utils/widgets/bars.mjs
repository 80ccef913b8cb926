// What could have stood at one place of a text: a bar a character, hollow for what the model said,
// filled for what the settings made of it.

import { make, percent, visible } from "./elements.mjs";
import {
  CUT_BY_K,
  CUT_BY_P,
  CUT_BY_TEMPERATURE,
  KEPT,
  filter,
  softmax,
  surprise,
} from "./sampler.mjs";
import { _ } from "./words.mjs";

const BARS = 14; // of the most likely characters
const FATES = {
  [KEPT]: { style: "sampler-kept", words: (after) => ` → ${percent(after)}` },
  [CUT_BY_K]: { style: "sampler-cut-k", words: () => _`, cut by top-k` },
  [CUT_BY_P]: { style: "sampler-cut-p", words: () => _`, cut by top-p` },
  [CUT_BY_TEMPERATURE]: { style: "sampler-cut-k", words: () => _`, cut` },
};

/** The most likely characters at one place: before the settings, and after. */
export class Bars {
  constructor(name, alphabet) {
    this.alphabet = alphabet;
    this.note = make("p", { className: "sampler-note", "aria-live": "polite" });
    this.rows = Array.from({ length: BARS }, () => new Bar());
    const bars = this.rows.map(({ element }) => element);
    const list = make("ol", { "aria-label": _`Next characters of ${name}` }, ...bars);
    this.tally = make("p", { className: "sampler-fates" });
    this.element = make("div", {}, this.note, list, this.tally);
  }

  /** Whether the note is read aloud as it changes: not while a text is being written. */
  hush(silent) {
    this.note.setAttribute("aria-live", silent ? "off" : "polite");
  }

  /**
   * @param {{token?: number, logits: Float32Array}} place no token: it is yet to be drawn
   * @param {import("./sampler.mjs").Settings} settings
   */
  explain({ token, logits }, settings) {
    const before = softmax(logits);
    const { p: after, fate } = filter(logits, settings);
    const order = Array.from(before.keys()).sort((a, b) => before[b] - before[a] || a - b);
    const top = order.slice(0, BARS);
    if (token !== undefined && !top.includes(token)) top[top.length - 1] = token;
    const widest = Math.max(before[order[0]], ...top.map((id) => after[id]));
    this.rows.forEach((row, i) => {
      row.element.hidden = i >= top.length; // in an alphabet of fewer characters than rows
      if (row.element.hidden) return;
      const id = top[i];
      row.show(visible(this.alphabet[id]), before[id] / widest, after[id] / widest);
      row.tell(percent(before[id]) + FATES[fate[id]].words(after[id]), fate[id], id === token);
    });
    this.tally.textContent = tallied(fate);
    this.note.textContent = _`The next character`;
    if (token === undefined) return;
    const nats = surprise(logits, token).toFixed(2);
    const drawn = visible(this.alphabet[token]);
    this.note.textContent = _`“${drawn}”: surprise ${nats} nats (${percent(before[token])})`;
  }
}

/** How many characters met which fate, in words. */
function tallied(fate) {
  const count = (which) => fate.filter((f) => f === which).length;
  const colder = count(CUT_BY_TEMPERATURE);
  if (colder) return _`1 kept · ${colder} cut: temperature 0 takes the best alone`;
  const [kept, byK, byP] = [KEPT, CUT_BY_K, CUT_BY_P].map(count);
  return _`${kept} kept · ${byK} cut by top-k · ${byP} cut by top-p`;
}

/** One bar: hollow before, filled after. */
class Bar {
  constructor() {
    this.label = make("span", { className: "sampler-label" });
    this.after = make("span", { className: "sampler-after" });
    this.before = make("span", { className: "sampler-before" });
    this.value = make("span", { className: "sampler-value" });
    const track = { className: "sampler-track", "aria-hidden": "true" };
    const bars = make("span", track, this.after, this.before);
    this.element = make("li", {}, this.label, bars, this.value);
  }

  /** @param {string} label @param {number} before @param {number} after shares of the track */
  show(label, before, after) {
    this.label.textContent = label;
    this.before.style.width = `${100 * before}%`;
    this.after.style.width = `${100 * after}%`;
  }

  tell(value, fate, drawn) {
    this.value.textContent = value;
    this.element.className = FATES[fate].style;
    this.element.classList.toggle("sampler-drawn", drawn);
  }
}
