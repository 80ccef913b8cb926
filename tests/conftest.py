"""What is made once for many tests: a browser, the widget's site, a small text in a file."""

import pytest

from helpers import SPEECH
from pages import Reader, chromium, serving, widget_site


@pytest.fixture(autouse=True)
def promise(request, record_property):
    """Tell tools/reliability.py, through pytest's report, what a test shows."""
    for mark in request.node.iter_markers("promise"):
        record_property("promise", *mark.args)


@pytest.fixture(scope="session")
def browser():
    """One for each worker; each test opens windows of its own in it."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory):
    return widget_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def site(site_folder):
    """The address of pages with the sampling widget."""
    with serving(site_folder) as address:
        yield address


@pytest.fixture
def reader(browser, site):
    reader = Reader(browser, site)
    yield reader
    reader.close()


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    """A small text of one's own."""
    path = tmp_path_factory.mktemp("corpus") / "hamlet.txt"
    path.write_text(SPEECH, encoding="utf-8")
    return path
