"""The same model on engines other than PyTorch: NumPy alone, and the page's own, in WebAssembly."""

import contextlib
import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy.special import erf

from course_utils.bench import peers
from course_utils.messages import _
from course_utils.training import checkpoints

WIDGETS = Path(__file__).parents[1] / "widgets"
# A Node process that holds the model; told of a character and of n, it goes on by n.
IN_NODE = """
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
const [widgets, file] = process.argv.slice(1);
const { GPT } = await import(`${widgets}/gpt.mjs`);
const { readSafetensors } = await import(`${widgets}/safetensors.mjs`);
const { drawAlike } = await import(`${widgets}/sampler.mjs`);
const model = new GPT(readSafetensors(new Uint8Array(readFileSync(file)).buffer));
for await (const line of createInterface({ input: process.stdin })) {
  const [first, n] = line.split(" ").map(Number);
  const ids = [first];
  while (ids.length <= n) ids.push(drawAlike(model.next(ids), ids.length));
  console.log(ids.join(" "));
}
"""


class NumpyGPT:
    """The baseline's model, one text, one token a call, a cache: what PyTorch is not needed for."""

    def __init__(self, model):
        self.config = c = model.config
        self.weights = {name: w.detach().numpy() for name, w in model.state_dict().items()}
        shape = (c.n_layers, 2, c.n_heads, c.context_length, c.d_model // c.n_heads)
        self.cache = np.zeros(shape, np.float32)

    def step(self, token, at):
        """The logits (V,) of what follows this token, which stands at position `at`."""
        w, c = self.weights, self.config
        x = w["embedding.weight"][token] + w["positions"][at]
        for i, (keys, values) in enumerate(self.cache):
            block = f"blocks.{i}."
            h = self._norm(x, block + "norm_1")
            q, k, v = (w[block + "attention.qkv.weight"] @ h).reshape(3, c.n_heads, -1)
            keys[:, at], values[:, at] = k, v
            scores = np.einsum("hd,htd->ht", q, keys[:, : at + 1]) / math.sqrt(q.shape[-1])
            seen = np.exp(scores - scores.max(axis=-1, keepdims=True))
            seen /= seen.sum(axis=-1, keepdims=True)
            mixed = np.einsum("ht,htd->hd", seen, values[:, : at + 1])
            x = x + w[block + "attention.out.weight"] @ mixed.reshape(-1)

            h = w[block + "feed_forward.up.weight"] @ self._norm(x, block + "norm_2")
            h = h * (1 + erf(h / math.sqrt(2))) / 2
            x = x + w[block + "feed_forward.out.weight"] @ h
        return w["head.weight"] @ self._norm(x, "norm")

    def _norm(self, x, name):
        x = x - x.mean()
        return x / np.sqrt((x * x).mean() + 1e-5) * self.weights[f"{name}.weight"]

    def write(self, token, n, random):
        """Continue a token by n, the same race as lesson 6's: -> ids, the token first."""
        ids = [token]
        for at in range(n):
            logits = self.step(ids[-1], at)
            lengths = random.exponential(size=logits.shape)
            ids.append(int((logits - np.log(lengths)).argmax()))
        return ids


def in_numpy(model, token, n):
    """A function that continues a token by n with NumPy; None where the model is no GPT-2."""
    if not peers.is_gpt2(model.config):
        return None
    writer, random = NumpyGPT(model.eval()), np.random.default_rng()
    return lambda: writer.write(token, n, random)


class Page:
    """The engine of the book's page, in Node, whose WebAssembly is Chromium's."""

    is_there = bool(shutil.which("node"))

    def __init__(self, model):
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name, "model.safetensors")
        alphabet = "".join(chr(0x4E00 + i) for i in range(model.config.vocab_size))
        checkpoints.save_model(file, model, alphabet)
        command = ["node", "--input-type=module", "--eval", IN_NODE, WIDGETS.as_uri(), file]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)

    def write(self, token, n):
        """As NumpyGPT's, but always the same text."""
        with contextlib.suppress(OSError):  # it has ended, which the next line tells
            print(token, n, file=self.process.stdin)
        line = self.process.stdout.readline()
        if not line:
            raise peers.PeerError(
                _("Node ended before it had written a text: update it, or take it off the PATH")
            )
        return [int(i) for i in line.split()]

    def close(self):
        with contextlib.suppress(OSError):  # what it did not live to read
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()
