"""Where a line of a picture or a terminal may end, in English and Chinese, and how wide it is."""

import re
import unicodedata

OPENING = r"(\[{（［｛「『《〈【〔“‘"
CLOSING = r")\]}），。、；：？！％．］｝」』》〉】〕”’,.;:!?%…·"
WIDE = "⺀-鿿豈-\ufaff！-｠"  # Chinese signs, and what stands between them
SIGN = "=≈≠<>≤≥+−×/±"  # of a formula
PLACES = re.compile(  # between two signs of which one is Chinese, or before a blank
    rf"(?<=[{WIDE}])(?<![{OPENING}])(?=[^\s{CLOSING}{SIGN}])"
    rf"|(?<=[^\s{OPENING}{SIGN}])(?=[{WIDE}])(?![{CLOSING}])"
    rf"|(?<=\S)(?<!\s[{SIGN}])(?=[^\S\u00a0]+[^\s{CLOSING}])(?!\s+[{SIGN}]\s)"  # x = 5 is one
    rf"(?!(?<=\d)\s+[{WIDE}])"  # and so is 4 层
)


def width(text):
    """How many columns of a fixed-width font the text takes: a Chinese sign takes two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def fold(text, columns, indent="", whole=False):
    """The text's lines, none wider than so many columns.

    No word, number or formula is cut in two, unless it alone is too wide and need not stay whole;
    no line begins with a sign that closes or ends with one that opens. indent: before each
    continued line.
    """
    lines = []
    for line in text.split("\n"):
        lines.append("")
        for piece in PLACES.split(line):
            too_wide = not whole and width(indent + piece.strip()) > columns
            for part in piece if too_wide else [piece]:
                if lines[-1].strip() and width(lines[-1] + part.rstrip()) > columns:
                    lines.append(indent)
                    part = part.lstrip()
                lines[-1] += part
    return [line.rstrip() for line in lines]
