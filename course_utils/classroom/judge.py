"""Judges the attempts of one notebook, out of that notebook's reach.

python -m course_utils.classroom.judge ADDRESS VARIANT FILE

It listens at an address, a Unix socket or a pipe. A notebook's stand-in for the checks calls
`check`; the real check then runs here, its inputs go to the attempt and what it gives comes back.
Each answer is a line of JSON in FILE. Nothing about it is told to the notebook.
"""

import contextlib
import json
import os
import secrets
import sys
from collections import Counter
from multiprocessing.connection import Listener
from pathlib import Path

from course_utils.classroom.limits import limit
from course_utils.messages import _

MOST_CALLS = 50  # of one exercise; further ones are not judged
MEGABYTES = 4000  # that an attempt can make the judge itself hold


class Judge:
    """variant: of the exercises with sizes. write: takes (number, answer in words)."""

    def __init__(self, variant, write):
        self.handed_out = variant
        self.write = write
        self.calls = Counter()

    def questions(self):
        """What a notebook may ask."""
        return {
            "check": self.check,
            "note": self.note,
            "sizes": self.sizes,
            "variant": lambda: self.handed_out,
        }

    def check(self, number, attempt):
        """Judge an attempt: a value for the variant handed out, a function on unforeseen cases."""
        from course_utils import checks
        from course_utils.classroom.wire import Lost

        exercise = checks.find(number)
        self.calls[number] += 1
        if self.calls[number] > MOST_CALLS:
            return
        variant = secrets.randbelow(10**9) if callable(attempt) else self.handed_out
        try:
            with cases_of(variant):
                self.write(number, in_words(exercise, checks.answer(number, attempt)))
        except Lost:
            words = _("no answer came back, the cell or the kernel ended")
            self.write(number, f"error: {words}")
            raise

    def note(self, number, words):
        """Keep why an attempt could not be handed in."""
        from course_utils import checks

        checks.find(number)
        self.write(number, f"error: {checks.plain(str(words))}")

    def sizes(self, number):
        from course_utils import checks

        with cases_of(self.handed_out):
            return checks.sizes(number)


@contextlib.contextmanager
def cases_of(variant):
    """The checks draw their cases from this variant, but for a check within this one."""
    before = os.environ.get("COURSE_VARIANT", "0")
    os.environ["COURSE_VARIANT"] = str(variant)
    try:
        yield
    finally:
        os.environ["COURSE_VARIANT"] = before


def in_words(exercise, found):
    """An Answer as it stands in the table of grades."""
    if found.error:
        return f"error: {found.error}"
    if found.status == "right" and exercise.own_word:
        words = _("right, but {what} is the notebook's own word", what=_(exercise.own_word))
        return f"read it yourself: {words}"
    return found.status


def main(address, variant, file):
    limit(MEGABYTES)
    with Listener(address, backlog=64) as listener:
        print("listening", flush=True)
        from course_utils.classroom.wire import Lost, Wire  # torch takes seconds to load

        with Path(file).open("a", encoding="utf-8") as lines:

            def write(number, words):
                print(json.dumps([number, words]), file=lines, flush=True)

            judge = Judge(int(variant), write)
            while True:
                with listener.accept() as connection, contextlib.suppress(Lost):
                    Wire(connection, judge.questions()).serve_one()


if __name__ == "__main__":
    main(*sys.argv[1:])
