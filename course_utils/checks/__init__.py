"""The answer to an exercise: not attempted yet; not yet, and where it went wrong; right.

`check("1.2", attempt)` prints it as plain text and never raises for a wrong answer. A lesson's
checks lie in the module of its name and are imported when the first one is asked for.
"""

import functools
import importlib.util
import os
import random
from dataclasses import dataclass

import torch

from course_utils.checks.stubs import is_nothing, is_stub
from course_utils.checks.values import described, plain, same, show
from course_utils.messages import N_, _

# In the order of their numbers.
LESSONS = ("data", "attention", "model", "train", "ablation", "sampling")
LEVELS = (N_("warm-up"), N_("core"), N_("stretch"))
NO_RETURN = N_("is a `return` missing?")
EXERCISES = {}  # number -> Exercise, of the lessons imported so far


@dataclass(frozen=True)
class Exercise:
    """What a lesson asks for, and how it is judged."""

    number: str
    title: str
    level: str
    minutes: int
    run: object  # attempt -> a sentence that says what is now known; raises Wrong
    sizes: object  # draw(low, high) -> dict; None where the text names no sizes
    own_word: str  # what the attempt's own process alone can tell, else ""


@dataclass(frozen=True)
class Answer:
    """status: "right", "not yet" or "not attempted". error: what the attempt raised, else ""."""

    number: str
    status: str
    words: str = ""
    error: str = ""

    def __str__(self):
        if self.status == "not attempted":
            return _("{number} not attempted yet.", number=self.number)
        said = (
            _("{number} right: {words}")
            if self.status == "right"
            else _("{number} not yet: {words}")
        )
        end = "" if self.words.endswith(("?", ".", "？", "。")) else _(".")
        return said.format(number=self.number, words=self.words) + end


class NotAttempted(Exception):
    """The stub is as it was."""


class Wrong(Exception):
    """An answer that is not right.

    given, wanted and found in words, wanted "" where it is not told. perhaps: a question that
    names a likely misconception. got: the value found.
    """

    def __init__(self, given, wanted, found, perhaps="", got=""):
        self.got = got
        if wanted:
            text = _(
                "given {given}, expected {wanted}, got {found}.",
                given=given,
                wanted=wanted,
                found=found,
            )
        else:
            text = _("given {given}, got {found}.", given=given, found=found)
        if perhaps:
            text += _(" Perhaps: {perhaps}", perhaps=perhaps)
        super().__init__(text)


def exercise(number, title, level, minutes, sizes=None, own_word=""):
    """Register a check. sizes: of draw(low, high), a whole number from low to high -> dict."""
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; allowed are {', '.join(LEVELS)}")

    def register(run):
        EXERCISES[number] = Exercise(number, title, level, minutes, run, sizes, own_word)
        return run

    return register


def find(number):
    """The exercise of that number; its lesson's checks are imported if they were not yet."""
    lesson = number.partition(".")[0]
    if lesson.isdigit() and 1 <= int(lesson) <= len(LESSONS):
        name = f"{__name__}.{LESSONS[int(lesson) - 1]}"
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    if number not in EXERCISES:
        there = ", ".join(n for n in EXERCISES if n.startswith(f"{lesson}."))
        words = _(
            "there is no exercise {number}; lesson {lesson} has {there}",
            number=number,
            lesson=lesson,
            there=there or _("none"),
        )
        raise ValueError(words)
    return EXERCISES[number]


def numbers():
    """The numbers of all exercises, in order."""
    for lesson in LESSONS:
        importlib.import_module(f"{__name__}.{lesson}")
    return sorted(EXERCISES, key=lambda number: tuple(map(int, number.split("."))))


def variant():
    """Which set of cases: 0, or the whole number in COURSE_VARIANT."""
    text = os.environ.get("COURSE_VARIANT") or "0"
    if not text.isdecimal():
        raise ValueError(
            _("COURSE_VARIANT must be a whole number such as 3, not {text!r}", text=text)
        )
    return int(text)


def generator(salt=0):
    """A torch.Generator whose draws depend on the variant."""
    return torch.Generator().manual_seed(1000 * variant() + salt)


def drawn_from(low, high, salt):
    """A whole number from low to high that depends on the variant."""
    return torch.randint(low, high + 1, (), generator=generator(salt)).item()


def sizes(number):
    """The sizes that an exercise's text asks about, different in each variant. -> dict"""
    draw = random.Random(f"{variant()} {number}").randint
    return find(number).sizes(draw)


def check(number, attempt, quiet=False):
    """Print the answer to an attempt, a function or a value; quiet: unless it is right."""
    found = answer(number, attempt)
    if not (quiet and found.status == "right"):
        print(found)


def answer(number, attempt):
    """The Answer to an attempt, whatever it raises; a KeyboardInterrupt alone goes through."""
    found = find(number)
    last = Call()
    if is_nothing(attempt):
        return Answer(number, "not attempted")
    try:
        return Answer(number, "right", found.run(watched(attempt, last)))
    except (NotAttempted, NotImplementedError):
        return Answer(number, "not attempted")
    except Wrong as wrong:
        return Answer(number, "not yet", str(wrong))
    except (Exception, SystemExit) as error:
        said = plain(": ".join(filter(None, (type(error).__name__, str(error)))))
        return Answer(number, "not yet", last.words_for(said), error=said)


@dataclass
class Call:
    """The last call of an attempt: its arguments in words; whether it came back; what it gave."""

    given: str = ""
    ended: bool = False
    got: object = None

    def words_for(self, error):
        """What went wrong at this call, the error in words."""
        given = _("given {given}, ", given=self.given) if self.given else ""
        if not self.ended:
            return given + _("your code raised {error}", error=error)
        if is_nothing(self.got):
            perhaps = _(" Perhaps: {perhaps}", perhaps=_(NO_RETURN))
            return given + _("your code gave nothing back.") + perhaps
        return given + _("what your code gave can't be used: {error}", error=error)


def watched(attempt, last):
    """The attempt, a stub noticed at its first call, each call kept in `last`, a Call."""
    if not callable(attempt):
        return attempt

    @functools.wraps(attempt, updated=())
    def call(*arguments):
        first = not last.given
        last.given = ", ".join(map(show, arguments))
        last.ended = False
        try:
            last.got = attempt(*arguments)
        except NotImplementedError:
            if first:
                raise NotAttempted from None
            words = _("NotImplementedError, though other cases went well")
            raise RuntimeError(words) from None
        last.ended = True
        if first and is_nothing(last.got) and is_stub(attempt):
            raise NotAttempted
        return last.got

    call.there = getattr(attempt, "there", None)  # see witness.observed
    return call


def agree(got, expected, given, perhaps=None, tolerance=1e-5, secret=False):
    """Raise Wrong where got is not expected.

    perhaps: question -> what that mistake would give; the first that fits is asked. secret: what is
    expected is all that is asked for, so it is not told.
    """
    if same(got, expected, tolerance):
        return
    wanted, found = described(expected, got)
    fits = (
        question for question, mistaken in (perhaps or {}).items() if same(got, mistaken, tolerance)
    )
    question = _(NO_RETURN) if is_nothing(got) else next(fits, "")
    raise Wrong(given, "" if secret else wanted, found, question, got)
