"""What a model finds hard: its loss by character, by half of the text, by place in the context.

And what counting reaches, for comparison.
"""

import itertools
import math

import torch
from torch.nn import functional as F

from course_utils.lessons.data import CharTokenizer, WittenBell, split


@torch.no_grad()
def token_losses(model, ids):
    """What lesson 4's `evaluate` averages: the loss at each token of ids but the first.

    -> (N - 1,) float64, CPU
    """
    context = model.config.context_length
    windows_at_once = max(1, (2**16 if ids.is_cuda else 2**10) // context)
    was_training = model.training
    model.eval()
    losses = []
    start = 0
    while start < len(ids) - 1:
        left = len(ids) - 1 - start
        # First as many whole windows as may be read at once; the last window may be shorter.
        windows = min(windows_at_once, left // context)
        stop = start + (windows * context or left)
        logits = model(ids[start:stop].view(-1, min(context, left)))
        targets = ids[start + 1 : stop + 1]
        losses.append(F.cross_entropy(logits.flatten(0, 1), targets, reduction="none"))
        start = stop
    model.train(was_training)
    return torch.cat(losses).cpu().double()


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


def baseline_losses(corpus):
    """What prediction without a network reaches on the validation split, in nats/character.

    -> {"uniform": ln V, "unigram": …, "bigram": …, "5-gram": …}, n-grams of the training split
    """
    tokenizer = CharTokenizer(corpus.text)
    train_ids, validation_ids = split(torch.tensor(tokenizer.encode(corpus.text)))
    V = tokenizer.vocab_size
    losses = {"uniform": math.log(V)}
    for order, name in ((1, "unigram"), (2, "bigram"), (5, "5-gram")):
        if V**order < 2**63:
            losses[name] = WittenBell(train_ids, order, V).loss(validation_ids)
    return losses
