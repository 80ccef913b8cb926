"""Put what `course verify ENTRY.json` measured into the table of records.

python tools/records.py RESULT.json …

A result takes the place of one that has its name, its context and its device.
"""

import argparse
import json
from pathlib import Path

from course_utils import files
from course_utils.research import entries


def place(result):
    entry = result.entry
    return entry.model.context_length, entry.name, result.environment["device"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", metavar="RESULT.json", type=Path)
    new = [entries.read(path, entries.Result.from_values) for path in parser.parse_args().results]
    found = {place(result): result for result in [*entries.load_all(), *new]}
    content = [found[key].content() for key in sorted(found)]
    files.write(entries.FILE, json.dumps(content, indent=1, ensure_ascii=False).encode())
    for result in new:
        print(f"{result.in_words()}\n  {result.outside() or 'in the table'}")


if __name__ == "__main__":
    main()
