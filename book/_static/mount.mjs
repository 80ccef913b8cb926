// The widgets on a page of the book: where it has <div class="sampler-place">, "inside-place" or
// "training-place", one is put when the reader comes near; but where a place holds a link, which
// becomes a button, not before this is pressed. The models run in workers; their weights are loaded
// when they are needed.

const PARTS = new URL("../playground/", import.meta.url); // course_playground.py puts them there
const KINDS = {
  "sampler-place": { front: "widget.mjs", styles: ["widget.css"] },
  "inside-place": { front: "inside.mjs", styles: ["widget.css", "inside.css"] },
  "training-place": { front: "training.mjs", styles: ["widget.css", "training.css"] },
};
const PLACES = Object.keys(KINDS)
  .map((name) => `.${name}`)
  .join();
const NEAR = "50% 0px"; // half a screen ahead of the reader

/** Stands where anywidget's model stands in a notebook: the same messages, answered by workers. */
class Page {
  /**
   * @param {{name: string, file: string}[]} models
   * @param {object} settings those with which the widget opens
   * @param {{write: boolean, leads: boolean}} way whether it begins at once, with its text on top
   */
  constructor(models, settings, way) {
    Object.assign(this, { models, settings, way, listeners: [] });
    const chosen = models.find((_, i) => String(i) === settings.model) ?? models.at(-1);
    const first = settings.together === "true" ? models : [chosen];
    for (const model of first) this.load(model); // those that the widget will choose: it loads too
  }

  on(event, listener) {
    if (event === "msg:custom") this.listeners.push(listener);
  }

  off(event, listener) {
    this.listeners = this.listeners.filter((other) => other !== listener);
  }

  say(content, buffers = []) {
    for (const listener of this.listeners) listener(content, buffers);
  }

  send({ request, kind, model, ids, off, file, settings }) {
    if (kind === "hello") this.tell(request, this.hello());
    if (kind === "load") this.tell(request, this.load(this.models[model]));
    if (ids) this.models[model].worker.postMessage({ request, kind, ids, off });
    if (kind === "open") this.tell(request, this.open(file));
    if (kind === "link") this.tell(request, this.copy(settings));
  }

  /** Answer a question, once the answer is there. */
  async tell(request, answer) {
    this.say({ ...(await answer), request });
  }

  async hello() {
    const { settings, way } = this;
    return { models: this.models.map(({ name }) => name), settings, ...way, page: true };
  }

  /**
   * Load a model in a worker of its own, once.
   * @returns {Promise<object>} {alphabet, context}, or {error}: then it may be asked again
   */
  load(model, from = { address: new URL(model.file, PARTS).href }) {
    return (model.loading ??= new Promise((resolve) => {
      const worker = (model.worker = new Worker(new URL("worker.mjs", PARTS), { type: "module" }));
      const loaded = (content) => {
        if (content.error) {
          worker.terminate();
          model.loading = undefined;
        }
        resolve(content);
      };
      worker.onerror = () => loaded({ error: "This browser can't run the model." });
      worker.onmessage = ({ data: { numbers, ...content } }) => {
        if (content.request === "load") loaded(content);
        else this.say(content, numbers);
      };
      worker.postMessage({ request: "load", kind: "load", ...from });
    }));
  }

  async open(file) {
    const model = { name: file.name };
    const { error, ...about } = await this.load(model, { file });
    if (error) return { error: `${file.name}: ${error}` };
    return { ...about, model: this.models.push(model) - 1, name: model.name };
  }

  async copy(settings) {
    const ours = this.models[settings.model]?.file; // a reader's own file is not behind a link
    const kept = new URLSearchParams(ours ? settings : { ...settings, model: "" });
    history.replaceState(null, "", `#${kept}`);
    try {
      await navigator.clipboard.writeText(location.href);
      return { copied: true };
    } catch {
      return { copied: false }; // the address bar holds the link all the same
    }
  }
}

function part(name) {
  return new URL(name, PARTS).href;
}

async function meet(place) {
  const models = await (await fetch(part("models.json"))).json();
  const written = place.matches(".sampler-place") ? location.hash.slice(1) : "";
  const link = Object.fromEntries(new URLSearchParams(written));
  const shared = "prompt" in link; // else the address may name a heading
  const { write, ...settings } = place.dataset;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const leads = write === "yes";
  return new Page(models, { ...settings, ...link }, { write: shared || (leads && !still), leads });
}

/** What a training is about: the recipe, and where the text is found. */
async function recipe() {
  const about = await (await fetch(part("training.json"))).json();
  about.corpus.practice = part(about.corpus.practice);
  return { ...about, parts: PARTS.href };
}

/** @param {boolean} [begin] whether the widget is to begin at once: somebody has asked for it */
async function mount(place, begin = false) {
  const { front, styles } = KINDS[[...place.classList].find((name) => name in KINDS)];
  for (const name of styles) {
    const style = document.createElement("link");
    Object.assign(style, { rel: "stylesheet", href: part(name) });
    document.head.append(style);
  }
  try {
    const trains = place.matches(".training-place");
    const asked = trains ? recipe() : meet(place);
    const [widget, found] = await Promise.all([import(part(front)), asked]);
    widget.default.render({ el: place, [trains ? "about" : "model"]: found, begin });
    if (!begin) return;
    place.querySelector("button").focus({ preventScroll: true });
    place.scrollIntoView({ block: "start" }); // what comes is larger than a button
  } catch {
    place.textContent = "The widget could not be loaded.";
  }
}

function come(entries) {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    mount(target);
  }
}

const seen = new IntersectionObserver(come, { rootMargin: NEAR });

/** Let a place's link, which leads to the same widget elsewhere, do here what it says. */
function wait(place, link) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: link.textContent });
  button.addEventListener("click", () => mount(place, true), { once: true });
  link.replaceWith(button);
}

function look() {
  for (const place of document.querySelectorAll(PLACES)) {
    const link = place.querySelector(":scope > a");
    const here = place.getBoundingClientRect().top < innerHeight;
    if (link) wait(place, link);
    else if (here) mount(place); // an observer first hears when all scripts have run
    else seen.observe(place);
  }
}

// The page may still be on its way: what else it needs is not waited for.
if (document.readyState === "loading") {
  document.addEventListener("readystatechange", look, { once: true });
} else {
  look();
}
