"""Every test, and every kernel of a test, runs small and away from the reader's results."""

import os
import tempfile

import pytest

os.environ["COURSE_PROFILE"] = "smoke"
os.environ["COURSE_RESULTS"] = tempfile.mkdtemp(prefix="course-results-")
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark lessons and pages as slow, and begin with the files that have something slow."""
    for item in items:
        if item.path.suffix == ".ipynb" or "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
