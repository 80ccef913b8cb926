"""One character after the other, fast: lesson 6's cached model with less work a character.

On a CPU a character costs a few dozen small operations and one pass over the weights; on an NVIDIA GPU it is one
CUDA graph, sampling included. Keys and values lie in a static cache, allocated once.
"""

import copy
import math

import torch
from torch.nn import functional as F

from course_utils.lessons.model import activate, positions_at, rotate
from course_utils.lessons.sampling import KVCache, draw, filter_logits

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
        self.added = {"learned": self.model.positions, "sinusoidal": self.model.sinusoids}.get(
            c.position
        )
        self.layers = [
            [
                *map(self._linear, (a.qkv, a.out, f.up, f.out)),
                *map(self._norm, (block.norm_1, block.norm_2)),
            ]
            for a, f, block in (
                (block.attention, block.feed_forward, block) for block in self.model.blocks
            )
        ]
        self.head, self.norm = self._linear(self.model.head), self._norm(self.model.norm)

    @torch.inference_mode()
    def read(self, tokens):
        """Begin with these tokens, (B, T) int64. -> (B, V) logits of what follows"""
        logits = self._fill(tokens)[:, -1].float()
        self.length = tokens.shape[1]
        return logits

    def _fill(self, tokens):
        """The model over tokens that stand at the beginning; keys and values go into the cache. -> (B, T, V) logits"""
        caches, was_training = (
            [KVCache(self.config.context_length) for _ in self.layers],
            self.model.training,
        )
        try:
            logits = self.model.eval()(tokens, caches)
        finally:
            self.model.train(was_training)
        here = slice(tokens.shape[1])  # what lies beyond the text may be no number
        for mine, theirs in zip(self.cache, caches, strict=True):
            mine[0, ..., here, :], mine[1, ..., here, :] = (
                theirs.k[..., here, :],
                theirs.v[..., here, :],
            )
        return logits

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
            h = self._activate(up(norm_2(x) if pre else x))
            x = down(h, x if c.residual else None)
            x = x if pre else norm_2(x)
        return self.head(self.norm(x)).float()

    def _activate(self, h):
        if (
            self.split and self.config.activation == "gelu"
        ):  # for one row oneDNN's takes three times as long
            return torch.addcmul(h, h, torch.erf(h * 0.5**0.5)).mul_(0.5)
        return activate(h, self.config.activation)

    def _linear(self, layer):
        """A linear map as a function of x (B, K), added in place to y (B, N) if that is given. -> (B, N)"""
        weight = layer.weight.detach()
        if not self.split:
            return lambda x, y=None: F.linear(x, weight) if y is None else y.addmm_(x, weight.T)
        shares = math.gcd(
            SHARES, len(weight)
        )  # for one text on a CPU: in pieces that its threads take in turn
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
    """The same on an NVIDIA GPU, by CUDA graphs: one reads the prompt, one reads a character and draws the next."""

    def __init__(self, model, batch_size=1, dtype=torch.float32):
        super().__init__(model, batch_size, dtype)
        T, V = self.config.context_length, self.config.vocab_size
        self.now = torch.zeros(
            1, dtype=torch.int64, device=self.device
        )  # the length, where a graph can read it
        self.token = torch.zeros(batch_size, 1, dtype=torch.int64, device=self.device)
        self.text = torch.zeros(batch_size, T, dtype=torch.int64, device=self.device)
        self.first = torch.zeros(batch_size, V, device=self.device)
        self.hidden = torch.full((T, T), -math.inf, dtype=dtype, device=self.device).triu(
            diagonal=1
        )  # 0: to be seen
        self.graphs = {}

    @torch.inference_mode()
    def read(self, tokens):
        """As Decoder's. A graph reads to a multiple of REACH; the text can't see what stands beyond it."""
        length = tokens.shape[1]
        positions_at(self.model, 0, length)  # refuses what is longer than the context
        self.text[:, :length] = tokens
        self.now.fill_(length)
        self._replay(self._read, self._reach(length))
        self.length = length
        return self.first.clone()

    @torch.inference_mode()
    def step(self, token):
        self._one_more()
        logits = self._masked_logits(token, self.config.context_length)
        self.now += 1
        return logits

    @torch.inference_mode()
    def draw_next(self, token, temperature=1.0, top_k=None, top_p=None, generator=None):
        """As Decoder's; what it returned is overwritten by the next call."""
        self.token.copy_(token)
        self._replay(
            self._draw, self._reach(self._one_more()), temperature, top_k, top_p, generator
        )
        return self.token

    def _reach(self, length):
        return min(-(-length // REACH) * REACH, self.config.context_length)

    def _read(self, reach):
        self.first.copy_(self._fill(self.text[:, :reach]).index_select(1, self.now - 1)[:, 0])

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

    def _replay(self, work, *settings):
        """Do this work as a graph. The first time it is tried before and captured; that must leave no trace."""
        key = (work.__name__, *settings)
        if key not in self.graphs:
            given = [setting for setting in settings if isinstance(setting, torch.Generator)]
            generator = (
                given[0] if given else torch.cuda.default_generators[torch.cuda.current_device()]
            )
            token, now, random_state = self.token.clone(), self.now.clone(), generator.get_state()
            stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                work(*settings)
            torch.cuda.current_stream().wait_stream(stream)
            self.token.copy_(token)
            self.now.copy_(now)
            generator.set_state(random_state)
            graph.register_generator_state(generator)
            with torch.cuda.graph(graph):
                work(*settings)
            self.graphs[key] = graph
        self.graphs[key].replay()
