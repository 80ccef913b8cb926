"""Why depth helps, on trained weights: copying, what heads look at, what each layer adds."""

import torch

from course_utils.lessons.data import get_batch
from course_utils.lessons.train import token_losses
from course_utils.training.evaluation import attention_maps, hooked, switched_off

TEXTS = 8  # that copying is measured on
HALF = 100  # characters, then the same again
CUT = 20  # of each copy's first characters, whose losses don't count: a copy begins anywhere


def repeated(model, ids=None, seed=0):
    """Texts whose second half is their first: (TEXTS, 2 * HALF + 1) int64.

    Of random characters; where ids (N,) are given, of windows of that text. One character stands
    before, so that each of the halves has a loss.
    """
    generator = torch.Generator().manual_seed(seed)
    if ids is None:
        shape = (TEXTS, HALF + 1)
        once = torch.randint(model.config.vocab_size, shape, generator=generator)
    else:
        once, _ = get_batch(ids, TEXTS, HALF + 1, generator)
    return torch.cat([once, once[:, 1:]], dim=1)


@torch.no_grad()
def copying(model, tokens):
    """The loss on the first and on the second copy, (2,), and each head's scores on the second.

    tokens: as `repeated` gives them. -> (losses in nats/character, {"L1:H1": (previous, copied)}):
    how much a head looks at the character before, and at the one that came next last time. Olsson
    et al. (2022).
    """
    logits = model(tokens[:, :-1]).transpose(1, 2)
    losses = torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none")
    halves = torch.stack([half[:, CUT:].mean() for half in losses.split(HALF, dim=1)])

    scores = {}
    for text in tokens:
        for head, weights in attention_maps(model, text[None, :-1]).items():
            second = torch.arange(HALF + 1, 2 * HALF)
            found = torch.stack(
                [weights[second, second - 1].mean(), weights[second, second - HALF + 1].mean()]
            )
            scores[head] = scores.get(head, 0) + found / len(tokens)
    return halves, {head: tuple(found.tolist()) for head, found in scores.items()}


def chance():
    """What a head that looks everywhere alike spends on one place, from the second copy."""
    return (1 / torch.arange(HALF + 2, 2 * HALF + 1)).mean().item()


@torch.no_grad()
def price_of_layers(model, ids):
    """What it costs to leave out one layer, its sublayers both: a list, nats/character.

    ids: (N,) int64
    """
    whole = token_losses(model, ids).mean().item()
    prices = []
    for i in range(1, model.config.n_layers + 1):
        with switched_off(model, [f"L{i}"]):
            prices.append(token_losses(model, ids).mean().item() - whole)
    return prices


@torch.no_grad()
def shares_of_stream(model, tokens):
    """How long what each layer adds is, as a share of the stream behind it: a list.

    tokens: (B, T) int64; the mean over positions of |layer's addition| / |stream behind it|.
    """
    streams = []
    hooks = [
        block.register_forward_hook(lambda _, given, made: streams.append((given[0], made)))
        for block in model.blocks
    ]
    with hooked(hooks):
        model(tokens)
    return [((after - x).norm(dim=-1) / after.norm(dim=-1)).mean().item() for x, after in streams]


def best_heads(scores):
    """The head that looks most at the character before, and the one that copies most, of each.

    scores: {"L1:H1": (previous, copied)} -> ((head, score), (head, score))
    """
    return tuple(
        max(((head, found[i]) for head, found in scores.items()), key=lambda one: one[1])
        for i in range(2)
    )
