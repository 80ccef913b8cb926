"""Any text will do: lessons on texts that assume nothing of what Shakespeare's has."""

import functools
import re
from types import SimpleNamespace

import jupytext
import pytest
import torch

from course_utils.lessons.data import CharTokenizer, split
from helpers import ROOT, by_path

odd_texts = by_path("tools/odd_texts.py")
PAIRS = {  # of each kind, what is cheap: figures of nearly nothing, and counting
    "300 characters": "4",
    "one line, 6 signs": "1",
    "2,000 signs": "1",
    "Chinese": "1",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lessons"), PAIRS.items())
def test_lessons_end_on_any_text_or_say_why_not(name, lessons, tmp_path, capsys):
    failures = odd_texts.run({name: odd_texts.texts()[name]}, lessons, tmp_path)
    assert not failures, capsys.readouterr().out


def test_the_texts_are_of_different_kinds():
    texts = odd_texts.texts()
    assert len(texts) == 10
    assert len(odd_texts.LESSONS) == 6
    assert {n for n, text in texts.items() if " " not in text} >= {"no blanks", "Chinese"}
    assert "\n" not in texts["no line breaks"] + texts["one line, 6 signs"]
    assert len(set(texts["2,000 signs"])) == 2_000
    assert len(set(texts["20,000 signs"])) > 19_000
    assert len(texts["300 characters"]) == 300
    assert len(texts["20 MB"]) > 19e6


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("pass", "ends"),
        ("raise ValueError('30 tokens are too few: a context of 32 takes 33')", "refuses: Value"),
        ("raise ValueError('Axis limits cannot be NaN or Inf')", "FAILED: ValueError: Axis"),
        ("import os; os._exit(3)", "FAILED: exit code 3"),
    ],
)
def test_a_lesson_that_breaks_is_told_from_one_that_refuses(code, result, tmp_path):
    script = tmp_path / "lesson.py"
    script.write_text(code, encoding="utf-8")
    assert odd_texts.outcome(script, ROOT / "README.md", tmp_path / "results").startswith(result)


def test_lesson_6_keeps_no_more_of_a_text_without_blanks_than_of_another():
    """Each beginning of one long word, kept, takes the square of its length."""
    text = "acgt" * 5_000
    names = {"re": re, "functools": functools, "torch": torch, "split": split}
    names |= {"text": SimpleNamespace(text=text), "tokenizer": CharTokenizer(text)}
    cells = [cell.source for cell in jupytext.read(odd_texts.LESSONS["6"]).cells]
    for begin in ("def words(", "@torch.no_grad()\ndef read("):
        exec(next(source for source in cells if source.startswith(begin)), names)
    assert max(map(len, names["beginnings"])) == 30
    assert max(map(len, names["begun_words"](text))) == 30
