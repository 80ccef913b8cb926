"""How a report writes numbers, times, names and lists, in English and Chinese."""

import math
import re
from typing import NamedTuple

from course_utils import messages
from course_utils.figures.words import translated


class Said(NamedTuple):
    """The same words in both languages."""

    english: str
    chinese: str


def loss(value):
    return "–" if math.isnan(value) else f"{value:.3f}"


def perplexity(value):
    return f"{value:.2f}"


def number(value):
    return "–" if math.isnan(value) else f"{value:.2f}"


def share(value):
    """A share in per cent, "–" for none."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def whole(value):
    """A whole number, thousands apart; "–" for none."""
    return "–" if math.isnan(value) else f"{value:,.0f}"


def megabytes(value):
    """Three figures, so that a small model's memory is not 0."""
    return "–" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def of_mebibytes(value):
    """MB of the MiB in which a system counts its memory, and a record with it."""
    return value * 2**20 / 1e6


def millions(value):
    """Three figures, so that a small model still has a size."""
    return f"{value / 1e6:.3g}"


def in_myriads(value):
    """A count as Chinese says it: in ten thousands where it has them."""
    return f"{value / 1e4:,.1f}".removesuffix(".0") + " 万" if value >= 1e4 else whole(value)


def epochs(value):
    """How many texts' worth was read; two figures where that is hardly a tenth."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def duration(seconds):
    """A time as people say it."""
    if math.isnan(seconds):
        return Said("–", "–")
    if seconds < 60:
        digits = f"{seconds:.1f}"
        return Said(f"{digits} s", f"{digits} 秒")
    minutes, seconds = divmod(round(seconds), 60)
    return Said(f"{minutes:,} min {seconds} s", f"{minutes:,} 分 {seconds} 秒")


def tight(chinese):
    """Without the blanks that names leave between Chinese signs, and those before per cent."""
    return re.sub(r"(?<=\d) (?=%)", "", messages.tight(chinese))


def per_cent(value):
    """A share as each language writes it."""
    return Said(share(value), tight(share(value)))


def named(arm):
    return Said(arm, translated(arm, "chinese"))


def human(m):
    """What Chinese calls the human reference: whose text it is, where that is known."""
    return "莎士比亚原文" if m.corpus.is_real else "原文"


def listed(parts, last="and"):
    """ "2, 4 and 6 layers", and the same in Chinese."""
    english = [part.english for part in parts]
    chinese = "、".join(part.chinese for part in parts)
    if len(english) > 1:
        english = [*english[:-2], f"{english[-2]} {last} {english[-1]}"]
    return Said(", ".join(english), chinese)


def joined(*sentences):
    return Said(
        " ".join(one.english for one in sentences if one.english),
        "".join(one.chinese for one in sentences),
    )


def each(table, form, chinese):
    """One part an arm: form and chinese are format strings that may use a row's columns.

    table: rows with arm.
    """
    parts = []
    for row in table.to_dict("records"):
        words = {name: row for name, row in row.items() if name != "arm"}
        arm = named(row["arm"])
        parts.append(
            Said(
                form.format(arm=arm.english, **words),
                chinese.format(arm=arm.chinese, **words),
            )
        )
    return parts


def unbroken(arm):
    """An arm's name, its number and its word on one line."""
    return Said(*(re.sub(r"(?<=\d) ", "\u00a0", word) for word in named(arm)))


def plural(n, word):
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
