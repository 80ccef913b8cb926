"""Chromium or Chrome, as this machine has it, for those who print pages and those who test them."""

import shutil
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
)


def program():
    """The first that is on the PATH, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def opened(program, *arguments):
    """A browser of Playwright's; closed afterwards."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", *arguments]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()
