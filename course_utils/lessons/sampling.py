"""6 · Sampling: letting it speak.

GENERATED from notebooks/06_sampling.py by tools/export.py: change it there.
"""

import math

import torch


def draw(logits, generator=None):
    """One token a row, by the probabilities of its logits: (B, V) -> (B, 1).

    A race: each token runs a random length at the speed of its probability, and the
    first to arrive is drawn.
    """
    speeds = logits.softmax(dim=-1)
    lengths = torch.empty_like(speeds).exponential_(generator=generator)
    return (speeds / lengths).argmax(dim=-1, keepdim=True)


def check_sampling(temperature=1.0, top_k=None, top_p=None, max_new_tokens=0):
    """ValueError, with what is allowed, for a setting that means nothing."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, not {max_new_tokens!r}")
    if not 0 <= temperature < math.inf:
        allowed = "a number of at least 0 (0 is greedy)"
        raise ValueError(f"temperature must be {allowed}, not {temperature!r}")
    if top_k is not None and (top_k < 1 or top_k % 1):
        raise ValueError(f"top_k must be a whole number of at least 1, not {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], not {top_p!r}")


def filter_logits(logits, temperature=1.0, top_k=None, top_p=None):
    """Temperature, then top-k, then top-p over what is left; dropped tokens become -inf.

    logits: (..., V) float -> (..., V). temperature 0 keeps the best token alone. Those that
    tie with the k-th stay. top_p keeps the smallest set whose mass reaches p, at least one
    token (Holtzman et al., 2020). None switches a filter off.
    """
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        others = torch.ones_like(logits, dtype=torch.bool)
        others = others.scatter(-1, logits.argmax(-1, keepdim=True), False)  # False there
        return logits.masked_fill(others, -math.inf)
    if temperature != 1:
        tiny = torch.finfo(logits.dtype).tiny  # below it the best has all
        temperature = min(max(temperature, tiny), 1 / tiny)  # above, all are alike
        best = logits.amax(dim=-1, keepdim=True)
        logits = (logits - best) / temperature  # at most 0, which never overflows
    if top_k is not None:
        kth = logits.topk(min(int(top_k), logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p is not None and top_p < 1:
        rising, order = logits.sort(dim=-1)
        tail = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p  # not needed for p
        tail[..., -1] = False  # the best token stays, however small p is
        # scatter puts each answer back at its token's own place
        logits = logits.masked_fill(tail.scatter(-1, order, tail), -math.inf)
    return logits


class KVCache:
    """One layer's keys and values for the tokens read so far, each computed once."""

    def __init__(self, context_length):
        self.context_length, self.length = context_length, 0

    def extend(self, k, v):
        """Append k, v: (B, H, T, D) and return all so far: 2 × (B, H, length, D)."""
        if self.length == 0:
            B, H, _, D = k.shape
            self.k, self.v = (k.new_empty(B, H, self.context_length, D) for _ in range(2))
        start, self.length = self.length, self.length + k.shape[-2]
        self.k[:, :, start : self.length] = k
        self.v[:, :, start : self.length] = v
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


def window_start(length, context_length):
    """Where the model begins to read a text of `length` tokens.

    0 while the text fits; then the window moves in jumps of half a context, so that a cache
    lives that long. A long text is read with at least half a context, at most a whole one.
    """
    jump = max(1, context_length // 2)
    return max(0, -(-(length - context_length) // jump) * jump)


@torch.no_grad()
def stream(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Yield one new token (B, 1) after the other; each continues tokens (B, T).

    The model is used as it is: call model.eval() first, or dropout garbles the text.
    """
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        shape = "tokens of shape (B, T), T >= 1"
        raise ValueError(f"generation needs a prompt of at least one character: {shape}")
    context, start = model.config.context_length, None
    for _ in range(max_new_tokens):
        begin = window_start(tokens.shape[1], context)
        if begin != start:  # a new window is read from its beginning
            start = read_to = begin
            cache = [KVCache(context) for _ in range(model.config.n_layers)]
        logits = model(tokens[:, read_to:], cache)[:, -1]
        read_to = tokens.shape[1]
        token = draw(filter_logits(logits, temperature, top_k, top_p), generator)
        tokens = torch.cat([tokens, token], dim=1)
        yield token


def generate(
    model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None
):
    """Continue each row by max_new_tokens, dropout off: tokens (B, T) int64 -> (B, T + N).

    Sampling means what filter_logits says. A text longer than the context is read from
    window_start on.
    """
    was_training = model.training
    model.eval()
    try:
        settings = (temperature, top_k, top_p, generator)
        new = list(stream(model, tokens, max_new_tokens, *settings))
    finally:
        model.train(was_training)
    return torch.cat([tokens, *new], dim=1)
