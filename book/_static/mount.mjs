// The sampling widget on a page of the book: where a page has <div class="sampler-place">, it is put there as soon as
// the reader scrolls to it. The models run in workers; their weights are loaded when they are needed.

const PARTS = new URL("../playground/", import.meta.url); // course_playground.py puts them there

/** Stands where anywidget's model stands in a notebook: the same messages, answered by workers. */
class Page {
  constructor(models, settings) {
    Object.assign(this, { models, settings, listeners: [] });
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
    if (kind === "load") this.start(asked, { request, kind, address: new URL(asked.file, PARTS).href });
    if (kind === "next") asked.worker.postMessage({ request, kind, ids });
    if (kind === "open") this.open(request, file);
    if (kind === "link") this.copy(request, settings);
  }

  later(content) {
    queueMicrotask(() => this.say(content)); // an answer never comes before its question is out
  }

  start(model, question, heard = (content) => content) {
    model.worker?.terminate(); // a second try
    model.worker = new Worker(new URL("worker.mjs", PARTS), { type: "module" });
    model.worker.onmessage = ({ data: { logits, ...content } }) => this.say(heard(content), logits && [logits]);
    model.worker.onerror = () => this.say({ request: question.request, error: "This browser can't run the model." });
    model.worker.postMessage(question);
  }

  open(request, file) {
    const model = { name: file.name };
    this.start(model, { request, kind: "load", file }, (content) => {
      if (content.request !== request) return content;
      if (content.error) {
        model.worker.terminate();
        return { request, error: `${file.name}: ${content.error}` };
      }
      return { ...content, model: this.models.push(model) - 1, name: model.name };
    });
  }

  async copy(request, settings) {
    const ours = this.models[settings.model]?.file; // a reader's own file is not behind a link
    history.replaceState(null, "", `#${new URLSearchParams(ours ? settings : { ...settings, model: "" })}`);
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    this.say({ request, said: copied ? "Copied: the link keeps prompt and settings." : "The address bar now holds the link." });
  }
}

async function mount(place) {
  const style = document.createElement("link");
  Object.assign(style, { rel: "stylesheet", href: new URL("widget.css", PARTS).href });
  document.head.append(style);
  try {
    const widget = await import(new URL("widget.mjs", PARTS).href), manifest = await fetch(new URL("models.json", PARTS));
    const settings = { ...place.dataset, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
    widget.default.render({ model: new Page(await manifest.json(), settings), el: place });
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
});
for (const place of document.querySelectorAll(".sampler-place")) seen.observe(place);
