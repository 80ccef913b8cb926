"""Everything a run found, on one page that opens from disk: findings, pictures, tables, facts."""

import os
from base64 import b64encode
from numbers import Integral, Real
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from course_utils import files

LANGUAGES = {"english": "en", "chinese": "zh"}  # a figure's, and what HTML calls it


def write(folder, tables, figures, findings, note="", facts=None):
    """Write report.html into the folder and give its path: one file, no script, nothing loaded.

    tables: title -> DataFrame. figures: title -> Figure or the path of a PNG. findings: sentences,
    shown first. note: a banner, where it isn't empty. facts: name -> value (corpus, seeds, device,
    command), shown last. Whatever the texts hold is shown as text.
    """
    page = template().render(
        title="Shakespeare, Layer by Layer: results",
        note=note,
        findings=findings,
        pictures=[picture(name, figure) for name, figure in figures.items()],
        tables=tables,
        facts=facts or {},
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
    environment.filters["shown"] = shown
    return environment.get_template("report.html")


def picture(name, figure):
    """What the page says of a Figure or of a PNG's path."""
    if isinstance(figure, str | os.PathLike):
        data, alt, language = Path(figure).read_bytes(), name, "en"
    else:
        data, alt, language = figure.png(), figure.get_label(), LANGUAGES[figure.language]
    return {"name": name, "data": b64encode(data).decode(), "alt": alt, "lang": language}


def shown(value):
    """A table's cell as text: four figures or more, thousands apart, "–" for nothing."""
    if pd.isna(value):
        return "–"
    if isinstance(value, Integral):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if not isinstance(value, Real):
        return str(value)
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:,.{digits}f}"
