"""Where the course keeps its files, in a checkout and without one."""

import os
from pathlib import Path

_above = Path(__file__).resolve().parent.parent
CHECKOUT = _above if (_above / "pyproject.toml").is_file() else None  # None: installed from a wheel, as on Colab
PUBLISHED = Path(__file__).resolve().parent / "published"  # the recorded study, shipped with the package


def results():
    """The folder for runs, tables and figures: COURSE_RESULTS, else `results` in the checkout or here."""
    return Path(os.environ.get("COURSE_RESULTS") or (CHECKOUT or Path.cwd()) / "results")
