"""Run the lessons on odd texts, as plain scripts in the smoke profile, and print a table.

    python tools/odd_texts.py                              six lessons, ten texts: half an hour
    python tools/odd_texts.py --texts Chinese --lessons 1 6

A lesson ends, or it refuses: a text too short for it gets one sentence that says so. Anything else
is a failure, and the exit code is 1.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course_utils import corpus

ROOT = Path(__file__).resolve().parent.parent
LESSONS = {path.stem[1]: path for path in sorted((ROOT / "notebooks").glob("0[1-6]_*.py"))}
IDEOGRAPHS = "".join(map(chr, range(0x4E00, 0x9FA0)))
REFUSAL = re.compile(r"^ValueError: \d+ tokens are too few: a context of \d+ takes \d+$")


def chinese(draw, length):
    """Lines of a few to thirty signs, some far commoner than others, with Chinese stops."""
    lines = []
    while sum(map(len, lines)) < length:
        n = draw.randint(3, 30)
        lines.append("".join(IDEOGRAPHS[int(2000 * draw.random() ** 3)] for _ in range(n)) + "。\n")
    return "".join(lines)


def texts():
    """name -> a text that assumes nothing of what Shakespeare's has."""
    draw = random.Random(1)
    english = corpus.load().text
    return {
        "300 characters": english[:300],
        "no blanks": english[:120_000].replace(" ", "_"),
        "no line breaks": english[:120_000].replace("\n", " "),
        "one line, 6 signs": "".join(draw.choices("abcde ", k=60_000)),
        "2,000 signs": "".join(draw.choices(IDEOGRAPHS[:2000], k=62_000)),
        "20,000 signs": "".join(draw.choices(IDEOGRAPHS[:20_000], k=90_000)),
        "first line empty": "\n\n" + english[:80_000],
        "Chinese": chinese(draw, 130_000),
        "100,000 characters": english[:100_000],
        "20 MB": english * (1 + 20_000_000 // len(english)),
    }


def outcome(lesson, file, folder):
    """Run one lesson on one text, in a folder of its own. -> ("ends", "refuses" or what failed)"""
    env = os.environ | {"COURSE_PROFILE": "smoke", "COURSE_CORPUS": str(file)}
    env |= {"COURSE_RESULTS": str(folder), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    folder.mkdir()
    command = [sys.executable, str(lesson)]
    ways = {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run(command, cwd=folder, env=env, check=False, **ways)
    if done.returncode == 0:
        return "ends"
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"refuses: {last}" if REFUSAL.match(last) else f"FAILED: {last[:200]}"


def run(wanted, lessons, place):
    """Each lesson on each text, two at a time. wanted: name -> text -> the number of failures"""
    jobs = []
    for i, (name, text) in enumerate(wanted.items()):
        file = place / f"{i}.txt"
        file.write_text(text, encoding="utf-8", newline="\n")
        jobs += [(name, number, file, place / f"{i}-{number}") for number in lessons]

    def do(job):
        name, number, file, folder = job
        began = time.monotonic()
        return name, number, outcome(LESSONS[number], file, folder), time.monotonic() - began

    failures = 0
    with ThreadPoolExecutor(2) as pool:
        for name, number, result, seconds in pool.map(do, jobs):
            print(f"{name:20} lesson {number} {seconds:5.0f} s  {result}", flush=True)
            failures += result.startswith("FAILED")
    print(f"{len(jobs) - failures} of {len(jobs)} end or refuse in a sentence", flush=True)
    return failures


def main():
    odd = texts()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", nargs="+", choices=odd, default=list(odd), metavar="NAME")
    parser.add_argument("--lessons", nargs="+", choices=LESSONS, default=list(LESSONS), metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="odd-texts-") as place:
        failures = run({name: odd[name] for name in args.texts}, args.lessons, Path(place))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
