// The losses of a training as it goes, by its steps, and the lines that counting has drawn.

import { _ } from "./words.mjs";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 340;
const [TOP, BOTTOM, LEFT, RIGHT] = [12, 42, 12, 104]; // around the lines
const LABEL_PX = 13; // from one label to the next, so that both can be read

function draw(tag, attributes, words = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = words;
  return element;
}

export class Curve {
  constructor() {
    this.element = draw("svg", { role: "img", class: "training-curve", height: HEIGHT });
    this.lines = [];
    this.losses = []; // of each step's batch
    this.held = []; // {step, loss} over the whole validation split
    new ResizeObserver(() => this.paint()).observe(this.element);
  }

  /** @param {{name: string, loss: number}[]} lines @param {number} steps in all */
  put({ lines, steps, losses, held }) {
    Object.assign(this, { lines, steps, losses: [...losses], held: [...held] });
    this.paint();
  }

  /** Which lines the last whole reading lies below. */
  get crossed() {
    const last = this.held.at(-1);
    return last ? this.lines.filter(({ loss }) => last.loss < loss) : [];
  }

  /** The same in words. */
  get words() {
    if (!this.held.length) return _`The curve of the loss: nothing has been measured yet.`;
    const points = this.held.map(({ step, loss }) => _`${loss.toFixed(3)} after ${step} steps`);
    const below = this.crossed.map(({ name }) => name).join(", ") || _`none`;
    return _`Validation loss: ${points.join(", ")}. Lines it lies below: ${below}.`;
  }

  paint() {
    const width = this.element.clientWidth;
    if (!width || !this.lines.length) return;
    this.place(width);
    this.element.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.element.setAttribute("aria-label", this.words);
    this.element.replaceChildren(...this.grid(width), ...this.labels(width), ...this.curves());
  }

  /** Where a step and a loss lie. */
  place(width) {
    const high = Math.max(...this.lines.map(({ loss }) => loss), ...this.losses) + 0.1;
    const all = [...this.lines, ...this.held].map(({ loss }) => loss);
    const low = Math.min(...all, ...this.losses) - 0.15;
    const across = (width - LEFT - RIGHT) / Math.log(this.steps);
    const down = (HEIGHT - TOP - BOTTOM) / (high - low);
    this.x = (step) => LEFT + across * Math.log(step);
    this.y = (loss) => TOP + down * (high - loss);
  }

  grid(width) {
    const foot = HEIGHT - BOTTOM + 16;
    const marks = [1, 10, 100, 1000, 10000].filter((step) => step <= this.steps);
    const named = { class: "training-mark", "text-anchor": "middle" };
    const words = (step) => step.toLocaleString("en");
    const middle = (LEFT + width - RIGHT) / 2;
    const about = { ...named, x: middle, y: HEIGHT - 6 };
    return [
      ...this.lines.map(({ loss }) => {
        const y = this.y(loss);
        return draw("line", { class: "training-line", x1: LEFT, x2: width - RIGHT, y1: y, y2: y });
      }),
      ...marks.map((step) => draw("text", { ...named, x: this.x(step), y: foot }, words(step))),
      draw("text", about, _`steps · loss in nats a character`),
    ];
  }

  /** The lines' names, from below, each above the one before. */
  labels(width) {
    const crossed = this.crossed;
    let free = HEIGHT;
    return [...this.lines]
      .sort((a, b) => a.loss - b.loss)
      .map((line) => {
        free = Math.min(this.y(line.loss) + 4, free - LABEL_PX);
        const name = `${crossed.includes(line) ? "✓ " : ""}${line.name} ${line.loss.toFixed(2)}`;
        return draw("text", { class: "training-label", x: width - RIGHT + 6, y: free }, name);
      });
  }

  curves() {
    const points = this.losses.map((loss, i) => `${this.x(i + 1)},${this.y(loss)}`);
    const whole = this.held.map(({ step, loss }) => [this.x(step), this.y(loss)]);
    return [
      draw("polyline", { class: "training-batches", points: points.join(" ") }),
      draw("polyline", { class: "training-held", points: whole.join(" ") }),
      ...whole.map(([cx, cy]) => draw("circle", { class: "training-point", cx, cy, r: 4 })),
    ];
  }
}
