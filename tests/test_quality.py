"""Texts to learn from that are not like Shakespeare, and what is measured on them."""

import math
import random

import pytest
import torch
from torch.nn import functional as F

from course_utils import profiles
from course_utils.corpus import Corpus
from course_utils.generation import plausibility, quality
from course_utils.lessons.data import CharTokenizer

CHANCE = random.Random(0)


def corpus(text):
    return Corpus(text, "own.txt", "0" * 64, "own.txt", "")


def characters(first, n, length):
    return "".join(chr(first + CHANCE.randrange(n)) for _ in range(length))


def verse(n, width=40):
    """So many lines of letters and blanks, no two alike."""
    words = (characters(97, 26, CHANCE.randrange(1, 9)) for _ in range(n * width))
    return "".join(" ".join(next(words) for _ in range(width // 5)) + "\n" for _ in range(n))


ONE_LINE = characters(97, 26, 6000)
TEXTS = {
    "verse": verse(200),
    "one line": ONE_LINE,
    "two lines": ONE_LINE[:3000] + "\n" + ONE_LINE[3000:],
    "breaks at the beginning": "\n" * 50 + ONE_LINE,
    "breaks at the end": ONE_LINE + "\n" * 50,
    "breaks in the middle": ONE_LINE[:2900] + "\n" * 200 + ONE_LINE[2900:],
}


@pytest.mark.parametrize("length", [1, 200, 1000, 5000])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_human_reference_is_four_stretches_at_even_distances(text, length):
    found = quality.stretches(text, length)
    assert [len(one) for one in found] == [length] * 4
    room = len(text) - length
    for i, one in enumerate(found):
        place = i * room // 4
        assert one in text[place : place + room // 8 + length], "not far from where it should be"
    if length >= 200 and "\n" * 50 not in text:
        assert len(set(found)) == 4


def test_a_stretch_begins_where_a_line_does_if_one_is_near():
    text = TEXTS["verse"]
    assert all("\n" + one in text for one in quality.stretches(text, 200))


@pytest.mark.parametrize("n", [1, 2, 5, 33, 330])
def test_a_text_shorter_than_a_sample_gives_stretches_of_half_its_length(n):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + n)))
    found = quality.stretches(text, 1000)
    assert {len(one) for one in found} == {max(1, n // 2)}
    assert all(one in text for one in found)
    assert len(set(found)) == min(4, n - n // 2 if n > 1 else 1)


ALPHABETS = {
    "Chinese": (0x4E00, 500),
    "Japanese": (0x3042, 80),
    "katakana": (0x30A2, 80),
    "Thai": (0xE01, 46),
    "Greek": (0x3B1, 24),
    "Cyrillic": (0x430, 32),
    "Hebrew": (0x5D0, 27),
    "Korean": (0xAC00, 2000),
}


@pytest.mark.parametrize("script", ALPHABETS)
def test_words_are_measured_where_they_stand_apart(script):
    first, n = ALPHABETS[script]
    blank = "" if script in ("Chinese", "Japanese", "katakana", "Thai") else " "
    vocabulary = [characters(first, n, CHANCE.randrange(1, 5)) for _ in range(60)]
    line = lambda: blank.join(CHANCE.choices(vocabulary, k=10)) + ".\n"  # noqa: E731
    judge = quality.Judge(corpus("".join(line() for _ in range(100))))
    rows = judge.human(200)
    assert judge.has_words == bool(blank)
    for row in rows:
        assert math.isnan(row["known_words"]) == math.isnan(row["distinct_2"]) == (not blank)
        assert math.isfinite(row["five_gram_loss"])
        assert row["longest_copy"] > 0
    if blank:
        assert all(row["known_words"] == 1 for row in rows), "sixty words are soon known"


@pytest.mark.parametrize(
    "text", ["to_be_or_not_to_be_that_is_the_question\n" * 50, "- - - -\n" * 50]
)
def test_lines_are_no_words_and_signs_are_none(text):
    judge = quality.Judge(corpus(text))
    assert not judge.has_words
    assert all(math.isnan(row["known_words"]) for row in judge.human(100))


def test_what_is_called_a_5_gram_is_one():
    """Beyond 6,208 different characters no 5-gram has a number of its own."""
    text = "".join(chr(0x4E00 + i % 6300) for i in range(20_000))
    judge = quality.Judge(corpus(text))
    assert judge.order == 4
    assert math.isnan(judge.measure(text[:100])["five_gram_loss"])


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("\n\nTo be, or not\nto be\n" * 9, "To be, or not\n"),
        ("O\nO\nTo be, or not to be: that is it\n" * 9, "To be, or not to be:"),
        ("a b" * 99, "a ba ba ba ba ba ba b"[:20]),
        ("a\n" * 99, ("a\n" * 10)),
        ("\n\n \t x\n" * 99, ("\n\n \t x\n" * 9)[:20]),
    ],
)
def test_a_prompt_fits_the_text_and_is_long_enough_to_begin_with(text, prompt):
    """Lesson 6 begins with all of it but two characters."""
    assert corpus(text).fitting_prompt() == prompt
    assert 3 <= len(prompt) <= 20
    assert corpus(text).fitting_prompt(text[0]) == text[0]


@pytest.mark.parametrize("n", [1, 19, 20, 21, 3000])
def test_a_refusal_lists_at_most_twenty_characters(n):
    tokenizer = CharTokenizer(map(chr, range(0x4E00, 0x4E00 + n)))
    with pytest.raises(ValueError, match=f"allowed are {n}, beginning with '一") as refused:
        tokenizer.encode("".join(map(chr, range(97, 97 + 26))))
    assert len(str(refused.value)) < 150
    assert "'abcdefghijklmnopqrst'" in str(refused.value)


@pytest.mark.parametrize(
    ("profile", "asked", "threads"), [("laptop", None, 1), ("gpu", None, 2), ("laptop", "2", 2)]
)
def test_a_lesson_without_a_gpu_has_one_thread(profile, asked, threads, monkeypatch):
    """Unless its reader has asked for more; a command has as many as ever."""
    before = torch.get_num_threads()
    monkeypatch.setenv(profiles.VARIABLE, profile)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    try:
        torch.set_num_threads(2)
        assert profiles.named().name == profile
        assert torch.get_num_threads() == 2
        assert profiles.current().name == profile
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


# --- the judge ------------------------------------------------------------------------------------
def adaptive(tokens, V=30):
    """A judge in closed form: a character is as likely as it has been frequent so far."""
    return (F.one_hot(tokens, V).cumsum(dim=1) + 0.1).log()


def test_plausibility_is_the_loss_of_what_follows_the_lead():
    tokens = torch.randint(30, (3, 240), generator=torch.Generator().manual_seed(0))
    for row, found in zip(
        tokens.tolist(), plausibility.plausibility(adaptive, tokens), strict=True
    ):
        wanted = [
            -math.log((row[:t].count(row[t]) + 0.1) / (t + 3))
            for t in range(plausibility.LEAD, 240)
        ]
        assert found.item() == pytest.approx(sum(wanted) / len(wanted), abs=1e-5)


def test_a_text_coheres_where_its_own_past_tells_more_than_anothers():
    chance = torch.Generator().manual_seed(0)
    chapters = torch.randint(5, (6, 2, 200), generator=chance)
    of_one = chapters + 5 * torch.arange(6)[:, None, None]  # each text has letters of its own
    tells = plausibility.coherence(adaptive, of_one.flatten(1))
    assert (tells > 0.1).all()
    of_two = of_one.clone()
    of_two[:, 1] = of_two[:, 1].roll(1, 0)  # each half from another text: nothing is told
    assert plausibility.coherence(adaptive, of_two.flatten(1)).mean() < 0.05
    alike = torch.randint(30, (40, 400), generator=chance)
    assert abs(plausibility.coherence(adaptive, alike).mean()) < 0.02
    with pytest.raises(ValueError, match="more than 4 texts"):
        plausibility.coherence(adaptive, alike[:4])
