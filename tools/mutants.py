"""How the checks of the exercises fare against wrong answers, and against right ones in unusual clothes, as a table.

python tools/mutants.py          print it as Markdown; fail if a mutant lives or a right answer is refused
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


def row(number, case, made):
    """One exercise: how many mutants it has and kills, how many unusual answers it has and accepts."""
    exercise, killed, accepted = (
        checks.find(number),
        [True] * len(case.mutants),
        [True] * len(case.unusual),
    )
    for variant in VARIANTS:
        os.environ["COURSE_VARIANT"] = variant
        for i, (attempt, words) in enumerate(case.mutants):
            found = checks.answer(number, made(attempt))
            killed[i] &= found.status == "not yet" and words.casefold() in str(found).casefold()
        for i, attempt in enumerate(case.unusual):
            accepted[i] &= checks.answer(number, made(attempt)).status == "right"
    return {
        "exercise": f"{number} {exercise.title}",
        "level": exercise.level,
        "minutes": exercise.minutes,
        "mutants": len(killed),
        "killed": sum(killed),
        "unusual": len(accepted),
        "accepted": sum(accepted),
    }


def main():
    mutants = load_mutants()
    rows = [row(number, case, mutants.made) for number, case in sorted(mutants.all_cases().items())]
    print(
        "| exercise | level | minutes | mutants killed | unusual answers accepted |\n|---|---|--:|--:|--:|"
    )
    for found in rows:
        print(
            "| {exercise} | {level} | {minutes} | {killed} of {mutants} | {accepted} of {unusual} |".format_map(
                found
            )
        )
    if "--json" in sys.argv:
        FILE.write_text(
            json.dumps({"command": "python tools/mutants.py --json", "rows": rows}, indent=1) + "\n"
        )
    sys.exit(
        any(
            found["killed"] < found["mutants"] or found["accepted"] < found["unusual"]
            for found in rows
        )
    )


if __name__ == "__main__":
    main()
