"""Measures of generated text, and the same measures of real, held-out text to read them against."""

import re

import pandas as pd
import torch

from course_utils.generation.writer import generate
from course_utils.lessons.data import CharTokenizer, WittenBell, split

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


def words(text):
    return re.findall(r"\w[\w']*", text.lower())


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
    """The share of words that the training text contains; the first and last, maybe cut, apart."""
    inner = words(text)[1:-1]
    return sum(word in vocabulary for word in inner) / len(inner) if inner else float("nan")


def longest_copy(text, training_text):
    """The longest stretch of text that stands, to the letter, in the training text."""
    best, start = "", 0
    for end in range(1, len(text) + 1):
        while text[start:end] not in training_text:
            start += 1
        if end - start > len(best):
            best = text[start:end]
    return best


class Judge:
    """Measures texts against one corpus: its training text, the words there, and its own 5-gram."""

    def __init__(self, corpus, order=5):
        self.corpus = corpus
        self.tokenizer = CharTokenizer(corpus.text)
        self.training_text, self.held_out = split(corpus.text)
        ids = torch.tensor(self.tokenizer.encode(self.training_text))
        while self.tokenizer.vocab_size**order >= 2**63:
            order -= 1
        self.n_gram = WittenBell(ids, order, self.tokenizer.vocab_size)
        self.vocabulary = set(words(self.training_text))

    def measure(self, text):
        """One row of the comparison table for one text."""
        return {
            "text": text,
            "distinct_2": distinct_n(text),
            "repetition": repetition(text),
            "known_words": known_words(text, self.vocabulary),
            "longest_copy": len(longest_copy(text, self.training_text)),
            "five_gram_loss": self.n_gram.loss(torch.tensor(self.tokenizer.encode(text))),
        }

    def human(self, length, pieces=4):
        """Rows for real, held-out text of the samples' length, from lines at even distances."""
        step = max(1, (len(self.held_out) - length) // pieces)
        starts = [self.held_out.find("\n", i * step) + 1 for i in range(pieces)]
        texts = [self.held_out[start : start + length] for start in starts]
        return [{"arm": HUMAN, "corpus": self.corpus.name, **self.measure(text)} for text in texts]

    def sample(self, model, prompt, length, seed, **settings):
        """A text of `length` new characters after the prompt (the prompt itself not included)."""
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        tokens = torch.tensor([self.tokenizer.encode(prompt)], device=device)
        out = generate(model, tokens, length, generator=generator, **settings)
        return self.tokenizer.decode(out[0, tokens.shape[1] :])


def compare_samples(models, judge, prompt, length, seed=0, settings=SETTINGS, on_sample=None):
    """Every model under every setting, on one prompt and seed, then human text. -> DataFrame

    models: dict arm -> model. on_sample(): called after each sample. Its columns are COLUMNS.
    """
    rows = []
    for setting in settings:
        for arm, model in models.items():
            about = {"arm": arm, "seed": seed, "prompt": prompt, "corpus": judge.corpus.name}
            text = judge.sample(model, prompt, length, seed, **setting)
            rows.append(about | setting | judge.measure(text))
            if on_sample:
                on_sample()
    return pd.DataFrame(rows + judge.human(length), columns=COLUMNS)


def like(table, setting):
    """The rows of a comparison table under one setting, and the human ones."""
    same = pd.Series(True, index=table.index)
    for name in ("temperature", "top_k", "top_p"):
        same &= table[name] == setting[name] if name in setting else table[name].isna()
    return table[same | (table["arm"] == HUMAN)]
