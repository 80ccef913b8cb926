"""Sentences and tables for a terminal: no wider than it is, and no word cut in two."""

import os
import shutil
import sys

from course_utils.messages.lines import fold, width

WIDEST = 36  # characters of a table's cell

# What is printed is read, never obeyed: no escape code in a prompt, a text or a file's name reaches
# a terminal, and nothing that turns the direction of writing.
CONTROLS = {*range(32), *range(127, 160)} - {ord("\t"), ord("\n")}
DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
SHOWN = {code: chr(code).encode("unicode_escape").decode() for code in CONTROLS | DIRECTIONS}


def plain(text):
    """The text, its control characters and turns of direction as Python writes them, "\\x1b"."""
    return str(text).translate(SHOWN)


class Plain:
    """A stream to which everything is written in plain text."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        return self.stream.write(plain(text))

    def __getattr__(self, name):
        return getattr(self.stream, name)


def say(text="", stream=None):
    """Print lines of plain text, broken between words where they are wider than the terminal."""
    print(broken(plain(text), stream), file=stream, flush=True)


def broken(text, stream=None):
    """The text as it suits a terminal; as it is where it goes to a file or a program."""
    stream = stream or sys.stdout
    if not (stream.isatty() or (stream is not sys.stderr and "COLUMNS" in os.environ)):
        return text
    columns = max(20, shutil.get_terminal_size().columns)
    lines = text.split("\n")
    return "\n".join(one if width(one) <= columns else folded(one, columns) for one in lines)


def folded(line, columns):
    """A line as several, which begin below its first word."""
    indent = line[: len(line) - len(line.lstrip())]
    return "\n".join(fold(line.rstrip(), columns, indent, whole=True))


def table(rows):
    """Rows of words, {column: cell} each, as lines: the first column to the left, numbers right."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    cells = [[shortened(cell) for cell in line] for line in cells]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(width, column)) for column in columns]

    lines = []
    for first, *others in cells:
        line = first + " " * (widths[0] - width(first))
        for cell, widest in zip(others, widths[1:], strict=True):
            line += "  " + " " * (widest - width(cell)) + cell
        lines.append(line)
    return "\n".join(lines)


def shortened(cell):
    return cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 1]}…"
