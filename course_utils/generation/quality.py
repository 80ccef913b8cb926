"""Measures of generated text, and the same measures of real, held-out text to read them against."""

import itertools
import re
import sys
import unicodedata
from collections import Counter

import pandas as pd
import torch
from tqdm import tqdm

from course_utils.generation.writer import generate
from course_utils.lessons.data import CharTokenizer, WittenBell, split
from course_utils.messages import _

SETTINGS = (  # what the comparison table shows: one change at a time, then all together
    {"temperature": 0.0},
    {"temperature": 0.8},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_k": 10},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95},
)
HUMAN = "human reference"
# Of the recorded study: a lead, a crowd, and no speaker at all.
PROMPTS = ("ROMEO:\n", "First Citizen:\n", "O ")
COLUMNS = (  # of the comparison table
    "arm",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "prompt",
    "text",
    "distinct_2",
    "repetition",
    "known_words",
    "longest_copy",
    "five_gram_loss",
    "corpus",
)


# Scripts whose words stand side by side, by the first words of their characters' names.
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
LONGEST_WORDS = 20  # characters, on average; beyond, what looks like words are lines


def words(text):
    return re.findall(r"\w[\w']*", text.lower())


def has_words(text):
    """Whether the words of a text stand apart, as they don't in Chinese, Japanese or Thai."""
    letters = Counter(c for c in text if c.isalpha())
    unspaced = [c for c in letters if unicodedata.name(c, "").startswith(UNSPACED)]
    if 2 * sum(letters[c] for c in unspaced) > letters.total():
        return False
    found = words(text)
    return 0 < sum(map(len, found)) <= LONGEST_WORDS * len(found)


def distinct_n(text, n=2):
    """Different word n-grams as a share of all of them: 1 is no n-gram twice. Li et al. (2016)."""
    tokens = words(text)
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")


def repetition(text, n=20):
    """The share of n-character windows that have occurred before in the same text."""
    windows = [text[i : i + n] for i in range(len(text) - n + 1)]
    return 1 - len(set(windows)) / len(windows) if windows else float("nan")


def known_words(text, vocabulary):
    """The share of words that the training text contains; the first and last, maybe cut, apart.

    Where there is no vocabulary, nan.
    """
    inner = words(text)[1:-1]
    if not inner or not vocabulary:
        return float("nan")
    return sum(word in vocabulary for word in inner) / len(inner)


def longest_copy(text, training_text):
    """The longest stretch of text that stands, to the letter, in the training text."""
    best = ""
    for start in range(len(text)):
        longer = text[start : start + len(best) + 1]  # to look for a long one is quick
        while len(longer) > len(best) and longer in training_text:
            best = longer
            longer = text[start : start + len(best) + 1]
    return best


def stretches(text, length, pieces=4):
    """Pieces of a text at even distances, each from the beginning of a line where one is near.

    Of the length asked for; of half the text's, where it is not longer than that.
    """
    if len(text) <= length:
        length = max(1, len(text) // 2)
    room = len(text) - length
    near = room // pieces // 2
    starts = []
    for i in range(pieces):
        place = i * room // pieces
        line = text.find("\n", place, place + near) + 1
        starts.append(line or place)
    return [text[start : start + length] for start in starts]


class Judge:
    """Measures texts against one corpus: its training text, the words there, and its own 5-gram.

    Where words don't stand apart, what is counted in words is nan; so is the loss of a 5-gram that
    an alphabet is too large for (`n_gram` is then a shorter one).
    """

    def __init__(self, corpus, order=5):
        self.corpus = corpus
        self.tokenizer = CharTokenizer(corpus.text)
        self.training_text, self.held_out = split(corpus.text)
        self.has_words = has_words(self.training_text)
        self.vocabulary = set(words(self.training_text)) if self.has_words else set()
        ids = torch.tensor(self.tokenizer.encode(self.training_text))
        self.order = order
        while self.tokenizer.vocab_size**self.order >= 2**63:
            self.order -= 1
        self.n_gram = WittenBell(ids, self.order, self.tokenizer.vocab_size)

    def measure(self, text):
        """One row of the comparison table for one text."""
        loss = self.n_gram.loss(torch.tensor(self.tokenizer.encode(text)))
        return {
            "text": text,
            "distinct_2": distinct_n(text) if self.has_words else float("nan"),
            "repetition": repetition(text),
            "known_words": known_words(text, self.vocabulary),
            "longest_copy": len(longest_copy(text, self.training_text)),
            "five_gram_loss": loss if self.order == 5 else float("nan"),
        }

    def human(self, length, pieces=4):
        """Rows for real, held-out text of the samples' length."""
        about = {"arm": HUMAN, "corpus": self.corpus.name}
        return [about | self.measure(text) for text in stretches(self.held_out, length, pieces)]

    def sample(self, model, prompt, length, seed, **settings):
        """A text of `length` new characters after the prompt (the prompt itself not included)."""
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        tokens = torch.tensor([self.tokenizer.encode(prompt)], device=device)
        out = generate(model, tokens, length, generator=generator, **settings)
        return self.tokenizer.decode(out[0, tokens.shape[1] :])


def compare_samples(models, judge, prompt, length, seed=0, settings=SETTINGS):
    """Every model under every setting, on one prompt and seed, then human text. -> DataFrame

    models: dict arm -> model. Its columns are COLUMNS. A bar says how far it has come, where
    somebody looks.
    """
    rows = []
    about = {"seed": seed, "prompt": prompt, "corpus": judge.corpus.name}
    todo = list(itertools.product(settings, models.items()))
    alone = not (sys.stderr.isatty() or "ipykernel" in sys.modules)
    for setting, (arm, model) in tqdm(
        todo, _("sampling"), unit=_("counted|text"), leave=False, disable=alone
    ):
        text = judge.sample(model, prompt, length, seed, **setting)
        rows.append({"arm": arm} | about | setting | judge.measure(text))
    return pd.DataFrame(rows + judge.human(length), columns=COLUMNS)


def like(table, setting):
    """The rows of a comparison table under one setting, and the human ones."""
    same = pd.Series(True, index=table.index)
    for name in ("temperature", "top_k", "top_p"):
        same &= table[name] == setting[name] if name in setting else table[name].isna()
    return table[same | (table["arm"] == HUMAN)]
