"""What the course says, in the reader's language: the code has it in English, a catalogue the rest.

`_("it has {n} heads", n=3)` looks the sentence up as it stands and then fills it in.
tools/messages.py keeps the catalogue.
"""

import gettext
import os
import re
from functools import cache, partial
from pathlib import Path

VARIABLE = "COURSE_LANGUAGE"  # of the environment, which names one of CODES
SYSTEM = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # the system's, in gettext's order
CODES = {"english": "en", "chinese": "zh"}


def language():
    """ "en" or "zh": what COURSE_LANGUAGE says, else the system's if we speak it, else English."""
    allowed = CODES.values()
    named = os.environ.get(VARIABLE)
    if named and named not in allowed:
        raise ValueError(f"unknown {VARIABLE} {named!r}; allowed are {', '.join(allowed)}")
    systems = next(filter(None, map(os.environ.get, SYSTEM)), "")
    return named or next((code for code in allowed if systems.startswith(code)), "en")


@cache
def catalogue(code):
    """What is said in this language; English needs none."""
    folder = Path(__file__).with_name("locale")
    return gettext.translation("course", folder, [code], fallback=code == "en")


def said(code, text, /, **values):
    """The text in this language, its {names} replaced by values, if there are any.

    Where one English word is two in Chinese, what it is about stands before it: "a table|values".
    """
    found = catalogue(code).gettext(text) if text else ""
    return filled(code, found if found != text else text.rpartition("|")[2], values)


def filled(code, text, values):
    text = text.format(**values) if values else text
    return tight(text) if code == "zh" else text


def tight(chinese):
    """Without the blanks that names leave between Chinese signs."""
    return re.sub(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])", "", chinese)


def speaker(language):
    """`_` of the language "english" or "chinese", whichever the reader's is."""
    if language not in CODES:
        raise ValueError(f"unknown language {language!r}; allowed are {', '.join(CODES)}")
    return partial(said, CODES[language])


def reader():
    """The reader's language, "english" or "chinese"."""
    code = language()
    return next(name for name, each in CODES.items() if each == code)


def _(text, /, **values):
    """The text in the reader's language, its {names} replaced by values, if there are any."""
    return said(language(), text, **values)


def ngettext(one, many, n, /, **values):
    """The same of two texts, the first of them where n asks for it; n is {n} in both."""
    code = language()
    return filled(code, catalogue(code).ngettext(one, many, n), {"n": n, **values})


def N_(text):
    """The text as it stands, for the catalogue to have it: who shows it looks it up."""
    return text
