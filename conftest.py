"""Every test, and every kernel of a test, runs small and away from the reader's results."""

import functools
import os
import tempfile
import warnings

import pytest

os.environ["COURSE_PROFILE"] = "smoke"
os.environ["COURSE_LANGUAGE"] = "en"
os.environ["COURSE_RESULTS"] = tempfile.mkdtemp(prefix="course-results-")
os.environ["OMP_NUM_THREADS"] = "1"


# Who asks for one of these takes long: the book, a browser, an experiment, an environment, …
LONG = {"book", "browser", "results", "hostile", "dask", "installed", "made"}
# These files take longest: a worker that came to one last would work on while the other rests.
FIRST = ("test_grading", "test_book", "test_notebooks", "test_cluster", "test_reliability")


@pytest.hookimpl(tryfirst=True)
def pytest_collect_file(file_path, parent):
    """Where the text of the stored outputs is missing, lessons run and nothing is compared."""
    if file_path.suffix == ".ipynb" and not has_real_text():
        parent.config.option.nbval_lax = True


@functools.cache
def has_real_text():
    from course_utils import corpus

    text = corpus.load()
    if not text.is_real:
        warnings.warn(f"{text.name}: outputs of lessons are not compared", stacklevel=2)
    return text.is_real


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as slow what runs a lesson or asks for what is LONG; begin with the longest files."""
    for item in items:
        if item.path.suffix == ".ipynb" or LONG & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.stem not in FIRST, item.path not in slow))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A lesson's kernel, started after this, speaks the lesson's language."""
    os.environ["COURSE_LANGUAGE"] = "zh" if item.path.parent.name == "zh" else "en"
