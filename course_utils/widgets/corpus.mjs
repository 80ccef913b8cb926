// The text to learn from: the reader's own file, Tiny Shakespeare from its public mirrors, or the
// practice text that comes with the page. The same rules as in course_utils/corpus.py.

import { unknownTo } from "./elements.mjs";
import { FileError } from "./safetensors.mjs";
import { encode } from "./sampler.mjs";
import { _ } from "./words.mjs";

const MOST_BYTES = 2 ** 24;
const MOST_CHARACTERS = 4096; // different ones: each costs a row of the model
const PATIENCE_MS = 15_000;

/**
 * @param {File|undefined} file the reader's own
 * @param {{sha256: string, mirrors: string[], practice: string}} corpus where else to look
 * @returns {Promise<{text: string, name: string, note: string}>}
 */
export async function find(file, { sha256, mirrors, practice }) {
  if (file) {
    if (file.size > MOST_BYTES) throw new FileError(_`${file.name} is too large for a page.`);
    const text = decode(await file.arrayBuffer(), file.name);
    return { text, name: file.name, note: _`Learning from ${file.name}, which goes nowhere else.` };
  }
  for (const mirror of mirrors) {
    const bytes = await download(mirror).catch(() => undefined);
    if (!bytes || (await hash(bytes)) !== sha256) continue; // not there, or another text
    const note = _`Tiny Shakespeare, from ${new URL(mirror).hostname}.`;
    return { text: decode(bytes), name: "Tiny Shakespeare", note };
  }
  const note = _`Tiny Shakespeare could not be fetched: learning from the practice text, which \
the course's own model wrote; it is not Shakespeare.`;
  const bytes = await download(practice).catch(() => {
    throw new FileError(_`No text could be loaded, not even for practice: drop one of your own.`);
  });
  return { text: decode(bytes), name: _`practice text`, note };
}

async function download(address) {
  const response = await fetch(address, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!response.ok) throw new Error(response.status);
  return response.arrayBuffer();
}

async function hash(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes as text: UTF-8, newlines are \n, no byte-order mark. */
function decode(bytes, name) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.replaceAll("\r\n", "\n").replaceAll("\r", "\n");
  } catch {
    throw new FileError(_`${name} is not UTF-8 text; save it as UTF-8.`);
  }
}

/**
 * A text as tokens, its first nine tenths to learn from.
 * @param {string} text @param {number} context the model's
 * @param {string[]} [known] its alphabet, if it has one
 * @returns {{alphabet: string[], ids: Int32Array, held: Int32Array}}
 */
export function prepare(text, context, known) {
  const characters = Array.from(text);
  const different = new Set(characters);
  const alphabet = known ?? [...different].sort((a, b) => a.codePointAt(0) - b.codePointAt(0));
  const cut = Math.floor(0.9 * characters.length);
  if (characters.length < 100 || cut <= context || different.size < 2) {
    const least = Math.max(100, Math.ceil((context + 1) / 0.9));
    throw new FileError(
      _`A text to learn from must have at least ${least} characters, 2 of them different.`,
    );
  }
  if (different.size > MOST_CHARACTERS) {
    throw new FileError(_`A text may have ${MOST_CHARACTERS} different characters in a page.`);
  }
  const { ids: all, unknown } = encode(alphabet, text);
  if (unknown.length) throw new FileError(unknownTo(_`The model`, alphabet, text));
  const ids = Int32Array.from(all);
  return { alphabet, ids: ids.slice(0, cut), held: ids.slice(cut) };
}
