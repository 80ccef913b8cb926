// One model in a thread of its own, so that the page never waits for it.
// Asked {request, kind: "load", address or file} or {request, kind: "next", ids}, it answers {request, …}; what goes
// wrong is answered {request, error}.

import { Decoder, FileError, readSafetensors } from "./gpt.mjs";

const MOST_BYTES = 2 ** 28;
let decoder;

self.onmessage = async ({ data }) => {
  const { request } = data;
  try {
    if (data.kind === "load") {
      const { config, alphabet, weights } = readSafetensors(await bytes(data));
      decoder = new Decoder({ config, weights });
      self.postMessage({ request, alphabet: alphabet.join(""), context: config.context_length });
    } else {
      self.postMessage({ request, logits: decoder.next(data.ids) });
    }
  } catch (error) {
    const known = error instanceof FileError;
    self.postMessage({ request, error: known ? error.message : `The model could not be used here: ${error.message}` });
  }
};

async function bytes({ file, address }) {
  if (!file) return download(address);
  if (file.size > MOST_BYTES) throw new FileError("This file is too large for a page.");
  return file.arrayBuffer();
}

async function download(address) {
  const response = await fetch(address);
  if (!response.ok) throw new FileError(`The weights could not be loaded (${response.status}).`);
  const total = Number(response.headers.get("Content-Length")), chunks = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    loaded += value.length;
    if (total) self.postMessage({ progress: Math.min(1, loaded / total) });
  }
  return new Blob(chunks).arrayBuffer();
}
