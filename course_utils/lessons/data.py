"""1 · Data: a text becomes numbers.

GENERATED from notebooks/01_data.py by tools/export.py: change it there.
"""

import torch


class CharTokenizer:
    """Characters to integers and back: a character's id is its place in the sorted alphabet.

    text: any string; its distinct characters become the alphabet. An unknown character (or id)
    raises a ValueError that names it.
    """

    def __init__(self, text):
        if not text:
            raise ValueError("a tokenizer needs a text with at least one character")
        self.alphabet = "".join(sorted(set(text)))
        self.vocab_size = len(self.alphabet)
        self._id_of = {character: i for i, character in enumerate(self.alphabet)}

    def encode(self, text):
        try:
            return [self._id_of[character] for character in text]
        except KeyError:
            unknown = "".join(sorted(set(text) - set(self.alphabet)))
            raise ValueError(
                f"unknown characters {unknown!r}; allowed are {self.alphabet!r}"
            ) from None

    def decode(self, ids):
        ids = [int(i) for i in ids]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(f"ids must lie in 0 … {self.vocab_size - 1}")
        return "".join(self.alphabet[i] for i in ids)


def split(ids, fraction=0.9):
    """The first `fraction` of the ids for training, the rest, in order, for validation."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    cut = int(fraction * len(ids))
    return ids[:cut], ids[cut:]


def get_batch(ids, batch_size, context_length, generator=None):
    """Random windows and, for each position, the token that comes next.

    ids: (N,) int64 -> tokens, targets: (B, T) int64, targets one ahead of tokens.
    generator: a torch.Generator; the same seed draws the same windows.
    """
    if len(ids) <= context_length:
        raise ValueError(
            f"{len(ids)} tokens are too few for a context of {context_length}: one more is needed"
        )
    starts = torch.randint(len(ids) - context_length, (batch_size, 1), generator=generator)
    index = (starts + torch.arange(context_length)).to(ids.device)
    return ids[index], ids[index + 1]


def ngram_codes(ids, n, vocab_size):
    """Each n-gram as one integer in base V: (N,) int64 -> (N - n + 1,) int64."""
    places = vocab_size ** torch.arange(n - 1, -1, -1, device=ids.device)
    return (ids.unfold(0, n, 1) * places).sum(-1)


def lookup(keys, values, wanted):
    """values[i] where keys[i] == wanted, else 0. keys: (K,) sorted, wanted: (N,) -> (N,)."""
    i = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[i] == wanted, values[i], 0)


class WittenBell:
    """An n-gram model that trusts each context as far as it has seen it.

    p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)); below the unigram stands 1/V. ids: (N,) int64.
    Witten and Bell (1991), IEEE Trans. Inf. Theory 37(4), method C.
    """

    def __init__(self, ids, order, vocab_size):
        if not 1 <= order <= len(ids) or vocab_size**order >= 2**63:
            raise ValueError(
                f"order {order} is not allowed for {len(ids)} tokens of {vocab_size} characters"
            )
        self.vocab_size, self.tables = vocab_size, []
        for n in range(1, order + 1):
            grams, counts = ngram_codes(ids, n, vocab_size).unique(return_counts=True)
            contexts, at, types = (grams // vocab_size).unique(
                return_inverse=True, return_counts=True
            )
            self.tables.append(
                (grams, counts, contexts, torch.zeros_like(types).index_add_(0, at, counts), types)
            )

    def probabilities(self, ids):
        """p of every token but the first, given up to order - 1 before it: (T,) -> (T - 1,)."""
        p = torch.full((len(ids),), 1 / self.vocab_size, dtype=torch.float64)
        for n, (grams, counts, contexts, totals, types) in enumerate(
            self.tables[: len(ids)], start=1
        ):
            gram = ngram_codes(ids, n, self.vocab_size)
            context = gram // self.vocab_size
            c, t = lookup(contexts, totals, context), lookup(contexts, types, context)
            mixed = (lookup(grams, counts, gram) + t * p[n - 1 :]) / (c + t).clamp(min=1)
            p[n - 1 :] = torch.where(c > 0, mixed, p[n - 1 :])
        return p[1:]

    def loss(self, ids):
        """Mean surprise in nats/character over every token but the first."""
        return -self.probabilities(ids).log().mean().item()
