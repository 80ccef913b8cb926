"""One character after the other, fast: lesson 6's cached model with less work a character.

On a CPU a character costs a few dozen small operations and one pass over the weights; on an NVIDIA
GPU it is one CUDA graph, sampling included. Keys and values lie in a static cache, allocated once.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from course_utils.lessons.model import activate, positions_at, rotate
from course_utils.lessons.sampling import KVCache, draw, filter_logits

SHARES = 16  # the pieces, at most, of a weight matrix that a CPU's cores take in turn
REACH = 64  # by how many positions at a time the part of the cache that a GPU reads grows


class Layer(NamedTuple):
    """A block of the model as functions of one position, x: (B, C).

    A linear map may be given a second argument, to which its result is added in place.
    """

    attention_norm: Callable  # (B, C) -> (B, C)
    to_qkv: Callable  # (B, C) -> (B, 3C)
    out: Callable  # (B, C) -> (B, C)
    feed_forward_norm: Callable  # (B, C) -> (B, C)
    up: Callable  # (B, C) -> (B, d_ff), or twice that for SwiGLU
    down: Callable  # (B, d_ff) -> (B, C)


class Decoder:
    """A model that reads a prompt once and then takes one token a call.

    Its weights must not change meanwhile.
    """

    def __init__(self, model, batch_size=1, dtype=torch.float32):
        c = model.config
        if dtype != model.head.weight.dtype:
            model = copy.deepcopy(model).to(dtype)
        self.model = model
        self.config = c
        self.batch_size = batch_size
        self.device = model.head.weight.device
        self.split = batch_size == 1 and self.device.type == "cpu"

        shape = (c.n_layers, 2, batch_size, c.n_heads, c.context_length, c.d_model // c.n_heads)
        self.cache = torch.zeros(shape, dtype=dtype, device=self.device)
        self.length = 0  # of the text in the cache

        self.embedding = model.embedding.weight.detach() * model.scale
        vectors = {"learned": model.positions, "sinusoidal": model.sinusoids}
        self.positions = vectors.get(c.position)  # (T, C) to be added, or None
        self.layers = [self._layer(block) for block in model.blocks]
        self.norm = self._norm(model.norm)
        self.head = self._linear(model.head)

    def _layer(self, block):
        return Layer(
            attention_norm=self._norm(block.norm_1),
            to_qkv=self._linear(block.attention.qkv),
            out=self._linear(block.attention.out),
            feed_forward_norm=self._norm(block.norm_2),
            up=self._linear(block.feed_forward.up),
            down=self._linear(block.feed_forward.out),
        )

    @torch.inference_mode()
    def read(self, tokens):
        """Begin with these tokens, (B, T) int64. -> (B, V) logits of what follows"""
        logits = self._fill(tokens)[:, -1].float()
        self.length = tokens.shape[1]
        return logits

    def _fill(self, tokens):
        """The model over tokens that stand at the beginning; the cache takes keys and values.

        -> (B, T, V) logits
        """
        filled = [KVCache(self.config.context_length) for _ in self.layers]
        was_training = self.model.training
        try:
            logits = self.model.eval()(tokens, filled)
        finally:
            self.model.train(was_training)
        here = slice(tokens.shape[1])  # what lies beyond the text may be no number
        for (keys, values), theirs in zip(self.cache, filled, strict=True):
            keys[..., here, :] = theirs.k[..., here, :]
            values[..., here, :] = theirs.v[..., here, :]
        return logits

    @torch.inference_mode()
    def step(self, token):
        """Go on with one token a text, (B, 1) int64. -> (B, V) logits of what follows"""
        here = slice(self.length, self._longer_by(1))
        seen = self.cache[..., : self.length, :]
        keys = seen[:, 0].unbind()
        values = seen[:, 1].unbind()
        places = self.cache[..., here, :].unbind()

        def attend(layer, q, new):
            places[layer].copy_(new)  # first, as a character also sees itself
            return F.scaled_dot_product_attention(q, keys[layer], values[layer])

        return self._logits(token, here, attend)

    def draw_next(self, token, temperature=1.0, top_k=None, top_p=None, generator=None):
        """Go on with one token a text and draw the next: (B, 1) int64 -> (B, 1)."""
        return draw(filter_logits(self.step(token), temperature, top_k, top_p), generator)

    def write(self, token, n, temperature=1.0, top_k=None, top_p=None, generator=None):
        """Go on with one token a text and draw the next n: (B, 1) int64 -> (B, n)."""
        drawn = []
        for _ in range(n):
            token = self.draw_next(token, temperature, top_k, top_p, generator)
            drawn.append(token.clone())
        return torch.cat(drawn, dim=1)

    def _check_room(self, n):
        longest = self.config.context_length
        if self.length + n > longest:
            raise ValueError(f"the context of {longest} tokens is full: begin again with read")

    def _longer_by(self, n):
        self._check_room(n)
        self.length += n
        return self.length

    def _logits(self, token, here, attend):
        """The model at the position that `here` selects: one of all texts, or one for each row.

        attend(layer, q (B, H, 1, D), its new keys and values (2, B, H, 1, D)) -> as q
        """
        c = self.config
        pre = c.norm_placement == "pre"
        angles = self.model.angles
        if angles is not None:
            angles = angles[here, None, None, None]
        x = F.embedding(token[:, 0], self.embedding)
        if self.positions is not None:
            x = x + self.positions[here]

        for i, layer in enumerate(self.layers):
            # First attention: q, k, v of this position, what it sees, and back into the stream.
            h = layer.attention_norm(x) if pre else x
            qkv = layer.to_qkv(h).view(len(token), 3, c.n_heads, 1, -1)
            self._norm_and_rotate(qkv[:, :2], angles)
            new = qkv[:, 1:].transpose(0, 1)
            seen = attend(i, qkv[:, 0], new).flatten(1)
            x = layer.out(seen, x if c.residual else None)
            if not pre:
                x = layer.attention_norm(x)

            # Then the feed-forward layer, the same way.
            h = layer.feed_forward_norm(x) if pre else x
            h = self._activate(layer.up(h))
            x = layer.down(h, x if c.residual else None)
            if not pre:
                x = layer.feed_forward_norm(x)
        return self.head(self.norm(x)).float()

    def _norm_and_rotate(self, qk, angles):
        """Queries and keys (B, 2, H, 1, D) as QK-norm and rotary positions have them, in place."""
        turned = qk
        if self.config.qk_norm:
            turned = F.rms_norm(turned, turned.shape[-1:])
        if angles is not None:
            turned = rotate(turned, angles)
        if turned is not qk:
            qk.copy_(turned)

    def _activate(self, h):
        if self.split and self.config.activation == "gelu":
            # GELU written out: for one row oneDNN's takes three times as long.
            return torch.addcmul(h, h, torch.erf(h * 0.5**0.5)).mul_(0.5)
        return activate(h, self.config.activation)

    def _linear(self, layer):
        weight = layer.weight.detach()
        return linear_in_shares(weight) if self.split else linear(weight)

    def _norm(self, layer):
        """A norm as a function; PyTorch's module costs as much again as the operation."""
        if not isinstance(layer, torch.nn.LayerNorm):
            return layer
        shape = layer.normalized_shape
        weight = layer.weight.detach()

        def norm(x):
            return torch.layer_norm(x, shape, weight, None, layer.eps)

        return norm


def linear(weight):
    """A linear map as a function of x (B, K), added in place to y (B, N) if given. -> (B, N)"""

    def apply(x, y=None):
        return F.linear(x, weight) if y is None else y.addmm_(x, weight.T)

    return apply


def linear_in_shares(weight):
    """The same on a CPU for few rows, whose threads take shares of the matrix in turn."""
    shares = math.gcd(SHARES, len(weight))
    pieces = weight.view(shares, -1, weight.shape[1]).mT.contiguous()

    def apply(x, y=None):
        product = torch.bmm(x.expand(shares, -1, -1), pieces).transpose(0, 1).reshape(len(x), -1)
        return product if y is None else product.add_(y)

    return apply


class CudaDecoder(Decoder):
    """The same on an NVIDIA GPU, by CUDA graphs.

    One reads the prompt, one reads a character and draws the next.
    """

    def __init__(self, model, batch_size=1, dtype=torch.float32):
        super().__init__(model, batch_size, dtype)
        context = self.config.context_length
        device = self.device

        # What a graph reads and writes always lies at the same place: the length of the text, the
        # last token, the prompt, its logits, and what each position may not see (0 is to be seen).
        self.now = torch.zeros(1, dtype=torch.int64, device=device)
        self.token = torch.zeros(batch_size, 1, dtype=torch.int64, device=device)
        self.text = torch.zeros(batch_size, context, dtype=torch.int64, device=device)
        self.first = torch.zeros(batch_size, self.config.vocab_size, device=device)
        nothing = torch.full((context, context), -math.inf, dtype=dtype, device=device)
        self.hidden = nothing.triu(diagonal=1)
        self.graphs = {}

    @torch.inference_mode()
    def read(self, tokens):
        """As Decoder's. It reads to a multiple of REACH; the text can't see what lies beyond it."""
        length = tokens.shape[1]
        positions_at(self.model, 0, length)  # refuses what is longer than the context
        self.text[:, :length] = tokens
        self.now.fill_(length)
        self._replay(self._read, self._reach(length))
        self.length = length
        return self.first.clone()

    @torch.inference_mode()
    def step(self, token):
        self._longer_by(1)
        logits = self._masked_logits(token, self.config.context_length)
        self.now += 1
        return logits

    @torch.inference_mode()
    def draw_next(self, token, temperature=1.0, top_k=None, top_p=None, generator=None):
        """As Decoder's; what it returned is overwritten by the next call."""
        self.token.copy_(token)
        reach = self._reach(self._longer_by(1))
        self._replay(self._draw, reach, temperature, top_k, top_p, generator)
        return self.token

    def _reach(self, length):
        return min(-(-length // REACH) * REACH, self.config.context_length)

    def _read(self, reach):
        self.first.copy_(self._fill(self.text[:, :reach]).index_select(1, self.now - 1)[:, 0])

    def _masked_logits(self, token, reach):
        """As `step`, where the host need not know the position: of `reach` the future is hidden."""
        hidden = self.hidden.index_select(0, self.now)[0, :reach]
        scale = self.cache.shape[-1] ** -0.5

        def attend(layer, q, new):
            self.cache[layer].index_copy_(3, self.now, new)
            keys, values = self.cache[layer, ..., :reach, :].unbind()
            return torch.add(hidden, q @ keys.mT, alpha=scale).softmax(dim=-1) @ values

        return self._logits(token, self.now, attend)

    def _draw(self, reach, temperature, top_k, top_p, generator):
        logits = filter_logits(self._masked_logits(self.token, reach), temperature, top_k, top_p)
        self.token.copy_(draw(logits, generator))
        self.now += 1

    def _replay(self, work, *settings):
        """Do this work as a graph, which is made where it is asked for the first time."""
        key = (work.__name__, *settings)
        if key not in self.graphs:
            self.graphs[key] = self._capture(work, settings)
        self.graphs[key].replay()

    def _capture(self, work, settings):
        """Record this work as a graph, and leave no trace of having tried it."""
        generators = [setting for setting in settings if isinstance(setting, torch.Generator)]
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        generator = generators[0] if generators else default

        # First a trial on a stream of its own, as PyTorch asks before a capture; then back to what
        # was before it: the token, the length, the luck.
        token = self.token.clone()
        now = self.now.clone()
        random_state = generator.get_state()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work(*settings)
        torch.cuda.current_stream().wait_stream(stream)
        self.token.copy_(token)
        self.now.copy_(now)
        generator.set_state(random_state)

        # Then the capture, which records and does nothing.
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work(*settings)
        return graph
