"""What labels say, in English or Chinese, in signs that a font has and in lines that fit."""

import re
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from matplotlib import font_manager

from course_utils import messages
from course_utils.messages import N_, _, lines, names

LOSS = N_("validation loss (nats/character)")
LOSSES = N_("loss (nats/character)")
UNTOUCHED = N_("loss on the untouched plays (nats/character)")
PERPLEXITY = N_("perplexity per character")
PARAMETERS = N_("parameters (millions)")


class Measure(NamedTuple):
    """A measure of a text: its name, its unit, and by what a value is multiplied to be in it."""

    name: str
    unit: str
    times: int = 1


MEASURES = {  # a column of a table of texts -> what it measures
    "distinct_2": Measure(N_("distinct pairs"), "%", 100),
    "repetition": Measure(N_("repetition"), "%", 100),
    "known_words": Measure(N_("known words"), "%", 100),
    "longest_copy": Measure(N_("longest copy"), N_("characters")),
    "five_gram_loss": Measure(N_("5-gram loss"), N_("nats/char.")),
}


def speaker(language):
    """The function that says an English text in this language: messages.speaker's."""
    return messages.speaker(chosen(language))


def chosen(language):
    """The language named, else the reader's. ValueError: there is none of this name."""
    language = language or messages.reader()
    messages.speaker(language)
    return language


def translated(label, language):
    """An arm's or a baseline's name in this language, as a font can draw it."""
    return drawable(names.translated(label, language))


def with_minus(text):
    """A minus sign where a hyphen stands for one."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def three_digits(value):
    """A count with three digits that mean something: 43152.9 -> "43,200"."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


@cache
def fonts(language):
    """Font families in the order to try; "Noto Sans SC" comes with the package zhplot."""
    package = find_spec("zhplot")  # found, not imported: importing it changes matplotlib's defaults
    if package is None:
        if language == "chinese":
            raise ModuleNotFoundError(
                _("Chinese labels need the font in the package zhplot: pip install zhplot")
            )
        return ["DejaVu Sans"]
    file = Path(package.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    font_manager.fontManager.addfont(file)
    families = ["DejaVu Sans", "Noto Sans SC"]
    return families[::-1] if language == "chinese" else families


@cache
def has_glyph(character):
    """Whether one of the fonts can draw this character, and it is something to see."""
    if unicodedata.category(character) in ("Cc", "Cf"):
        return False
    files = (font_manager.findfont(family) for family in fonts("english"))
    return any(font_manager.get_font(file).get_char_index(ord(character)) for file in files)


def drawable(text):
    """The text, an unseen control or a sign that no font has as its code point, "U+202E"."""
    return "".join(
        c if c == "\n" or has_glyph(c) else f"U+{ord(c):04X}" for c in str(text).expandtabs(4)
    )


def visible(text):
    """The text as a label: a space as ␣, a line break as ⏎."""
    return drawable(str(text).replace(" ", "␣").replace("\n", "⏎"))


def fold(text, columns, indent=""):
    """The text's lines as a font can draw them: messages.lines'."""
    return lines.fold(drawable(text), columns, indent)
