"""Grading: no attack earns a mark, no oddity loses one, and whatever comes, there is a row for it.

Attacks and oddities are in grading_cases. COURSE_TRIALS=full tries each in a notebook of its own.
"""

import collections
import csv
import functools
import importlib
import itertools
import json
import math
import os
import signal
from dataclasses import replace
from multiprocessing.connection import Pipe
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from course_utils import checks, corpus
from course_utils.classroom import grading, handout, sandbox, wire
from helpers import FULL, course, start, wait_until
from tests import grading_cases as cases
from tests import mutants
from tests.grading_cases import write

LIMITS = sandbox.Limits(seconds=60, minutes=20)
TIGHT = replace(LIMITS, megabytes=1500)
SHORT = replace(TIGHT, seconds=15)  # for what never ends


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The course as a box shows it; skips where no box can be made."""
    folder = sandbox.make_world(tmp_path_factory.mktemp("world") / "world")
    if reason := sandbox.refusal(folder):
        pytest.skip(reason)
    return folder


def graded(folder, notebooks, limits=LIMITS, variant=3, **options):
    """name -> (cells) as notebooks, graded in one go. -> name -> row"""
    paths = [
        write(folder / f"{i:02}.ipynb", *cells, variant=variant)
        for i, cells in enumerate(notebooks.values())
    ]
    rows = grading.grade(folder / "grades", paths, limits=limits, workers=3, **options)
    return dict(zip(notebooks, rows, strict=True))


def table(folder):
    with open(folder / "grades.csv", newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


# --- one notebook, from the command to the table ---

RIGHT = cases.RIGHT + cases.CHECK
STUB = "def byte_pairs(ids, vocab_size, n_merges):\n    ...\nchecks.check('1.5', byte_pairs)"
SYNTAX = "def windows(ids, T)\n    return []\nchecks.check('1.3', windows)"
SHOUT = "import os\nos.write(2, b'\\x1b]0;owned\\x07')\nprint('1.4 right')\nprint(os.environ)"
RAISES = "def bigram_loss(*_):\n    raise KeyError('=\\x1b[2J')\nchecks.check('1.4', bigram_loss)"
ELSEWHERE = """
import os, socket
assert os.listdir("/tmp") == ["home"] and not os.path.exists(TESTS)
try:
    socket.create_connection(("127.0.0.1", 80), timeout=3)
except OSError as error:
    assert "unreachable" in str(error) or "refused" in str(error)
"""


@pytest.mark.slow
def test_the_command_grades(tmp_path, world):
    cells = [ELSEWHERE.replace("TESTS", repr(__file__)), cases.IMPORTS]
    cells += [RIGHT, SYNTAX, SHOUT, RAISES, STUB, "checks.check('1.2', (checks.variant(), 0))"]
    write(tmp_path / "in" / "=cmd.ipynb", *cells, variant=2)
    (tmp_path / "in" / os.fsdecode(b"m\xfcller.ipynb")).write_text("[", encoding="utf-8")
    done = course("student", tmp_path / "out", "--grade", tmp_path / "in")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "=cmd.ipynb: 1 right of 5",
        "m\\udcfcller.ipynb: it is not a notebook",
        f"The grades are in {tmp_path / 'out' / 'grades.csv'}.",
    ]
    one, two = table(tmp_path / "out")
    assert one == {
        "notebook": "'=cmd.ipynb",
        "variant": "2",
        "right": "1",
        "problem": "",
        "1.1": "right",
        "1.2": "not yet",
        "1.3": one["1.3"],
        "1.4": "error: KeyError: '=\\x1b[2J'",
        "1.5": "not attempted",
        "1.6": "",
        "file": "../in/=cmd.ipynb",
    }
    assert one["1.3"].startswith("error: SyntaxError: expected ':'")
    assert two["problem"] == "it is not a notebook"


def test_without_a_box_it_is_said_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = write(tmp_path / "a.ipynb", "open('/tmp/ran', 'w')")
    with pytest.raises(ValueError, match=r"not installed .* --unsafe grades without it"):
        grading.grade(tmp_path / "out", [path])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_unsafe_grading_judges_in_the_same_way(tmp_path):
    path = write(tmp_path / "a.ipynb", cases.IMPORTS, RIGHT, STUB, variant=None)
    (row,) = grading.grade(tmp_path / "out", [path], unsafe=True)
    assert (row["1.1"], row["1.5"], row["right"]) == ("right", "not attempted", 1)
    assert row["problem"] == "no variant is stored in it: graded as variant 0"


@pytest.mark.slow
def test_what_is_stopped_says_what_is_kept(tmp_path, world):
    """Ctrl-C in the second of two: the first one's row is there, and no process is left."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.ipynb").write_text("[", encoding="utf-8")
    mine = f"7654321.{os.getpid()}"  # and not of another suite on this machine
    write(tmp_path / "in" / "2.ipynb", f"import subprocess\nsubprocess.run(['sleep', '{mine}'])")
    running = start("student", tmp_path / "out", "--grade", tmp_path / "in")
    assert running.stdout.readline() == "1.ipynb: it is not a notebook\n"
    wait_until(lambda: processes(mine), process=running)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "stopped; 1 of 2 notebooks are graded" in said
    assert [row["problem"] for row in table(tmp_path / "out")] == ["it is not a notebook"]
    assert not processes(mine)


def processes(word):
    """The processes of this machine whose command has this word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            pass
    return found


# --- attacks ---


def together(attacks):
    """All cells of these in one notebook."""
    return [cell for cells in attacks.values() for cell in cells]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, world):
    """name -> row, of all attacks and of a control that is graded last."""
    folder = tmp_path_factory.mktemp("attacks")
    shared = {"claims": cases.CLAIMS, "changes": cases.CHANGES, "burdens": cases.BURDENS}
    notebooks = {name: together(attacks) for name, attacks in shared.items()} | cases.BREAKS
    if FULL:
        notebooks = {name: cases.ATTACKS[name] for name in cases.ATTACKS.keys() - cases.ENDLESS}
    rows = graded(folder / "endless", cases.ENDLESS, SHORT)
    return rows | graded(folder / "others", notebooks | {"control": cases.CONTROL}, TIGHT)


@pytest.mark.slow
def test_no_attack_earns_a_mark(attacked):
    assert {name: row for name, row in attacked.items() if row["right"]} == {}
    for name, row in attacked.items():
        told = [words for key, words in row.items() if key[:1].isdigit()]
        assert row["problem"] or told, f"{name}: a row says what became of it"


@pytest.mark.slow
def test_nothing_outlives_an_attack(attacked):
    assert attacked["control"]["1.1"] == "not yet"
    assert not processes("987654")


@pytest.mark.slow
def test_what_breaks_is_named(attacked):
    alone = {
        "an endless loop that can't be interrupted": "no end after 15 s",
        "ends its process": "no answer came back",
        "ends the process that runs it": "the notebook ended the process that ran it",
        "many processes": "stopped at more than 100 processes",
        "a tensor larger than the machine": "can't allocate memory",
        "shared memory without end": "the kernel died",
        "gives a number of a million digits": "Exceeds the limit",
        "gives a text of 50 MB": "not yet",
    }
    for name in alone.keys() & attacked.keys():
        row = attacked[name]
        assert alone[name] in f"{row.get('1.1')} | {row['problem']}", name


# --- oddities ---


def lost(notebooks, rows):
    """The right answers that were not called right. notebooks: [(cells, numbers)]"""
    return [
        (number, row.get(number), [cell for cell in cells if number in cell])
        for (cells, numbers), row in zip(notebooks, rows.values(), strict=True)
        for number in numbers
        if row.get(number) != "right"
    ]


@pytest.mark.slow
def test_every_way_to_hand_in_counts(tmp_path, world):
    notebooks = cases.notebooks()
    rows = graded(tmp_path, {i: cells for i, (cells, _) in enumerate(notebooks)})
    assert lost(notebooks, rows) == []


@pytest.mark.slow
def test_odd_surroundings_lose_nothing(tmp_path, world):
    settings = list(cases.SETTINGS.values())
    chosen = [[one] for one in settings] if FULL else [settings[:-1], settings[-1:]]
    for limits, some in ((LIMITS, chosen[:-1]), (SHORT, chosen[-1:])):
        notebooks = [([cases.IMPORTS, *cells, RIGHT], ["1.1"]) for cells in some]
        folder = tmp_path / f"{limits.seconds}"
        rows = graded(folder, {i: cells for i, (cells, _) in enumerate(notebooks)}, limits)
        assert lost(notebooks, rows) == []


@pytest.mark.slow
@pytest.mark.parametrize("lesson", handout.lessons() if FULL else handout.lessons()[:1])
def test_the_reference_answers_earn_everything(lesson, tmp_path, world):
    """A lesson with its solutions in, under a variant that its author never saw."""
    text = corpus.load()
    (row,) = grading.grade(tmp_path, [lesson], variant=11, text=text, limits=LIMITS)
    earned = {key: words for key, words in row.items() if key[:1].isdigit()}
    asked = [n for n in checks.numbers() if n.startswith(f"{int(lesson.name[:2])}.")]
    assert list(sorted(earned)) == asked
    assert {words.partition(":")[0] for words in earned.values()} <= {"right", "read it yourself"}
    assert sum(words != "right" for words in earned.values()) <= 1


# --- the judge, asked over its wire, without a kernel ---


@pytest.fixture(scope="module")
def hand_in(tmp_path_factory):
    """(number, attempt) -> what a judge in its own process makes of it."""
    place = tmp_path_factory.mktemp("judge")
    address = sandbox.address_of(place)
    answers = place / "answers"
    with grading.judge(address, 7, answers), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_JUDGE", address)
        patch.setenv("COURSE_VARIANT", "7")
        stand_in = importlib.import_module("course_utils.classroom.stand_in")

        def hand_in(number, attempt):
            before = len(answers.read_text().splitlines()) if answers.exists() else 0
            stand_in.check(number, attempt)
            ((told, words),) = map(json.loads, answers.read_text().splitlines()[before:])
            assert told == number
            return words

        yield hand_in


@pytest.mark.slow
def test_the_wire_loses_no_right_answer_and_lets_no_mutant_pass(hand_in):
    for number, case in mutants.all_cases().items():
        right = ("read it yourself" if checks.find(number).own_word else "right",)
        for i, attempt in enumerate(case.unusual):
            assert hand_in(number, mutants.made(attempt)).startswith(right), (number, i)
        for i, (attempt, _) in enumerate(case.mutants):
            words = hand_in(number, mutants.made(attempt))
            assert words.startswith(("not yet", "error: ")), (number, i, words)


def test_what_a_judge_tells_of_an_attempt(hand_in):
    assert hand_in("1.1", None) == "not attempted"
    assert hand_in("1.1", lambda p: None) == "not attempted"
    assert hand_in("1.1", lambda p: p.sort()) == "not yet"
    assert hand_in("1.1", lambda p: 1 / 0) == "error: ZeroDivisionError: division by zero"
    assert hand_in("1.1", lambda p: (_ for _ in ()).throw(UnicodeDecodeError("a", b"", 0, 1, "b")))
    assert hand_in("1.1", lambda p: object()) == "not yet"
    assert hand_in("1.2", lambda: 1).startswith("error: TypeError")
    assert hand_in("1.2", torch.zeros(3).to_sparse()).startswith("error: a tensor that is sparse")
    assert hand_in("1.3", lambda ids, T: itertools.repeat(ids)).startswith(
        "error: Unreadable: more"
    )


# --- the wire ---


class Numbers(int):
    """A whole number of another type."""


def crossed(value):
    """The value as it arrives."""
    lent = []
    packing = wire.Packing(lambda function: [lent.append(function), "mine"])
    tree = json.loads(json.dumps(packing.pack(value)))
    return wire.Unpacking(packing.tensors, lambda content: lent[0]).unpack(tree)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        10**40,
        -0.5,
        math.inf,
        "a\x00\ud800",
        [1, (2.0, {"a": {3}}), ...],
        {(1, 2): None},
        (),
    ],
)
def test_plain_values_arrive_as_they_are(value):
    got = crossed(value)
    assert got == value
    assert repr(got) == repr(value), "of the same types too"


def test_tensors_and_arrays_arrive_as_they_are():
    for tensor in (
        torch.tensor([[1.5, -math.inf]]),
        torch.arange(6).view(2, 3).mT,
        torch.tensor(True),
        torch.zeros(0, 3),
        torch.ones(2, dtype=torch.bfloat16),
        torch.nn.Parameter(torch.ones(2)),
    ):
        got = crossed(tensor)
        assert type(got) is torch.Tensor
        assert (got.dtype, got.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(got, tensor.detach())
    assert np.array_equal(crossed(np.eye(2)), np.eye(2))
    assert type(crossed(np.float32(0.5))) is np.float32


def test_what_is_gone_through_stays_what_it_was():
    assert not isinstance(crossed(iter([1])), list)
    assert list(crossed(i for i in (1, 2))) == [1, 2]
    assert list(crossed({1: 2}.keys())) == [1]
    assert list(crossed(collections.deque([1, 2]))) == [1, 2]
    assert crossed(Numbers(3)) != 3
    assert type(crossed(Numbers(3))).__name__ == "Numbers"


@pytest.mark.parametrize(
    "value",
    [
        itertools.repeat(0),
        list(range(300_000)),
        functools.reduce(lambda deep, _: [deep], range(100), []),
        torch.zeros(20_000_000),
        [torch.zeros(10_000_000), torch.zeros(10_000_000)],
        torch.zeros(2, dtype=torch.complex64),
        torch.eye(2).to_sparse(),
    ],
    ids=["endless", "many", "deep", "large", "large together", "complex", "sparse"],
)
def test_what_is_too_much_is_refused_by_the_sender(value):
    with pytest.raises(wire.Unreadable):
        wire.Packing(None).pack(value)


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"[1, 2]",
        b'{"what": "gave"}',
        b'{"what": "gave", "target": null, "values": [{"set": [[]]}]}',
        b'{"what": "gave", "target": null, "values": [{"a": 1, "b": 2}]}',
        b'{"what": "gave", "target": null, "values": [{"__reduce__": ["os.system", "ls"]}]}',
        b'{"what": "gave", "target": null, "values": [{"tensor": "0"}]}',
        b'{"what": "gave", "target": null, "values": [{"callable": ["check", "yours"]}]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_broken_message_ends_the_line_and_nothing_else(part):
    here, there = Pipe()
    with here, there:
        there.send_bytes(part)
        there.send_bytes(save({}))
        with pytest.raises(wire.Lost):
            wire.Wire(here, {}).receive()
        here.send_bytes(b"{}")
        there.send_bytes(b'{"what": "gave", "target": null, "values": []}')
        there.send_bytes(bytes(8) + part)
        with pytest.raises(wire.Lost):
            wire.Wire(here, {}).receive()
