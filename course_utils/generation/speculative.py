"""Several characters a pass over the weights, and the same text: speculative decoding.

A quick draft guesses the next characters; the model reads all guesses at once, as it reads a
prompt, and keeps those that it would have drawn itself. Leviathan et al. (2023), arXiv:2211.17192,
keep the probabilities; here draft and model run lesson 6's race with the same lengths, which
keeps the very characters: the draft decides how many come in a pass, and none of them.
"""

import math

import torch
from torch.nn import functional as F

from course_utils.generation.decoder import Decoder
from course_utils.lessons.data import KneserNey
from course_utils.lessons.sampling import filter_logits

GUESSES = 7  # a pass: each costs a row more to compute, and later ones are seldom right
MOST = 2**24  # numbers in a table of answers: with a large alphabet the draft sees less far


class CountingDraft:
    """Lesson 1's Kneser–Ney model, with its answers to all contexts that it saw worked out.

    ids: (N,) int64, the text to be counted; order: the characters, at most, of its n-grams.
    """

    def __init__(self, ids, vocab_size, order=5):
        self.vocab_size = vocab_size
        # For contexts of 0, 1, … characters: context -> row, and of each row ln p, (M, V).
        self.tables = []
        shorter = torch.zeros(1, dtype=torch.int64)
        p = torch.full((1, vocab_size), 1 / vocab_size, dtype=torch.float64)
        for n, table in enumerate(KneserNey(ids, order, vocab_size).tables):
            grams, counts, contexts, totals, rest = table
            if len(contexts) * vocab_size > MOST:
                break
            without_first = contexts % vocab_size ** max(0, n - 1)
            p = rest[:, None] * p[torch.searchsorted(shorter, without_first)]
            at = torch.searchsorted(contexts, grams // vocab_size), grams % vocab_size
            p = p.index_put(at, counts, accumulate=True) / (totals + rest)[:, None]
            rows = {context: row for row, context in enumerate(contexts.tolist())}
            self.tables.append((rows, p.log().float().numpy()))  # a few numbers: NumPy is quicker
            shorter = contexts

    def log_probabilities(self, text):
        """What follows a list of ids, by its longest end that was seen: (V,) float32, NumPy's."""
        for n in range(min(len(text), len(self.tables) - 1), 0, -1):
            context = 0
            for i in text[-n:]:
                context = context * self.vocab_size + i
            rows, log_p = self.tables[n]
            if context in rows:
                return log_p[rows[context]]
        return self.tables[0][1][0]

    def guess(self, text, lengths, temperature):
        """How a list of ids may go on: the winners of races of these lengths, (n, V). -> n ids"""
        text, n = list(text), len(text)
        for handicap in temperature * lengths.log().numpy():
            text.append(int((self.log_probabilities(text) - handicap).argmax()))
        return text[n:]


class SpeculativeDecoder(Decoder):
    """Writes what Decoder writes, one text on a CPU, in fewer passes.

    draft: its `guess` is as CountingDraft's.
    """

    def __init__(self, model, draft, dtype=torch.float32):
        super().__init__(model, dtype=dtype)
        self.draft = draft
        self.text = []  # all ids in the cache, of which the draft sees the end
        # What each position may not see is -∞; a mask of booleans would be converted each time.
        context = self.config.context_length
        nothing = torch.full((context, context), -math.inf, dtype=self.cache.dtype)
        self.hidden = nothing.triu(diagonal=1)

    def read(self, tokens):
        self.text = tokens[0].tolist()
        return super().read(tokens)

    def step(self, token):
        self.text.append(token.item())
        return super().step(token)

    @torch.inference_mode()
    def write(self, token, n, temperature=1.0, top_k=None, top_p=None, generator=None):
        """As Decoder's."""
        self._check_room(n)
        end = self.length + 1 + n
        self.text.append(token.item())
        lengths = torch.empty(0, self.config.vocab_size)  # of the next races, each drawn once
        while len(self.text) < end:
            # First the draft runs the next races, then the model all of them in one pass.
            races = min(GUESSES + 1, end - len(self.text))
            drawn = [self._lengths(generator) for _ in range(races - len(lengths))]
            lengths = torch.cat([lengths, *drawn])
            guesses = self.draft.guess(self.text, lengths[: races - 1], temperature)
            logits = self._read_on([self.text[-1], *guesses])
            speeds = filter_logits(logits, temperature, top_k, top_p).softmax(dim=-1)
            winners = (speeds / lengths[: len(speeds)]).argmax(dim=-1).tolist()

            # A winner counts as long as all that the model had read before it was right.
            right = 0
            while right < len(guesses) and guesses[right] == winners[right]:
                right += 1
            self.text += winners[: right + 1]
            self.length += right + 1
            lengths = lengths[right + 1 :]
        new = self.text[end - n :]
        self.text.pop()  # the last one has been drawn and not read
        return torch.tensor([new], dtype=torch.int64)

    def _lengths(self, generator):
        return torch.empty(1, self.config.vocab_size).exponential_(generator=generator)

    def _read_on(self, ids):
        """The logits after each of several ids that go on with the text: (T, V).

        Each is a row, as if they were several texts. Their keys and values are put into the cache,
        whose length stays.
        """
        here = slice(self.length, self.length + len(ids))
        keys, values = (part.unbind() for part in self.cache[..., : here.stop, :].unbind(1))
        places = self.cache[:, :, 0, :, here].transpose(2, 3).unsqueeze(4).unbind()
        hidden = self.hidden[here, : here.stop]

        def attend(layer, q, new):
            places[layer].copy_(new)  # all of them; `hidden` keeps each from seeing later ones
            q = q.permute(2, 1, 0, 3)  # (1, H, T, D), and back
            seen = F.scaled_dot_product_attention(q, keys[layer], values[layer], hidden)
            return seen.permute(2, 1, 0, 3)

        return self._logits(torch.tensor(ids)[:, None], here, attend)
