// One model in a thread of its own, so that the page never waits for it.
// Asked {request, kind: "load", address or file}, or {request, kind: "next" or "look", ids, off},
// it answers {request, …}, with arrays of numbers in `numbers`; what goes wrong is answered
// {request, error}.

import { GPT } from "./gpt.mjs";
import { FileError, readSafetensors } from "./safetensors.mjs";
import { _ } from "./words.mjs";

const MOST_BYTES = 2 ** 28;
let model;

self.onmessage = async ({ data }) => {
  const { request } = data;
  try {
    if (data.kind === "load") {
      const { config, alphabet, weights } = readSafetensors(await bytes(data));
      model = new GPT({ config, weights });
      self.postMessage({ request, alphabet: alphabet.join(""), context: config.context_length });
    } else {
      model.switchOff(data.off ?? []);
      self.postMessage({ request, ...answer(data) });
    }
  } catch (error) {
    const known = error instanceof FileError;
    const unknown = _`The model could not be used here: ${error.message}`;
    self.postMessage({ request, error: known ? error.message : unknown });
  }
};

function answer({ kind, ids }) {
  if (kind === "next") return { numbers: [model.next(ids)] };
  const { lens, attention } = model.look(ids);
  const { n_layers: layers, n_heads: heads } = model.config;
  return { layers, heads, numbers: [lens, attention] };
}

async function bytes({ file, address }) {
  if (!file) return download(address);
  if (file.size > MOST_BYTES) throw new FileError(_`This file is too large for a page.`);
  return file.arrayBuffer();
}

async function download(address) {
  const response = await fetch(address);
  if (!response.ok) throw new FileError(_`The weights could not be loaded (${response.status}).`);
  const total = Number(response.headers.get("Content-Length"));
  const chunks = [];
  const reader = response.body.getReader();
  let loaded = 0;
  let part = await reader.read();
  while (!part.done) {
    chunks.push(part.value);
    loaded += part.value.length;
    if (total) self.postMessage({ progress: Math.min(1, loaded / total) });
    part = await reader.read();
  }
  return new Blob(chunks).arrayBuffer();
}
