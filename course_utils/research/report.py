"""The report that a student hands in: one page, in English or Chinese, that opens from disk."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from course_utils import files, messages
from course_utils.research import report_method, tables
from course_utils.research import report_sheets as sheets
from course_utils.research import report_text as text
from course_utils.research.report_words import Said, named, tight

UNITS = re.compile(r"(?<=\d) (?=(?:layers?|ms|s|min|MB)\b|[%层秒分毫])")


def write(folder, material, pictures):
    """Write report.html into the folder and give its path: one file, no script, nothing loaded.

    material: report_text.Material. pictures: name -> language -> Figure, named as FIGURES.
    Whatever the texts hold is shown as text.
    """
    page = template().render(
        m=material,
        text=text,
        Said=Said,
        named=named,
        samples=list(text.shown_texts(material).itertuples()),
        sheets=sheets,
        raw=[
            sheets.by_epoch(material),
            sheets.raw(Said("One row a depth", "每种深度一行"), material.arms),
            sheets.raw(
                Said("One row a comparison", "每次比较一行"),
                tables.comparison_table(material.comparisons),
            ),
            sheets.raw(
                Said("One row an n-gram model", "每个 n 元语法模型一行"),
                tables.baseline_table(material.baselines),
            ),
            sheets.raw(Said("One row a run", "每次训练一行"), material.final),
            sheets.raw(Said("One row a text", "每段文本一行"), material.texts),
        ],
        drawn={
            f"{name}-{language}": figure.svg(f"{name}-{language}")
            for name, figures in pictures.items()
            for language, figure in figures.items()
        },
        environment=material.records[0].environment,
        regimes=dict.fromkeys(r.regime for r in material.records),
        language=messages.language(),
        address=report_method.COURSE,
    )
    path = Path(folder) / "report.html"
    files.write(path, page.encode())
    return path


def is_of_another_text(folder, corpus):
    """Whether a report lies there that names another text's sha256."""
    path = Path(folder) / "report.html"
    return path.is_file() and corpus.sha256 not in path.read_text(
        encoding="utf-8", errors="replace"
    )


def template():
    """report.html, which lies beside this file; whatever it shows is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["said"] = said
    environment.filters["code"] = code
    return environment.get_template("report.html")


def said(words):
    """Words in both languages, also where they are the same in both; no unit leaves its number."""
    if not isinstance(words, Said):
        return Said(words, words)
    return Said(*(UNITS.sub("\u00a0", one) for one in (words.english, tight(words.chinese))))


def code(words):
    """Escaped words, what stands between backticks in them as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", str(words))
