// Questions to whoever stands behind the widget, by custom messages of anywidget's `model`: in a
// notebook host.py answers them, on a page of the book mount.mjs.
//   {kind: "hello"}            -> {models: [names], settings, page: whether this is a page,
//                                  write: whether to begin at once, leads: with the text on top}
//   {kind: "load", model}      -> {alphabet, context}; a page says {progress} on the way
//   {kind: "next", model, ids} -> {} and one buffer: the logits (V,) float32 of what follows
//   {kind: "look", model, ids} -> {layers, heads} and two: lens and attention, as gpt.mjs's look
//                                 returns them
// The last two may say `off`: which heads and layers are switched off, by gpt.mjs's names.
// Asked of a page alone:
//   {kind: "open", file}       -> {model, name, alphabet, context}
//   {kind: "link", settings}   -> {copied}
// Every question has a `request`, and its answer has the same. What goes wrong is answered
// {request, error}.

import { _ } from "./words.mjs";

const SILENCE_MS = 8000; // until the reader is told that no answer comes
const SILENT = _`No answer from Python yet: the kernel is busy. If it was restarted, run the \
cells above and this one again.`;
const GONE = _`Python is gone: the kernel was restarted or stopped. Run the cells above and this \
one again.`;

export class Host {
  /**
   * @param {object} model anywidget's, or what stands in its place on a page
   * @param {object} tell
   * @param {(share: number) => void} tell.onProgress of what has to be loaded
   * @param {(problem: string) => void} tell.onSilence no answer comes; "": now one did
   * @param {(problem: string) => void} tell.onGone none will ever come
   */
  constructor(model, { onProgress, onSilence, onGone }) {
    Object.assign(this, { model, onProgress, onSilence, onGone });
    this.gone = this.silent = false;
    this.name = Math.random().toString(36).slice(2); // shown twice, it hears the answers to both
    this.asked = 0;
    this.waiting = new Map(); // a request -> who waits for its answer
    this.hear = (content, buffers) => this.answered(content, buffers);
    this.lost = () => this.fail();
    model.on("msg:custom", this.hear);
    model.on("comm_live_update", this.lost); // only ever told of an end
  }

  /**
   * @param {object} content the question
   * @param {AbortSignal} [signal] once it is aborted nobody wants the answer, which then only ends
   *   the wait, with the signal's reason
   * @returns {Promise<object>} the answer; in `numbers` what its buffers hold
   */
  ask(content, signal) {
    if (this.gone) return Promise.reject(new Error(GONE));
    return new Promise((resolve, reject) => {
      const request = `${this.name}-${this.asked++}`;
      const timer = setTimeout(() => signal?.aborted || this.hush(true), SILENCE_MS);
      this.waiting.set(request, { resolve, reject, timer, signal });
      try {
        this.model.send({ ...content, request });
      } catch {
        this.fail();
      }
    });
  }

  /**
   * @param {string[]} [off] what is switched off
   * @returns {Promise<Float32Array>} (V,) what a model thinks of what follows these tokens
   */
  async logits(model, ids, signal, off) {
    const { numbers } = await this.ask({ kind: "next", model, ids, off }, signal);
    return numbers[0];
  }

  answered(content, buffers) {
    if (content.progress !== undefined) this.onProgress(content.progress);
    const waiting = this.waiting.get(content.request);
    if (!waiting) return;
    this.waiting.delete(content.request);
    clearTimeout(waiting.timer);
    this.hush(false);
    if (waiting.signal?.aborted) waiting.reject(waiting.signal.reason);
    else if (content.error) waiting.reject(new Error(content.error));
    else waiting.resolve({ ...content, numbers: (buffers ?? []).map(floats) });
  }

  hush(silent) {
    if (silent !== this.silent) this.onSilence(silent ? SILENT : "");
    this.silent = silent;
  }

  fail() {
    this.gone = true;
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new Error(GONE));
    }
    this.waiting.clear();
    this.onGone(GONE);
  }

  close() {
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.lost);
  }
}

/** The numbers in a buffer, copied: its place in the message need not be a multiple of 4. */
function floats({ buffer, byteOffset, byteLength }) {
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
