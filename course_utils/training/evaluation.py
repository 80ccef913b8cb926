"""What a model finds hard, by half of the text and by place, and what goes on inside it."""

import itertools
from contextlib import contextmanager

import torch

from course_utils.lessons.attention import attention_weights


def half(length, context_length):
    """Where so many losses are cut in two: between two windows, and for most contexts alike."""
    unit = 1024 if 1024 % context_length == 0 and length >= 8 * 1024 else context_length
    return length // 2 // unit * unit or length // 2


def by_position(losses, context_length):
    """Mean losses at places 1, 2, 3–4, 5–8, … of the windows that are full."""
    full = len(losses) // context_length
    if not full:
        return []
    windows = losses[: full * context_length].view(full, context_length)
    edges = [0, *(2**i for i in range(context_length.bit_length())), context_length]
    return [windows[:, a:b].mean().item() for a, b in itertools.pairwise(edges) if a < b]


@torch.no_grad()
def attention_maps(model, tokens):
    """The weights of every head of every layer: tokens (1, T) int64 -> {"L1:H1": (T, T), …}.

    Row t: how much position t listens to itself and to each earlier one; rows sum to 1.
    """
    asked = []  # what each attention was called with: its x, and the angles of its positions
    hooks = [
        block.attention.register_forward_pre_hook(lambda layer, given: asked.append((layer, given)))
        for block in model.blocks
    ]
    with hooked(hooks):
        model(tokens)
    maps = {}
    for i, (layer, (x, angles, _)) in enumerate(asked, start=1):
        q, k, _ = layer.queries_keys_values(x, angles)
        for head, weights in enumerate(attention_weights(q, k)[0], start=1):
            maps[f"L{i}:H{head}"] = weights
    return maps


@contextmanager
def hooked(hooks):
    """Meanwhile a model calls these; then they are removed, whatever happened."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def switched_off(model, off):
    """Meanwhile heads such as "L2:H3" add nothing, and layers such as "L2" let the stream pass."""
    return hooked([_switch_off(model, name) for name in off])


def _switch_off(model, name):
    layer, *head = (int(part[1:]) - 1 for part in name.split(":"))
    block = model.blocks[layer]
    if not head:
        return block.register_forward_hook(lambda _, given, made: given[0])
    D = model.config.d_model // model.config.n_heads
    channels = torch.arange(model.config.d_model) // D == head[0]

    def silence(_, given):  # what enters the map by which all heads write to the stream
        return (given[0].masked_fill(channels.to(given[0].device), 0),)

    return block.attention.out.register_forward_pre_hook(silence)


@torch.no_grad()
def look(model, tokens, off=()):
    """The logit lens and all attention of a text, with parts switched off.

    tokens: (1, T) int64 -> lens: (L + 1, T, V), the logits that the last norm and the head make of
    the stream before the first block and after each; maps: (L, H, T, T), zeros in a layer that is
    off.
    """
    stages = []
    with switched_off(model, off):
        hooks = [model.blocks[0].register_forward_pre_hook(lambda _, x: stages.append(x[0]))]
        for block in model.blocks:
            hooks.append(block.register_forward_hook(lambda _, given, made: stages.append(made)))
        with hooked(hooks):
            maps = attention_maps(model, tokens)
    lens = torch.stack([model.head(model.norm(x))[0] for x in stages])
    L, H = model.config.n_layers, model.config.n_heads
    maps = torch.stack(list(maps.values())).unflatten(0, (L, H))
    for i in range(L):
        if f"L{i + 1}" in off:
            maps[i] = 0
    return lens, maps
