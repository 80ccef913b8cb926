"""Writing fast: what lesson 6's `stream` and `generate` write, with less work a character.

On a CPU a character costs a few dozen small operations and one pass over the weights; on an NVIDIA GPU it is one
CUDA graph, sampling included. Keys and values lie in a static cache, allocated once.
"""

import copy
import math

import torch
from torch.nn import functional as F

from course_utils.lessons.model import bend, rotate
from course_utils.lessons.sampling import KVCache, check_sampling, draw, filter_logits, window_start

SHARES = 16  # the pieces, at most, of a weight matrix that a CPU's cores take in turn
REACH = 64  # by how many positions at a time the part of the cache that a GPU reads grows


def make_decoder(model, batch_size=1, dtype=torch.float32):
    """The fastest decoder for the model's device, for so many texts at a time.

    dtype: of weights and cache; bfloat16 halves what a GPU must read for many texts.
    """
    return (CudaDecoder if model.head.weight.is_cuda else Decoder)(model, batch_size, dtype)


class Decoder:
    """A model that reads a prompt once and then takes one token a call. Its weights must not change meanwhile."""

    def __init__(self, model, batch_size=1, dtype=torch.float32):
        c = self.config = model.config
        self.model = model if dtype == model.head.weight.dtype else copy.deepcopy(model).to(dtype)
        self.device, self.batch_size = model.head.weight.device, batch_size
        self.split = batch_size == 1 and self.device.type == "cpu"
        shape = (c.n_layers, 2, batch_size, c.n_heads, c.context_length, c.d_model // c.n_heads)
        self.cache = torch.zeros(shape, dtype=dtype, device=self.device)
        self.length = 0  # of the text in the cache
        self.embedding = self.model.embedding.weight.detach() * self.model.scale
        self.added = {"learned": self.model.positions, "sinusoidal": self.model.waves}.get(c.position)
        self.layers = [
            [*map(self._linear, (a.qkv, a.out, f.up, f.out)), *map(self._norm, (block.norm_1, block.norm_2))]
            for a, f, block in ((block.attention, block.feed_forward, block) for block in self.model.blocks)
        ]
        self.head, self.norm = self._linear(self.model.head), self._norm(self.model.norm)

    @torch.inference_mode()
    def read(self, tokens):
        """Begin with these tokens, (B, T) int64. -> (B, V) logits of what follows"""
        caches, was_training = [KVCache(self.config.context_length) for _ in self.layers], self.model.training
        try:
            logits = self.model.eval()(tokens, caches)[:, -1]
        finally:
            self.model.train(was_training)
        self.length = tokens.shape[1]
        for mine, theirs in zip(self.cache, caches, strict=True):  # what lies beyond the text may be no number
            mine[0, ..., : self.length, :] = theirs.k[..., : self.length, :]
            mine[1, ..., : self.length, :] = theirs.v[..., : self.length, :]
        return logits.float()

    @torch.inference_mode()
    def step(self, token):
        """Go on with one token a text, (B, 1) int64. -> (B, V) logits of what follows"""
        here = slice(self.length, self._one_more())
        seen, slots = self.cache[..., : self.length, :], self.cache[..., here, :].unbind()
        keys, values = seen[:, 0].unbind(), seen[:, 1].unbind()

        def attend(layer, q, new):
            slots[layer].copy_(new)
            return F.scaled_dot_product_attention(q, keys[layer], values[layer])

        return self._logits(token, here, attend)

    def draw_next(self, token, temperature=1.0, top_k=None, top_p=None, generator=None):
        """Go on with one token a text and draw the next: (B, 1) int64 -> (B, 1)."""
        return draw(filter_logits(self.step(token), temperature, top_k, top_p), generator)

    def _one_more(self):
        if self.length == self.config.context_length:
            raise ValueError(f"the context of {self.length} tokens is full: begin again with read")
        self.length += 1
        return self.length

    def _logits(self, token, here, attend):
        """The model at one position. attend(layer, q (B, H, 1, D), its new keys and values (2, B, H, 1, D)) -> as q"""
        c, model = self.config, self.model
        x = F.embedding(token[:, 0], self.embedding)
        if self.added is not None:
            x = x + self.added[here]
        angles = None if model.angles is None else model.angles[here]
        pre = c.norm_placement == "pre"
        for layer, (to_qkv, out, up, down, norm_1, norm_2) in enumerate(self.layers):
            qkv = to_qkv(norm_1(x) if pre else x).view(self.batch_size, 3, c.n_heads, 1, -1)
            if c.qk_norm or angles is not None:
                qk = F.rms_norm(qkv[:, :2], qkv.shape[-1:]) if c.qk_norm else qkv[:, :2]
                qkv[:, :2] = qk if angles is None else rotate(qk, angles)
            h = attend(layer, qkv.select(1, 0), qkv.narrow(1, 1, 2).transpose(0, 1)).flatten(1)
            x = out(h, x if c.residual else None)
            x = x if pre else norm_1(x)
            h = self._bend(up(norm_2(x) if pre else x))
            x = down(h, x if c.residual else None)
            x = x if pre else norm_2(x)
        return self.head(self.norm(x)).float()

    def _bend(self, h):
        if self.split and self.config.activation == "gelu":  # for one row oneDNN's takes three times as long
            return torch.addcmul(h, h, torch.erf(h * 0.5**0.5)).mul_(0.5)
        return bend(h, self.config.activation)

    def _linear(self, layer):
        """A linear map as a function of x (B, K), added in place to y (B, N) if that is given. -> (B, N)"""
        weight = layer.weight.detach()
        if not self.split:
            return lambda x, y=None: F.linear(x, weight) if y is None else y.addmm_(x, weight.T)
        shares = math.gcd(SHARES, len(weight))  # for one text on a CPU: in pieces that its threads take in turn
        pieces = weight.view(shares, -1, weight.shape[1]).mT.contiguous()

        def linear(x, y=None):
            new = torch.bmm(x.expand(shares, 1, -1), pieces).view(1, -1)
            return new if y is None else new.add_(y)

        return linear

    def _norm(self, layer):
        """A norm as a function; PyTorch's module costs as much again as the operation."""
        if not isinstance(layer, torch.nn.LayerNorm):
            return layer
        shape, weight = layer.normalized_shape, layer.weight.detach()
        return lambda x: torch.layer_norm(x, shape, weight, None, layer.eps)


class CudaDecoder(Decoder):
    """The same on an NVIDIA GPU: one CUDA graph a character, which draws it too and reads it next time."""

    def __init__(self, model, batch_size=1, dtype=torch.float32):
        super().__init__(model, batch_size, dtype)
        self.now = torch.zeros(1, dtype=torch.int64, device=self.device)  # the length, where a graph can read it
        self.token = torch.zeros(batch_size, 1, dtype=torch.int64, device=self.device)
        T = self.config.context_length
        self.hidden = torch.full((T, T), -math.inf, dtype=dtype, device=self.device).triu(diagonal=1)  # 0: to be seen
        self.graphs = {}

    def read(self, tokens):
        self.now.fill_(tokens.shape[1])
        return super().read(tokens)

    @torch.inference_mode()
    def step(self, token):
        self._one_more()
        logits = self._masked_logits(token, self.config.context_length)
        self.now += 1
        return logits

    @torch.inference_mode()
    def draw_next(self, token, temperature=1.0, top_k=None, top_p=None, generator=None):
        """As Decoder's; what it returned is overwritten by the next call."""
        reach = min(-(-self._one_more() // REACH) * REACH, self.config.context_length)
        key = (reach, temperature, top_k, top_p, generator)
        self.token.copy_(token)
        if key not in self.graphs:
            self.graphs[key] = self._capture(*key)
        self.graphs[key].replay()
        return self.token

    def _masked_logits(self, token, reach):
        """As `step`, where the host need not know the position: all of `reach` is read, and the future hidden."""
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

    def _capture(self, *key):
        """`_draw` as a graph. It is tried once before; that must leave no trace."""
        generator = key[-1] or torch.cuda.default_generators[torch.cuda.current_device()]
        token, random_state, stream = self.token.clone(), generator.get_state(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._draw(*key)
        torch.cuda.current_stream().wait_stream(stream)
        self.token.copy_(token)
        self.now.fill_(self.length - 1)
        generator.set_state(random_state)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self._draw(*key)
        return graph


@torch.no_grad()
def stream(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None, dtype=None):
    """Yield one new token (B, 1) after the other, as lesson 6's stream does, past the context length too.

    A text longer than the context is read again from lesson 6's window_start on. Dropout is off.
    """
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError("generation needs a prompt of at least one character: tokens of shape (B, T), T >= 1")
    decoder = make_decoder(model, len(tokens), dtype or torch.float32)
    context, start, begin = model.config.context_length, None, tokens.shape[1]
    text = torch.cat([tokens, tokens.new_zeros(len(tokens), max_new_tokens)], dim=1)
    for length in range(begin, begin + max_new_tokens):
        if window_start(length, context) != start:  # a new window is read from its beginning
            start = window_start(length, context)
            token = draw(filter_logits(decoder.read(text[:, start:length]), temperature, top_k, top_p), generator)
        else:
            token = decoder.draw_next(token, temperature, top_k, top_p, generator)
        text[:, length : length + 1] = token
        yield text[:, length : length + 1]


def generate(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None, dtype=None):
    """Continue each row by max_new_tokens, as lesson 6's generate does: tokens (B, T) int64 -> (B, T + N)."""
    new = stream(model, tokens, max_new_tokens, temperature, top_k, top_p, generator, dtype)
    return torch.cat([tokens, *new], dim=1)
