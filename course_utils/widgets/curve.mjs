// The losses of models as they learn, by their steps, and the lines that counting has drawn.

import { words } from "./lane.mjs";
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
    this.lanes = [];
    new ResizeObserver(() => this.paint()).observe(this.element);
  }

  /**
   * @param {{name: string, loss: number}[]} lines @param {number} steps in all
   * @param {import("./lane.mjs").Lane[]} lanes one a model; what they cross is told to them
   */
  put(lines, steps, lanes) {
    Object.assign(this, { lines, steps, lanes });
    this.element.classList.toggle("training-race", lanes.length > 1);
    this.paint();
  }

  /** The same in words. */
  get words() {
    return this.lanes.map((lane) => this.wordsOf(lane)).join(" ");
  }

  wordsOf({ title, held, crossed }) {
    const name = title && `${title}: `;
    if (!held.length) return name + _`The curve of the loss: nothing has been measured yet.`;
    const points = held.map(({ step, loss }) => _`${loss.toFixed(3)} after ${step} steps`);
    const below = crossed.join(", ") || _`none`;
    return name + _`Validation loss: ${points.join(", ")}. Lines it lies below: ${below}.`;
  }

  paint() {
    for (const lane of this.lanes) {
      lane.crossed = this.lines.filter(({ loss }) => lane.loss < loss).map(({ name }) => name);
    }
    const width = this.element.clientWidth;
    if (!width || !this.lines.length) return;
    this.place(width);
    this.element.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.element.setAttribute("aria-label", this.words);
    const curves = this.lanes.map((lane, which) => this.curve(lane, which));
    this.element.replaceChildren(...this.grid(width), ...this.labels(width), ...curves);
  }

  /** Where a step and a loss lie. */
  place(width) {
    const batches = this.lanes.flatMap(({ losses }) => losses);
    const held = this.lanes.flatMap((lane) => lane.held);
    const all = [...this.lines, ...held].map(({ loss }) => loss);
    const high = Math.max(...this.lines.map(({ loss }) => loss), ...batches) + 0.1;
    const low = Math.min(...all, ...batches) - 0.15;
    const across = (width - LEFT - RIGHT) / Math.log(this.steps);
    const down = (HEIGHT - TOP - BOTTOM) / (high - low);
    this.x = (step) => LEFT + across * Math.log(step);
    this.y = (loss) => TOP + down * (high - loss);
  }

  grid(width) {
    const foot = HEIGHT - BOTTOM + 16;
    const marks = [1, 10, 100, 1000, 10000].filter((step) => step <= this.steps);
    const named = { class: "training-mark", "text-anchor": "middle" };
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

  /** The lines' names, from below, each above the one before; ticked once a model is below. */
  labels(width) {
    const crossed = this.lanes.flatMap((lane) => lane.crossed);
    let free = HEIGHT;
    return [...this.lines]
      .sort((a, b) => a.loss - b.loss)
      .map(({ name, loss }) => {
        free = Math.min(this.y(loss) + 4, free - LABEL_PX);
        const label = `${crossed.includes(name) ? "✓ " : ""}${name} ${loss.toFixed(2)}`;
        return draw("text", { class: "training-label", x: width - RIGHT + 6, y: free }, label);
      });
  }

  /** One model's: its batches, and a line from one whole reading to the next. */
  curve({ losses, held }, which) {
    const points = losses.map((loss, i) => `${this.x(i + 1)},${this.y(loss)}`);
    const whole = held.map(({ step, loss }) => [this.x(step), this.y(loss)]);
    const all = draw("g", { "data-run": which });
    all.append(
      draw("polyline", { class: "training-batches", points: points.join(" ") }),
      draw("polyline", { class: "training-held", points: whole.join(" ") }),
      ...whole.map(([cx, cy]) => draw("circle", { class: "training-point", cx, cy, r: 4 })),
    );
    return all;
  }
}
