"""1 · Data: a text becomes numbers.

GENERATED from notebooks/01_data.py by tools/export.py: change it there.
"""

import math

import torch


class CharTokenizer:
    """Characters to integers and back: a character's id is its place in the alphabet.

    text: any string; its distinct characters, sorted, become the alphabet. An unknown
    character (or id) raises a ValueError that names it.
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
            some = f"{self.vocab_size}, beginning with {self.alphabet[:20]!r}"
            message = f"unknown characters {unknown[:20]!r}; allowed are {some}"
            raise ValueError(message) from None

    def decode(self, ids):
        ids = [int(i) for i in ids]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(f"ids must lie in 0 … {self.vocab_size - 1}")
        return "".join(self.alphabet[i] for i in ids)


def split(ids, fraction=0.9):
    """The first `fraction` of the ids for training, the rest for validation."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    cut = int(fraction * len(ids))
    return ids[:cut], ids[cut:]


def get_batch(ids, batch_size, context_length, generator=None):
    """Random windows and, for each position, the token that comes next.

    ids: (N,) int64 -> tokens, targets: (B, T) int64, targets one ahead of tokens.
    generator: a torch.Generator; the same seed draws the same windows.
    """
    N, T = len(ids), context_length
    if N <= T:
        raise ValueError(f"{N} tokens are too few: a context of {T} takes {T + 1}")
    starts = torch.randint(N - T, (batch_size, 1), generator=generator)
    index = (starts + torch.arange(T)).to(ids.device)  # (B, T)
    return ids[index], ids[index + 1]


def ngram_codes(ids, n, vocab_size):
    """Each n-gram as one integer in base V: (N,) int64 -> (N - n + 1,) int64."""
    places = vocab_size ** torch.arange(n - 1, -1, -1, device=ids.device)
    return (ids.unfold(0, n, 1) * places).sum(-1)


def lookup(keys, values, wanted):
    """values[i] where keys[i] == wanted, else 0: (K,) sorted, (K,), (N,) -> (N,)."""
    i = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[i] == wanted, values[i], 0)


def count_ngrams(codes, vocab_size):
    """-> n-grams and their counts: (K,); contexts, their c(h) and their t(h): (M,)."""
    grams, counts = codes.unique(return_counts=True)
    before = grams // vocab_size  # without the last character: its context
    # at: which of the contexts each n-gram has, so that their counts can be added up
    contexts, at, types = before.unique(return_inverse=True, return_counts=True)
    totals = torch.zeros_like(types).index_add_(0, at, counts)
    return grams, counts, contexts, totals, types


class WittenBell:
    """An n-gram model that trusts each context as far as it has seen it.

    p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)). Witten and Bell (1991), method C.
    """

    def __init__(self, ids, order, vocab_size):
        if not 1 <= order <= len(ids) or vocab_size**order >= 2**63:
            sizes = f"{len(ids)} tokens of {vocab_size} characters"
            raise ValueError(f"order {order} is not allowed for {sizes}")
        self.vocab_size, self.order = vocab_size, order
        self.tables = [self.count(ids, n) for n in range(1, order + 1)]

    def count(self, ids, n):
        return count_ngrams(ngram_codes(ids, n, self.vocab_size), self.vocab_size)

    def probabilities(self, ids):
        """p of every token but the first, given those before it: (T,) -> (T - 1,)."""
        p = torch.full((len(ids),), 1 / self.vocab_size, dtype=torch.float64)
        for n, table in enumerate(self.tables[: len(ids)], start=1):
            grams, counts, contexts, totals, types = table
            gram, shorter = ngram_codes(ids, n, self.vocab_size), p[n - 1 :]
            c, t = (lookup(contexts, x, gram // self.vocab_size) for x in (totals, types))
            mixed = (lookup(grams, counts, gram) + t * shorter) / (c + t).clamp(min=1)
            p[n - 1 :] = torch.where(c > 0, mixed, shorter)
        return p[1:]

    def loss(self, ids):
        """The mean token loss in nats/character over every token but the first."""
        return -self.probabilities(ids).log().mean().item()


def discounts(counts):
    """What is taken off a count of 0, of 1, of 2, and of 3 or more: (K,) int64 -> (4,)."""
    seen = [max(1, (counts == k).sum().item()) for k in (1, 2, 3, 4)]
    Y = seen[0] / (seen[0] + 2 * seen[1])
    D = [k - (k + 1) * Y * seen[k] / seen[k - 1] for k in (1, 2, 3)]
    least = 0.1  # in a tiny text a D may be negative, and something must be left over
    return torch.tensor([0, *(max(d, least) for d in D)], dtype=torch.float64)


class KneserNey(WittenBell):
    """An n-gram model whose short contexts count places, and whose counts pay a discount.

    p(w|h) = (a(hw) - D) / a(h) + γ(h) p(w|h'); γ(h) is the share that the discounts D took. a
    counts n-grams of the full order, and for shorter ones the different characters before them.
    Kneser and Ney (1995), ICASSP; "modified" by Chen and Goodman (1999), Comput. Speech Lang. 13.
    """

    def count(self, ids, n):
        V = self.vocab_size
        codes = ngram_codes(ids, min(n + 1, self.order), V)
        if n < self.order:
            codes = codes.unique() % V**n  # without their first character
        grams, counts, contexts, totals, _ = count_ngrams(codes, V)
        taken = discounts(counts)[counts.clamp(max=3)]
        at = torch.searchsorted(contexts, grams // V)
        rest = torch.zeros(len(contexts), dtype=torch.float64).index_add_(0, at, taken)
        return grams, counts - taken, contexts, totals - rest, rest


def baseline_losses(text):
    """What counting the first nine tenths of a text reaches on its last tenth.

    -> {"uniform": ln V, "unigram": …, "bigram": …, "5-gram": …, "Kneser–Ney": …}, in
    nats/character: the first four by Witten and Bell's rule, the last of order 7
    """
    tokenizer = CharTokenizer(text)
    train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text)))
    V = tokenizer.vocab_size
    losses = {"uniform": math.log(V)}
    for order, name in ((1, "unigram"), (2, "bigram"), (5, "5-gram")):
        if V**order < 2**63:  # so that an n-gram can be one integer
            losses[name] = WittenBell(train_ids, order, V).loss(validation_ids)
    longest = max(order for order in range(1, 8) if V**order < 2**63)
    losses["Kneser–Ney"] = KneserNey(train_ids, longest, V).loss(validation_ids)
    return losses
