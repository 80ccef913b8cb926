"""The table of grades: whole after every row, rows from earlier kept, nothing in it a formula."""

import csv
import io
import os
from pathlib import PurePath

from course_utils import files
from course_utils.messages import _

FIRST = ("notebook", "variant", "right", "problem")


class Gradebook:
    """folder/grades.csv: a row a notebook, a column an exercise. A teacher's own columns stay."""

    def __init__(self, folder, numbers, paths):
        self.path = folder / "grades.csv"
        self.numbers = numbers
        self.rows = {row["file"]: row for row in self.earlier()}
        self.names = names([*self.rows, *map(self.file_of, paths)])
        for file, row in self.rows.items():
            row["notebook"] = self.names[file]

    def earlier(self):
        """The rows that are there; ValueError where the file is something else."""
        if not self.path.exists():
            return []
        try:
            content = io.StringIO(self.path.read_text(encoding="utf-8-sig"), newline="")
            rows = list(csv.DictReader(content, strict=True))
        except (UnicodeDecodeError, csv.Error):
            rows = [{}]
        if any("file" not in row or None in {*row, *row.values()} for row in rows):
            raise ValueError(
                _(
                    "{path} is no table that this grading wrote, and stays as it is: move it away, "
                    "or name another folder",
                    path=self.path,
                )
            )
        return [{key: files.as_it_was(cell) for key, cell in row.items()} for row in rows]

    def add(self, path, row):
        """Put a notebook's row in its place. -> the name that it has in the table"""
        file = self.file_of(path)
        ours = {*FIRST, *self.numbers}
        kept = {key: value for key, value in self.rows.get(file, {}).items() if key not in ours}
        self.rows[file] = kept | row | {"file": file, "notebook": self.names[file]}
        self.write()
        return self.names[file]

    def file_of(self, path):
        """Where a notebook lies, seen from the table: what a row is known by."""
        try:
            where = os.path.relpath(path, self.path.parent)
        except ValueError:  # another drive
            where = os.path.abspath(path)
        return where.encode("utf-8", "backslashreplace").decode()

    def write(self):
        rows = list(self.rows.values())
        seen = {
            number.partition(".")[0] for number in self.numbers for row in rows if row.get(number)
        }
        asked = [number for number in self.numbers if number.partition(".")[0] in seen]
        own = dict.fromkeys(key for row in rows for key in row)
        columns = [*FIRST, *asked, *(key for key in own if key not in (*FIRST, *self.numbers))]
        columns.append(columns.pop(columns.index("file")))
        table = {column: [row.get(column) for row in rows] for column in columns}
        files.write(self.path, files.csv_bytes(table))


def names(paths):
    """path -> as much of its end as tells it from the others"""
    parts = {path: PurePath(path).parts for path in paths}
    found = {}
    for path in parts:
        length = 1
        while length < len(parts[path]) and ends_alike(parts[path][-length:], parts.values()) > 1:
            length += 1
        found[path] = "/".join(parts[path][-length:])
    return found


def ends_alike(end, all_parts):
    """How many of these end so."""
    return sum(parts[-len(end) :] == end for parts in all_parts)
