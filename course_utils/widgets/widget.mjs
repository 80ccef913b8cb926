// The sampling widget, in anywidget's shape: one front end for a notebook and for the book's page.
//
// It asks whoever stands behind `model` (Python in a notebook, mount.mjs in the page), by custom messages:
//   {kind: "hello"}            -> {models: [names], settings, page: whether files can be opened and links copied}
//   {kind: "load", model}      -> {alphabet, context}         on the page with {progress} on the way
//   {kind: "next", model, ids} -> {} and one buffer: the logits (V,) float32 of what follows
//   {kind: "open", file}       -> {model, name}               page only
//   {kind: "link", settings}   -> {said}                      page only
// Every question has a `request`, and its answer has the same. What goes wrong is answered {request, error}.
// All drawing of characters is done here, by sampler.mjs.

import {
  CUT_BY_TEMPERATURE, CUT_BY_K, CUT_BY_P, KEPT, LARGEST_SEED, draw, encode, filter, softmax, surprise, windowStart, wrongSettings,
} from "./sampler.mjs";

const ROWS = 14; // bars
const SILENCE_MS = 8000; // until the reader is told that no answer comes
const SILENT = "No answer from Python yet: the kernel is busy. If it was restarted, run the cells above and this one again.";
const GONE = "Python is gone: the kernel was restarted or stopped. Run the cells above and this one again.";

export default {
  render({ model, el }) {
    const widget = new Widget(model, el);
    widget.start();
    return () => widget.close();
  },
};

/** An element with properties, attributes (those with a dash, or role) and children; text only ever as text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A character as it is shown where it stands alone. */
const visible = (character) => ({ " ": "␣", "\n": "⏎", "\t": "⇥" })[character] ?? character;
const percent = (p) => (p > 0 && p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);

/** Questions to whoever stands behind the widget, and their answers. */
class Host {
  constructor(model, { onProgress, onSilence, onGone }) {
    Object.assign(this, { model, onProgress, onSilence, onGone, asked: 0, waiting: new Map() });
    this.name = Math.random().toString(36).slice(2); // a widget shown twice hears the answers to both
    this.hear = (content, buffers) => this.answered(content, buffers);
    this.lost = () => this.fail(GONE);
    model.on("msg:custom", this.hear);
    model.on("comm_live_update", this.lost); // only ever told of an end
  }

  ask(content) {
    if (this.dead) return Promise.reject(new Error(GONE));
    return new Promise((resolve, reject) => {
      const request = `${this.name}-${this.asked++}`, timer = setTimeout(this.onSilence, SILENCE_MS);
      this.waiting.set(request, { resolve, reject, timer });
      try {
        this.model.send({ ...content, request });
      } catch {
        this.fail(GONE);
      }
    });
  }

  answered(content, buffers) {
    if (content.progress !== undefined) this.onProgress(content.progress);
    const waiting = this.waiting.get(content.request);
    if (!waiting) return;
    this.waiting.delete(content.request);
    clearTimeout(waiting.timer);
    if (content.error) return waiting.reject(new Error(content.error));
    const [bytes] = buffers ?? [];
    const logits = bytes && new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    waiting.resolve({ ...content, logits });
  }

  fail(problem) {
    this.dead = true;
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new Error(problem));
    }
    this.waiting.clear();
    this.onGone(problem);
  }

  close() {
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.lost);
  }
}

/** One model's text and the distribution beside it. */
class Pane {
  constructor(name, about, ask, settings) {
    Object.assign(this, { name, ask, settings, alphabet: [...about.alphabet], context: about.context });
    const label = `Text of ${name}; arrow keys walk through it`;
    this.text = make("div", { className: "sampler-text", tabIndex: 0, role: "group", "aria-label": label });
    this.note = make("p", { className: "sampler-note", "aria-live": "polite" });
    this.fates = make("p", { className: "sampler-fates" });
    this.rows = Array.from({ length: ROWS }, () => new Row());
    const list = make("ol", { "aria-label": `Next characters of ${name}` }, ...this.rows.map((row) => row.element));
    this.element = make("div", { className: "sampler-pane" },
      make("div", {}, make("p", { className: "sampler-name" }, name), this.text),
      make("div", {}, this.note, list, this.fates));
    this.text.addEventListener("pointerover", ({ target }) => this.focus(target.dataset.at ?? null));
    this.text.addEventListener("click", ({ target }) => this.focus(target.dataset.at ?? null));
    this.text.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && this.focus(null));
    this.text.addEventListener("keydown", (event) => this.walk(event));
    this.begin([]);
  }

  /** Start anew after a prompt. */
  begin(prompt) {
    Object.assign(this, { prompt, ids: [...prompt], written: [], shown: 0, next: null, at: null });
    const characters = prompt.map((id) => this.alphabet[id]).join("");
    this.text.replaceChildren(make("span", { className: "sampler-prompt" }, characters));
  }

  /** The logits of what follows the text, asked for once. */
  async ready() {
    if (this.next) return;
    const { ids } = this, { logits } = await this.ask(ids.slice(windowStart(ids.length, this.context)));
    if (ids === this.ids) this.next = logits; // else the reader began anew meanwhile
  }

  /** Write one character: the logits are ready. */
  write() {
    const settings = this.settings(), { p } = filter(this.next, settings);
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
    const last = this.shown - 1, at = this.at ?? last + 1;
    const ways = { ArrowLeft: Math.max(0, at - 1), ArrowRight: Math.min(last, at + 1), Home: 0, End: last, Escape: null };
    const to = ways[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.focus(to)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Show what has been written since, and the bars under the settings of now. No model is asked. */
  paint() {
    const { text, written } = this, atEnd = text.scrollTop + text.clientHeight > text.scrollHeight - 8;
    const letters = written.slice(this.shown).map(({ token }, i) => {
      const letter = make("span", {}, this.alphabet[token]);
      letter.dataset.at = this.shown + i;
      return letter;
    });
    text.append(...letters);
    this.shown = written.length;
    if (letters.length && atEnd) text.scrollTop = text.scrollHeight;
    const one = this.at !== null ? written[this.at] : this.next ? { logits: this.next } : written.at(-1);
    this.element.classList.toggle("sampler-empty", !one);
    if (one && !wrongSettings(this.settings())) this.explain(one);
  }

  explain({ token, logits }) {
    const before = softmax(logits), { p: after, fate } = filter(logits, this.settings());
    const order = Array.from(before.keys()).sort((a, b) => before[b] - before[a] || a - b), top = order.slice(0, ROWS);
    if (token !== undefined && !top.includes(token)) top[top.length - 1] = token;
    const widest = Math.max(before[order[0]], ...top.map((id) => after[id]));
    this.rows.forEach((row, i) => {
      const id = top[i]; // undefined in an alphabet of fewer characters than rows
      row.show(visible(this.alphabet[id] ?? ""), before[id], after[id], fate[id], widest, id === token);
    });
    const count = (which) => fate.filter((f) => f === which).length;
    this.fates.textContent = count(CUT_BY_TEMPERATURE) ? `1 kept · ${count(CUT_BY_TEMPERATURE)} cut: temperature 0 takes the best alone`
      : `${count(KEPT)} kept · ${count(CUT_BY_K)} cut by top-k · ${count(CUT_BY_P)} cut by top-p`;
    this.note.textContent = token === undefined ? "The next character"
      : `“${visible(this.alphabet[token])}”: surprise ${surprise(logits, token).toFixed(2)} nats (${percent(before[token])})`;
  }
}

/** One bar: hollow before, filled after. */
class Row {
  constructor() {
    this.label = make("span", { className: "sampler-label" });
    this.after = make("span", { className: "sampler-after" });
    this.before = make("span", { className: "sampler-before" });
    this.value = make("span", { className: "sampler-value" });
    const track = make("span", { className: "sampler-track", "aria-hidden": "true" }, this.after, this.before);
    this.element = make("li", {}, this.label, track, this.value);
  }

  show(label, before, after, fate, widest, drawn) {
    this.element.hidden = before === undefined;
    if (this.element.hidden) return;
    this.label.textContent = label;
    this.before.style.width = `${(100 * before) / widest}%`;
    this.after.style.width = `${(100 * after) / widest}%`;
    this.value.textContent = percent(before) + [` → ${percent(after)}`, ", cut by top-k", ", cut by top-p", ", cut"][fate];
    this.element.className = ["sampler-kept", "sampler-cut-k", "sampler-cut-p", "sampler-cut-k"][fate];
    this.element.classList.toggle("sampler-drawn", drawn);
  }
}

class Widget {
  constructor(model, el) {
    this.host = new Host(model, {
      onProgress: (share) => Object.assign(this.progress, { value: share, hidden: false }),
      onSilence: () => this.page || this.say(SILENT, true), // a page only loads slowly, and shows that
      onGone: (problem) => this.lost(problem),
    });
    Object.assign(this, { el, names: [], about: [], panes: [], run: null });
    el.classList.add("sampler");
    el.dataset.lmSuppressShortcuts = "true"; // in JupyterLab keys mean what they mean here
    this.prompt = make("textarea", { rows: 2, spellcheck: false, "aria-label": "Prompt" });
    const heat = (value) => (value === 0 ? "0 (greedy)" : value.toFixed(2));
    this.temperature = this.slider("Temperature", 0, 2, 0.05, 0.8, heat);
    this.topK = this.slider("Top-k", 1, 65, 1, 65, (value, { max }) => (value >= max ? "off" : String(value)));
    this.topP = this.slider("Top-p", 0.05, 1, 0.05, 1, (value) => (value >= 1 ? "off" : value.toFixed(2)));
    const number = (name, min, max, value) => make("input", { type: "number", min, max, step: 1, value, "aria-label": name });
    this.seed = number("Seed", 0, LARGEST_SEED, 0);
    this.length = number("Characters", 1, 5000, 400);
    this.choice = make("select", { "aria-label": "Model" });
    this.together = make("input", { type: "checkbox" });
    this.status = make("p", { className: "sampler-status", role: "status" });
    this.progress = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "Loading the weights" });
    this.place = make("div", { className: "sampler-panes" });
    const button = (name, action) => make("button", { type: "button", disabled: true, onclick: action }, name);
    this.generate = button("Generate", () => this.write(true));
    this.one = button("One character", () => this.write(false));
    this.stop = button("Stop", () => this.halt("Stopped."));
    this.file = make("input", { type: "file", accept: ".safetensors", onchange: () => this.open(this.file.files[0]) });
    const copy = () => this.ask({ kind: "link", settings: this.state() }, ({ said }) => this.say(said));
    this.link = button("Copy link", copy);
    this.own = make("label", { className: "sampler-file" }, "Your own model: ", this.file);
    this.forMany = make("label", {}, this.together, " all side by side");
  }

  slider(name, min, max, step, value, words) {
    const input = make("input", { type: "range", min, max, step, value, "aria-label": name }), output = make("output");
    input.tell = () => {
      output.textContent = words(Number(input.value), input);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.field = make("label", {}, `${name} `, output, input);
    input.addEventListener("input", () => {
      input.tell();
      this.paint();
    });
    return input;
  }

  async start() {
    const field = (name, input) => make("label", {}, name, input);
    this.el.replaceChildren(
      field("Prompt", this.prompt),
      make("div", { className: "sampler-controls" }, this.temperature.field, this.topK.field, this.topP.field,
        field("Seed", this.seed), field("Characters", this.length), field("Model", this.choice)),
      make("div", { className: "sampler-buttons" }, this.generate, this.one, this.stop, this.link, this.forMany, this.own),
      this.status, this.progress, this.place,
    );
    this.prompt.addEventListener("input", () => this.later(() => this.look()));
    for (const input of [this.choice, this.together]) input.addEventListener("change", () => this.show());
    for (const input of [this.seed, this.length]) input.addEventListener("input", () => this.paint());
    for (const event of ["dragover", "drop"]) this.el.addEventListener(event, (dropped) => this.dropped(dropped));
    this.say("Loading …");
    await this.ask({ kind: "hello" }, ({ models, settings, page }) => {
      this.page = page;
      this.own.hidden = this.link.hidden = !page;
      this.names = models;
      this.list();
      this.take(settings);
      return this.show();
    });
  }

  /** Ask the host, and tell the reader what went wrong, if it did. */
  async ask(content, then) {
    try {
      await then(await this.host.ask(content));
      return true;
    } catch (error) {
      if (!this.closed) this.halt(error.message, true);
      return false;
    }
  }

  list() {
    this.choice.replaceChildren(...this.names.map((name, value) => make("option", { value }, name)));
    this.forMany.hidden = this.names.length < 2;
  }

  /** The settings with which the widget opens; the inputs themselves refuse what is out of range. */
  take({ prompt = "", temperature, top_k: topK, top_p: topP, seed, length, model, together }) {
    this.prompt.value = prompt;
    for (const [input, value] of Object.entries({ temperature, topP, seed, length })) {
      if (value !== undefined) this[input].value = value;
    }
    this.wantedK = topK; // until the size of the alphabet is known
    const known = Array.from(this.names.keys(), String).includes(String(model));
    this.choice.value = known ? model : this.names.length - 1;
    this.together.checked = together === true || together === "true";
  }

  /** What a link keeps: the text of the inputs. */
  state() {
    const { prompt, temperature, topK, topP, seed, length, choice, together } = this, found = { prompt: prompt.value };
    for (const [name, input] of Object.entries({ temperature, top_p: topP, seed, length })) found[name] = input.value;
    if (topK.value !== topK.max) found.top_k = topK.value;
    return { ...found, model: choice.value, together: together.checked };
  }

  settings() {
    const [temperature, k, p] = [this.temperature, this.topK, this.topP].map((input) => Number(input.value));
    const seed = this.seed.value === "" ? NaN : Number(this.seed.value);
    return { temperature, topK: k >= Number(this.topK.max) ? null : k, topP: p >= 1 ? null : p, seed };
  }

  /** Put up the chosen models, loading those that are not there yet. */
  async show() {
    this.halt("Loading …");
    const turn = (this.turn = {});
    const wanted = this.together.checked ? [...this.names.keys()] : [Number(this.choice.value)];
    const loaded = await Promise.all(wanted.filter((i) => !this.about[i]).map((model) =>
      this.ask({ kind: "load", model }, (about) => { this.about[model] = about; })));
    if (this.turn !== turn) return; // the reader chose again
    this.progress.hidden = true;
    if (loaded.includes(false)) return;
    this.choice.disabled = this.together.checked;
    const off = this.topK.value === this.topK.max;
    const most = Math.max(...this.about.filter(Boolean).map(({ alphabet }) => [...alphabet].length));
    this.topK.max = most;
    this.topK.value = this.wantedK ?? (off ? most : this.topK.value);
    this.wantedK = undefined;
    for (const input of [this.temperature, this.topK, this.topP]) input.tell();
    const pane = (model) => {
      const next = async (ids) => this.host.ask({ kind: "next", model, ids });
      return new Pane(this.names[model], this.about[model], next, () => this.settings());
    };
    this.panes = wanted.map(pane);
    this.place.replaceChildren(...this.panes.map(({ element }) => element));
    this.busy(false);
    await this.look();
  }

  /** What is wrong with prompt and settings, as one sentence; else "". */
  problem() {
    if (!this.prompt.value) return "A prompt needs at least one character.";
    for (const { alphabet, name } of this.panes) {
      const { unknown } = encode(alphabet, this.prompt.value);
      const named = unknown.slice(0, 8).map((c) => `“${visible(c)}”`).join(", ") + (unknown.length > 8 ? " …" : "");
      if (named) return `${name} does not know ${named}: its alphabet has ${alphabet.length} characters.`;
    }
    const length = Number(this.length.value), possible = Number.isInteger(length) && length >= 1 && length <= 5000;
    return wrongSettings(this.settings()) || (possible ? "" : "Characters: a whole number from 1 to 5000.");
  }

  /** Tell the reader of the problem, if there is one. -> it */
  refuse() {
    this.refused = this.problem();
    this.say(this.refused, Boolean(this.refused));
    return this.refused;
  }

  /** Show what may follow the prompt. */
  async look() {
    if (this.run || !this.panes.length || this.refuse()) return;
    const done = await this.each((pane) => {
      pane.begin(encode(pane.alphabet, this.prompt.value).ids);
      return pane.ready();
    });
    if (done && !this.run) this.say(""); // if it had to say that no answer came
    this.paint();
  }

  /** Do the same in every pane at a time, and tell of what went wrong. -> whether all went well */
  async each(action) {
    try {
      await Promise.all(this.panes.map(action));
      return true;
    } catch (error) {
      if (!this.closed) this.halt(error.message, true);
      return false;
    }
  }

  /** @param {boolean} anew from the prompt, many characters; else one more */
  async write(anew) {
    if (this.refuse()) return;
    const length = anew ? Number(this.length.value) : 1;
    clearTimeout(this.timer);
    const run = (this.run = {}), begun = performance.now();
    this.busy(true);
    if (anew) this.say("Writing …");
    await this.each(async (pane) => {
      const { ids } = encode(pane.alphabet, this.prompt.value);
      if (anew || String(ids) !== String(pane.prompt)) pane.begin(ids);
      pane.at = null;
      for (let i = 0; i < length && this.run === run; i++) {
        if ((this.refused = wrongSettings(this.settings()))) throw new Error(this.refused);
        await pane.ready();
        if (this.run !== run) return; // stopped meanwhile: nothing more is written
        if (this.status.textContent === SILENT) this.say("Writing …");
        pane.write();
        this.soon();
      }
      if (this.run === run) await pane.ready();
    });
    if (this.run !== run) return;
    const count = length * this.panes.length, rate = Math.round((1000 * count) / (performance.now() - begun));
    this.halt(anew ? `${count} characters written, ${rate} a second.` : "");
  }

  halt(said, wrong = false) {
    this.run = null;
    this.busy(false);
    this.say(said, wrong);
    this.paint();
  }

  busy(writing) {
    const usable = this.panes.length > 0 && !this.host.dead;
    if (!writing && document.activeElement === this.stop) this.generate.focus(); // not left on a dead button
    this.generate.disabled = this.one.disabled = writing || !usable;
    this.stop.disabled = !writing;
    this.link.disabled = !usable;
    for (const { note } of this.panes) note.setAttribute("aria-live", writing ? "off" : "polite");
  }

  lost(problem) {
    if (!this.closed) this.halt(problem, true);
  }

  say(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("sampler-wrong", wrong);
  }

  paint() {
    clearTimeout(this.painting);
    this.painting = null;
    if (this.refused && this.status.textContent === this.refused) this.refuse(); // perhaps mended
    for (const pane of this.panes) pane.paint();
  }

  /** Paint a little later, once for many characters; rarely for who wants things calm. */
  soon() {
    const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 500 : 60;
    this.painting ??= setTimeout(() => this.paint(), pause);
  }

  later(action) {
    clearTimeout(this.timer);
    this.timer = setTimeout(action, 200);
  }

  dropped(event) {
    if (!this.page || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (event.type === "drop") this.open(event.dataTransfer.files[0]);
  }

  async open(file) {
    if (!file) return;
    this.halt(`Reading ${file.name} …`);
    await this.ask({ kind: "open", file }, ({ model, name, ...about }) => {
      this.names[model] = name;
      this.about[model] = about;
      this.list();
      this.choice.value = model;
      this.together.checked = false;
      return this.show();
    });
    this.file.value = ""; // the same file may be chosen again
  }

  close() {
    this.closed = true;
    this.run = null;
    clearTimeout(this.timer);
    clearTimeout(this.painting);
    this.host.close();
  }
}
