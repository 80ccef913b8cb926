"""Sentences and tables for a terminal: no wider than it is, and no word cut in two."""

import os
import shutil
import sys
import textwrap
import unicodedata

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
    width = max(20, shutil.get_terminal_size().columns)
    return "\n".join(one if len(one) <= width else folded(one, width) for one in text.split("\n"))


def folded(line, width):
    """A line as several, which begin below its first word."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows):
    """Rows of words, {column: cell} each, as lines: the first column to the left, numbers right."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    cells = [[shortened(cell) for cell in line] for line in cells]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(columns_of, column)) for column in columns]

    lines = []
    for first, *others in cells:
        line = first + " " * (widths[0] - columns_of(first))
        for cell, width in zip(others, widths[1:], strict=True):
            line += "  " + " " * (width - columns_of(cell)) + cell
        lines.append(line)
    return "\n".join(lines)


def shortened(cell):
    return cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 1]}…"


def columns_of(text):
    """How many columns of a terminal a text takes: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
