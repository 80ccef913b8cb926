"""How the checks fare against wrong answers, and against right ones in unusual clothes, as a table.

python tools/mutants.py          print it as Markdown; fail if one lives or a right one is refused
python tools/mutants.py --json   write course_utils/published/checks.json too, which the book shows
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

from course_utils import checks

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "course_utils" / "published" / "checks.json"
VARIANTS = ("0", "1", "7")  # a mutant is dead if it is caught in each


def load_mutants():
    """The package tests.mutants, wherever this is run from."""
    path = ROOT / "tests" / "mutants"
    where = importlib.util.spec_from_file_location("tests.mutants", path / "__init__.py")
    where.submodule_search_locations = [str(path)]
    sys.modules["tests.mutants"] = module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    return module


def alive(number, case, made):
    """The mutants that pass, or die for another reason than theirs: what each was told."""
    told = {}
    for variant in VARIANTS:
        os.environ["COURSE_VARIANT"] = variant
        for i, (attempt, words) in enumerate(case.mutants):
            found = checks.answer(number, made(attempt))
            if found.status != "not yet" or words.casefold() not in str(found).casefold():
                told[i] = f"mutant {i}, variant {variant}, not told {words!r}: {found}"
    return list(told.values())


def refused(number, case, made):
    """The right answers that are not accepted: what each was told."""
    told = {}
    for variant in VARIANTS:
        os.environ["COURSE_VARIANT"] = variant
        for i, attempt in enumerate(case.unusual):
            found = checks.answer(number, made(attempt))
            if found.status != "right":
                told[i] = f"right answer {i}, variant {variant}: {found}"
    return list(told.values())


def row(number, case, made):
    """One exercise: how many mutants it has and kills, how many unusual answers it accepts."""
    exercise = checks.find(number)
    return {
        "exercise": f"{number} {exercise.title}",
        "level": exercise.level,
        "minutes": exercise.minutes,
        "mutants": len(case.mutants),
        "killed": len(case.mutants) - len(alive(number, case, made)),
        "unusual": len(case.unusual),
        "accepted": len(case.unusual) - len(refused(number, case, made)),
    }


LINE = "| {exercise} | {level} | {minutes} | {killed} of {mutants} | {accepted} of {unusual} |"


def main():
    os.environ["COURSE_LANGUAGE"] = "en"  # the words that a mutant must get are English
    mutants = load_mutants()
    rows = [row(number, case, mutants.made) for number, case in sorted(mutants.all_cases().items())]
    print("| exercise | level | minutes | mutants killed | unusual answers accepted |")
    print("|---|---|--:|--:|--:|")
    for found in rows:
        print(LINE.format_map(found))
    if "--json" in sys.argv:
        content = {"command": "python tools/mutants.py --json", "rows": rows}
        FILE.write_text(json.dumps(content, indent=1) + "\n")
    perfect = all(
        found["killed"] == found["mutants"] and found["accepted"] == found["unusual"]
        for found in rows
    )
    sys.exit(0 if perfect else 1)


if __name__ == "__main__":
    main()
