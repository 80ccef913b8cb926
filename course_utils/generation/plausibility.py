"""What a model that has read other plays makes of a text: is it plausible, does it hang together?

The judge has learned neither the text that the writers learned from nor what they wrote, so it can
be asked about people and models alike. In the field: the perplexity of generated text under
another model, and how much of it the context explains.
"""

import torch
from torch.nn import functional as F

LEAD = 100  # characters that lead a reader in, and are not counted
OTHERS = 4  # pasts of other texts, to compare a text's own with


@torch.no_grad()
def losses_after(judge, tokens, first):
    """The mean loss of each row from character `first` on: (N, T) int64 -> (N,), nats/character."""
    found = []
    for some in tokens.split(max(1, 2**13 // tokens.shape[1])):  # a GPU's memory has an end
        logits = judge(some[:, :-1]).transpose(1, 2)
        losses = F.cross_entropy(logits, some[:, 1:], reduction="none")
        found.append(losses[:, first - 1 :].mean(dim=1))
    return torch.cat(found).cpu()


def plausibility(judge, tokens):
    """What the judge loses on each text: the less, the more it is what the judge would expect.

    tokens: (N, T) int64, a text a row, no longer than the judge's context -> (N,), nats/character.
    """
    return losses_after(judge, tokens, LEAD)


def coherence(judge, tokens, others=OTHERS):
    """How much less the judge loses on a text's second half after its own first half than after
    the first half of another text: (N, T) int64 -> (N,), nats/character.

    The others are the rows that lie a fifth, two fifths, … of all rows further on. The first LEAD
    characters of the second half don't count: any cut would show there.
    """
    N, T = tokens.shape
    if others >= N:
        raise ValueError(f"{others} other texts to compare with need more than {N} texts")
    past, passage = tokens.split([T // 2, T - T // 2], dim=1)
    first = T // 2 + LEAD
    own = losses_after(judge, tokens, first)
    steps = [max(i, i * N // (others + 1)) for i in range(1, others + 1)]
    foreign = [
        losses_after(judge, torch.cat([past.roll(-step, 0), passage], dim=1), first)
        for step in steps
    ]
    return torch.stack(foreign).mean(dim=0) - own
