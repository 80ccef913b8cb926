// The sampling widget on a page of the book: where a page has <div class="sampler-place">, it is put there when the
// reader comes near. The models run in workers; their weights are loaded when they are needed.

const PARTS = new URL("../playground/", import.meta.url); // course_playground.py puts them there
const NEAR = "50% 0px"; // half a screen ahead of the reader

/** Stands where anywidget's model stands in a notebook: the same messages, answered by workers. */
class Page {
  /** @param {{name: string, file: string}[]} models @param {object} settings those with which the widget opens */
  constructor(models, settings) {
    Object.assign(this, { models, settings, listeners: [] });
    const first = models.find((_, i) => String(i) === settings.model) ?? models.at(-1);
    // The widget will choose the same: they are loaded while its modules are.
    for (const model of settings.together === "true" ? models : [first]) if (model) this.load(model);
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

  send({ request, kind, model, ids, file, settings }) {
    const asked = this.models[model], names = this.models.map(({ name }) => name);
    if (kind === "hello") this.later({ request, models: names, settings: this.settings, page: true });
    if (kind === "load") this.load(asked).then((content) => this.say({ ...content, request }));
    if (kind === "next") asked.worker.postMessage({ request, kind, ids });
    if (kind === "open") this.open(request, file);
    if (kind === "link") this.copy(request, settings);
  }

  later(content) {
    queueMicrotask(() => this.say(content)); // an answer never comes before its question is out
  }

  /** Load a model in a worker of its own, once. -> {alphabet, context}, or {error}: then it may be asked again */
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
      worker.onmessage = ({ data: { logits, ...content } }) => {
        if (content.request === "load") loaded(content);
        else this.say(content, logits && [logits]);
      };
      worker.postMessage({ request: "load", kind: "load", ...from });
    }));
  }

  async open(request, file) {
    const model = { name: file.name }, { error, ...about } = await this.load(model, { file });
    if (error) return this.say({ request, error: `${file.name}: ${error}` });
    this.say({ ...about, request, model: this.models.push(model) - 1, name: model.name });
  }

  async copy(request, settings) {
    const ours = this.models[settings.model]?.file; // a reader's own file is not behind a link
    history.replaceState(null, "", `#${new URLSearchParams(ours ? settings : { ...settings, model: "" })}`);
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    this.say({ request, said: copied ? "Copied: the link keeps prompt and settings." : "The address bar now holds the link." });
  }
}

async function mount(place) {
  const part = (name) => new URL(name, PARTS).href, style = document.createElement("link");
  Object.assign(style, { rel: "stylesheet", href: part("widget.css") });
  document.head.append(style);
  const settings = { ...place.dataset, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
  const meet = async () => new Page(await (await fetch(part("models.json"))).json(), settings);
  try { // all at once: none waits for another
    const [widget, page] = await Promise.all([import(part("widget.mjs")), meet(), import(part("sampler.mjs"))]);
    widget.default.render({ model: page, el: place });
  } catch {
    place.textContent = "The widget could not be loaded.";
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    mount(target);
  }
}, { rootMargin: NEAR });

function look() {
  for (const place of document.querySelectorAll(".sampler-place")) {
    if (place.getBoundingClientRect().top < innerHeight) mount(place); // an observer first hears when all scripts have run
    else seen.observe(place);
  }
}

// The page may still be on its way: what else it needs is not waited for.
if (document.readyState === "loading") document.addEventListener("readystatechange", look, { once: true });
else look();
