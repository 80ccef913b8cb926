"""The checks: each mutant is caught with its words, right answers pass, stubs are stubs."""

import json
import math

import numpy as np
import pytest
import torch

from course_utils import checks
from course_utils.checks import Wrong, agree
from course_utils.checks.model import with_bug
from course_utils.checks.stubs import is_stub
from course_utils.checks.values import same, show
from tests import mutants
from tools import mutants as tool

CASES = mutants.all_cases()


@pytest.fixture(autouse=True)
def _variant(monkeypatch):
    monkeypatch.setenv("COURSE_VARIANT", "0")


@pytest.mark.slow
@pytest.mark.parametrize("number", CASES)
def test_mutants_die_and_unusual_right_answers_live(number):
    assert tool.alive(number, CASES[number], mutants.made) == []
    assert tool.refused(number, CASES[number], mutants.made) == []


@pytest.mark.parametrize("number", CASES)
def test_solution_and_stub(number, monkeypatch):
    for variant in tool.VARIANTS:
        monkeypatch.setenv("COURSE_VARIANT", variant)
        assert mutants.said(number, "exercise") == f"{number} not attempted yet.\n"
        assert mutants.said(number, "solution") == "", "said under a stub, it would confuse"


@pytest.mark.parametrize("number", CASES)
def test_an_exercise_has_its_parts(number):
    exercise, case = checks.find(number), CASES[number]
    assert len(case.mutants) >= 3, "too few mutants to trust the check"
    assert case.unusual, "one right answer that is written otherwise"
    prose = "\n".join(c.source for c in mutants.read(mutants.notebook(number)).cells)
    head = f"### Exercise {number} · {exercise.level} · {exercise.minutes} min"
    assert head in prose
    told = prose[prose.index(head) :].partition("\n### ")[0]
    assert told.count("<summary>Hint") >= 2
    assert mutants.cells(number)["solution"].metadata["tags"] == ["solution", "hide-cell"]
    assert not mutants.cells(number)["solution"].outputs, "it would stand under the reader's own"


def test_the_recorded_table_is_up_to_date():
    rows = json.loads(
        (mutants.ROOT / "course_utils/published/checks.json").read_text(encoding="utf-8")
    )["rows"]
    recorded = {row["exercise"].split()[0]: (row["killed"], row["accepted"]) for row in rows}
    now = {number: (len(case.mutants), len(case.unusual)) for number, case in CASES.items()}
    assert recorded == now, "run python tools/mutants.py --json"


def test_every_registered_exercise_has_mutants():
    for number in CASES:
        checks.find(number)
    lessons = {number.partition(".")[0] for number in CASES}
    assert {n for n in checks.EXERCISES if n.partition(".")[0] in lessons} == set(CASES)
    for lesson in lessons:
        assert sum(n.startswith(f"{lesson}.") for n in CASES) >= 4, (
            f"lesson {lesson} has fewer than four exercises"
        )


# --- the frame itself, on an exercise that belongs to no lesson -----------------------------------


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setattr(checks, "EXERCISES", dict(checks.EXERCISES))

    @checks.exercise("0.1", "Double", "warm-up", 5, sizes=lambda draw: {"n": draw(1, 1000)})
    def _(attempt):
        for n in (2, 3):
            agree(
                attempt(n),
                2 * n,
                given=f"n = {n}",
                perhaps={"is it the square?": n**2, "is 2 added?": n + 2},
            )
        return "it doubles"


def said_of(attempt, capsys):
    assert checks.check("0.1", attempt) is None
    return capsys.readouterr().out


@pytest.mark.usefixtures("double")
def test_three_answers_in_plain_text(capsys):
    assert said_of(lambda n: 2 * n, capsys) == "0.1 right: it doubles.\n"
    assert (
        said_of(lambda n: n * n, capsys)
        == "0.1 not yet: given n = 3, expected 6, got 9. Perhaps: is it the square?\n"
    )
    assert (
        said_of(lambda n: n + 2, capsys)
        == "0.1 not yet: given n = 3, expected 6, got 5. Perhaps: is 2 added?\n"
    )
    assert said_of(lambda n: 7, capsys) == "0.1 not yet: given n = 2, expected 4, got 7.\n"
    checks.check("0.1", lambda n: 2 * n, quiet=True)
    assert capsys.readouterr().out == ""
    checks.check("0.1", lambda n: 7, quiet=True)
    assert capsys.readouterr().out == "0.1 not yet: given n = 2, expected 4, got 7.\n"


@pytest.mark.usefixtures("double")
def test_stubs_are_not_attempted(capsys):
    def raises(n):
        raise NotImplementedError

    class Stub:
        def __new__(cls, n):
            return None

    for stub in (None, ..., lambda n: None, lambda n: ..., raises, Stub):
        assert said_of(stub, capsys) == "0.1 not attempted yet.\n"
    forgotten = "got nothing. Perhaps: is a `return` missing?\n"
    for forgets in (lambda n: print(end=""), lambda n: [n].sort()):  # they work: no stubs
        said = said_of(forgets, capsys)
        assert said == f"0.1 not yet: given n = 2, expected 4, {forgotten}"
    late = said_of(lambda n: 4 if n == 2 else None, capsys)
    assert late == f"0.1 not yet: given n = 3, expected 6, {forgotten}"


STUBS = """
def dots(n): ...
def passes(n): pass
def explained(n):
    'Twice n.'
def returns(n):
    'Twice n.'
    return None
class Empty:
    def __init__(self, n): ...
"""
NO_STUBS = """
def computes(n): n + 1
def text(n): return "4"
def forgets(n): print(end="")
class Full:
    def __init__(self, n): self.n = n
"""


def test_a_stub_is_told_with_its_source_and_without(tmp_path, monkeypatch):
    (tmp_path / "typed.py").write_text(STUBS + NO_STUBS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import typed

    unknown = {}
    exec(STUBS + NO_STUBS, unknown)
    for name in ("dots", "passes", "explained", "returns"):
        assert is_stub(getattr(typed, name))
        assert is_stub(unknown[name]), "told by what it was compiled to"
    for name in ("computes", "text", "forgets"):
        assert not is_stub(getattr(typed, name))
        assert not is_stub(unknown[name])
    assert is_stub(typed.Empty)
    assert not is_stub(typed.Full)
    assert not any(map(is_stub, (lambda: 4, lambda n: n, len, torch.add, 4)))


def test_what_can_not_be_used_is_not_said_to_be_raised(capsys):
    checks.check("1.3", lambda ids, T: T)
    assert "what your code gave can't be used: TypeError" in capsys.readouterr().out
    checks.check("1.3", lambda ids, T: print(end=""))
    assert "your code gave nothing back. Perhaps: is a `return` missing?" in capsys.readouterr().out


@pytest.mark.usefixtures("double")
def test_what_an_attempt_raises_is_part_of_the_answer(capsys):
    assert said_of(lambda n: n / 0, capsys) == (
        "0.1 not yet: given 2, your code raised ZeroDivisionError: division by zero.\n"
    )
    assert "TypeError" in said_of(lambda: 4, capsys)
    assert "TypeError" in said_of(4, capsys)
    assert "SystemExit" in said_of(lambda n: exit(0), capsys)

    def interrupted(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checks.check("0.1", interrupted)


class Agreeable(int):
    """Says that it equals everything."""

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


@pytest.mark.usefixtures("double")
def test_an_answer_that_claims_to_equal_everything_does_not(capsys):
    assert said_of(lambda n: Agreeable(), capsys).startswith("0.1 not yet")


@pytest.mark.usefixtures("double")
def test_a_readers_text_acts_on_nothing(capsys):
    def hostile(n):
        raise ValueError("\x1b[2J<img src=x onerror=alert(1)>\n" + "x" * 10_000)

    told = said_of(hostile, capsys)
    assert "\x1b" not in told
    assert told.count("\n") == 1
    assert len(told) < 500
    assert "\\x1b[2J<img" in told, "as text, shown as it was written"


def test_same():
    assert same(4.0, 4)
    assert not same(4.1, 4)
    assert not same(1_662_977, 1_662_976), "whole numbers are exact"
    assert same(1 / 3, 0.333333, 1e-5)
    assert not same(0.3334, 1 / 3)
    assert same(np.float32(0.5), 0.5)
    assert same(torch.tensor(0.5), 0.5)
    assert same(math.inf, math.inf)
    assert not same(math.inf, -math.inf)
    assert same(math.nan, math.nan)
    assert not same(math.nan, 1.0)
    assert not same("1", 1)
    assert not same(True, 1)
    assert same((1, 2.0), [1, 2.0])
    assert not same([1], [1, 2])
    assert same(torch.tensor([1, 2]), [1, 2])
    assert same({"a": 1.0}, {"a": 1.0})
    assert not same({"a": 1.0}, {"b": 1.0})
    assert same(torch.tensor([1.0, -math.inf]), torch.tensor([1.0, -math.inf]))
    assert not same(torch.ones(2, 1), torch.ones(2)), "no broadcasting"
    assert not same(torch.ones(2), torch.ones(2, dtype=torch.int64)), "ids are whole numbers"
    assert same(torch.ones(2, dtype=torch.int64), torch.ones(2))
    assert not same([1.0, 2.0], torch.tensor([1.0, 2.0]))


def test_shapes_types_and_places_are_said_in_words():
    def words(got, expected):
        with pytest.raises(Wrong) as caught:
            agree(got, expected, given="x")
        return str(caught.value)

    assert "expected a tensor of shape (2, 3), got a tensor of shape (3, 2)" in words(
        torch.zeros(3, 2), torch.ones(2, 3)
    )
    whole = torch.ones(1, dtype=torch.int64)
    assert "expected a tensor of whole numbers, got a tensor of fractions" in words(
        torch.ones(1), whole
    )
    changed = torch.zeros(5, 7)
    changed[3, 2] = 1
    assert "expected 0 at [3, 2], got 1 at [3, 2]" in words(changed, torch.zeros(5, 7))
    assert words(0.33334, 0.33333).count("0.3333") == 2
    assert "expected 4, got '4'" in words("4", 4)
    assert show("a" * 500).count("a") < 100


@pytest.mark.usefixtures("double")
def test_sizes_depend_on_the_variant_alone(monkeypatch):
    drawn = []
    for variant in ("0", "1", "0"):
        monkeypatch.setenv("COURSE_VARIANT", variant)
        drawn.append(checks.sizes("0.1"))
    assert drawn[0] == drawn[2] != drawn[1]
    monkeypatch.setenv("COURSE_VARIANT", "three")
    with pytest.raises(ValueError, match="whole number"):
        checks.variant()


def test_unknown_exercises_and_levels():
    for number in ("1.99", "9.1", "x"):
        with pytest.raises(ValueError, match="there is no exercise"):
            checks.check(number, None)
    with pytest.raises(ValueError, match="unknown level"):
        checks.exercise("0.2", "", "hard", 5)


@pytest.mark.parametrize("bug", ["none", "sure", "future", "order"])
def test_no_rounding_of_a_processor_is_a_bug_of_a_batch(bug):
    """A text alone and among others takes other products, and in float32 other roundings."""
    for seed in range(100):
        model = with_bug(bug, seed, None)
        tokens = torch.randperm(11)[:7][None]
        with torch.no_grad():
            alone, among = model(tokens), model(tokens.repeat(4, 1))[-1:]
        assert (alone - among).abs().max() <= 1e-6
        assert alone.dtype == torch.float32
