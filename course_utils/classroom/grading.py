"""Grading notebooks that came back, without believing anything that they say.

Each runs in a box of its own, with checks that know no answers. What it hands to `checks.check`, in
whatever way, goes to a judge in another process at that moment. The judge asks an attempt about
cases that nobody could foresee; the values that come back are all that counts.
"""

import glob
import json
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from course_utils import checks
from course_utils.classroom import handout, sandbox
from course_utils.classroom.gradebook import Gradebook
from course_utils.messages import _

LIMITS = sandbox.Limits()
# What stands for an exercise begins with one of these; where it was tried twice the best counts.
RANKS = ("not called", "not attempted", "error", "not yet", "read it yourself", "right")
NUMBER = re.compile(r"""["'](\d\.\d+)["']""")
VARIANT = re.compile(r"""COURSE_VARIANT["']\s*\]\s*=\s*["'](\d{1,9})["']""")


def grade(folder, named, variant=None, text=None, limits=LIMITS, unsafe=False, workers=1):
    """Run and judge notebooks; folder/grades.csv gets a row for each, and keeps its other rows.

    named: files, folders and patterns. variant: the one handed out; None believes each notebook.
    text: the corpus, if it is at hand. -> the rows, one a notebook
    """
    paths = notebooks_in(named)
    book = Gradebook(folder, checks.numbers(), paths)
    rows = []
    with prepared(text, unsafe) as world, ThreadPoolExecutor(workers) as pool:
        stop = threading.Event()
        one = partial(row_of, variant=variant, limits=limits, world=world, unsafe=unsafe, stop=stop)
        try:
            for path, row in zip(paths, pool.map(one, paths), strict=True):
                name = book.add(path, row)
                rows.append(row)
                print(f"{name}: {in_words(row)}", flush=True)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                _(
                    "stopped; {graded} of {all} notebooks are graded and in {path}; the same "
                    "command grades all of them anew",
                    graded=len(rows),
                    all=len(paths),
                    path=book.path,
                )
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return rows


def notebooks_in(named):
    """The notebooks that files, folders and patterns name; Windows leaves patterns to us."""
    paths = []
    for name in map(str, named):
        if glob.has_magic(name) and not Path(name).exists():
            paths += map(Path, sorted(glob.glob(name, recursive=True)))
        else:
            paths.append(Path(name))
    found = []
    for path in paths:
        found += sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
    found = [path for path in found if ".ipynb_checkpoints" not in path.parts]
    if not found:
        raise ValueError(_("no notebook was found in {named}", named=", ".join(map(str, named))))
    return list(dict.fromkeys(found))


@contextmanager
def prepared(text, unsafe):
    """The course as the boxes show it, in a folder; ValueError where no box can be made."""
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        world = sandbox.make_world(Path(folder) / "world", text)
        if not unsafe and (reason := sandbox.refusal(world)):
            raise ValueError(
                _(
                    "{reason}; --unsafe grades without it, and each notebook is then a program "
                    "that runs with your rights",
                    reason=reason,
                )
            )
        yield world


def row_of(path, variant, limits, world, unsafe, stop):
    """A notebook's row, whatever happens on the way to it."""
    answers = {}
    row = {"variant": "", "problem": ""}
    try:
        notebook = handout.read(path)
        row["variant"], doubt = variant_of(notebook, variant)
        cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        answers, trouble = examine(cells, row["variant"], limits, world, unsafe, stop)
        if not answers and not trouble:
            trouble = _("no check found")
        row["problem"] = _("; ").join(filter(None, (doubt, trouble)))
    except Exception as error:
        row["problem"] = checks.plain(str(error) or type(error).__name__)
    row["right"] = list(answers.values()).count("right")
    return row | answers


def variant_of(notebook, handed_out):
    """-> (the variant, what is doubtful about it in words, else "")"""
    if handed_out is not None:
        return handed_out, ""
    stored = notebook.metadata.get("course")
    stored = stored.get("variant") if isinstance(stored, dict) else None
    if type(stored) is not int or not 0 <= stored < 10**9:
        stored = None
    cells = [VARIANT.search(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    told = next((int(match[1]) for match in cells if match), None)
    if stored is None and told is None:
        return 0, _("no variant is stored in it: graded as variant 0")
    if None not in (stored, told) and stored != told:
        words = _(
            "its cell says variant {told}: graded as {stored}, which was handed out",
            told=told,
            stored=stored,
        )
        return stored, words
    return (told if stored is None else stored), ""


def examine(cells, variant, limits, world, unsafe, stop):
    """Run cells in a box, beside a judge. -> (number -> answer in words, what went wrong)"""
    if stop.is_set():
        return {}, _("grading was stopped")
    with tempfile.TemporaryDirectory(prefix="course-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        address = sandbox.address_of(place)
        answers = place / "answers"
        with (
            judge(address, variant, answers),
            sandbox.Box(world, place, address, cells, limits, unsafe) as box,
        ):
            trouble = box.wait(stop)
        lines = answers.read_text(encoding="utf-8").splitlines() if answers.exists() else []
        told = [(place, checks.plain(words), cut) for place, words, cut in box.told()]
        short = [
            _("cell {n}: {words}", n=place + 1, words=words) for place, words, cut in told if cut
        ]
        errors = {place: words for place, words, cut in told}
        return best(map(json.loads, lines), cells, errors), trouble or next(iter(short), "")


@contextmanager
def judge(address, variant, answers):
    """A judge that listens, in a process of its own."""
    command = [sys.executable, "-m", "course_utils.classroom.judge"]
    process = subprocess.Popen(
        [*command, address, str(variant), answers],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        if not process.stdout.readline():
            raise RuntimeError(_("the judge could not be started"))
        yield
    finally:
        process.kill()
        process.communicate()


def best(judged, cells, errors):
    """number -> the best answer, or why there is none. errors: place of a cell -> words

    A number is looked for in a cell's text only to say why it was not handed in.
    """
    found = {}
    for number, words in judged:
        if number not in found or rank(words) > rank(found[number]):
            found[number] = words
    known = set(checks.numbers())
    for place, source in enumerate(cells):
        for number in known.intersection(NUMBER.findall(source)):
            if "check" in source and number not in found:
                found[number] = f"error: {errors[place]}" if place in errors else "not called"
    return found


def rank(words):
    return RANKS.index(words.partition(":")[0])


def in_words(row):
    """A row, on the terminal."""
    graded = [words for key, words in row.items() if key[:1].isdigit()]
    counted = _("{right} right of {all}", right=row["right"], all=len(graded))
    to_read = sum(words.startswith("read") for words in graded)
    if to_read:
        counted += _(", {n} to read yourself", n=to_read)
    return _("; ").join(filter(None, (row["problem"], counted if graded else "")))
