"""How a test looks at a page: served by this machine, in a real browser that reaches no other."""

import functools
import http.server
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
import chrome
import pytest

from course_utils import files
from helpers import ROOT, by_path

PLAYGROUND = by_path("book/_ext/course_playground.py")
PATIENCE_MS = 300_000  # a wait ends with its event; this only ends a test that hangs
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
BARRIERS = """(options) => axe.run({ ...options, resultTypes: ["violations"] }).then(
  ({ violations }) => violations
  .filter(({ impact }) => ["serious", "critical"].includes(impact))
  .flatMap(({ id, nodes }) => nodes.map(({ html, target }) =>
    `${id}: ${target} ${html.slice(0, 160)}`)))"""
NAME_KINDS = """() => {
  const ground = (e) => e && (/, 0\\)$/.test(getComputedStyle(e).backgroundColor)
    ? ground(e.parentElement) : getComputedStyle(e).backgroundColor);
  for (const e of document.body.querySelectorAll("*")) {
    const { color, opacity, fontSize, fontWeight } = getComputedStyle(e);
    const name = e.localName + e.getAttribute("class");
    e.kind = [e.kind, name, color, ground(e), opacity, fontSize, fontWeight].join();
  }
}"""
HIDE_TWINS = """() => {
  const shown = {}, hidden = new Set();
  for (const e of [...document.body.querySelectorAll("*")].reverse()) {
    const says = e.matches("input, select, textarea")
      || [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const seen = says && e.checkVisibility({ visibilityProperty: true });
    if (seen) shown[e.kind] = (shown[e.kind] ?? 0) + 1;
    const spare = (!seen || shown[e.kind] > 3) && e.localName !== "style";
    if (spare && [...e.children].every((child) => hidden.has(child))) hidden.add(e);
  }
  for (const e of hidden) {
    e.style.visibility = "hidden";
    e.replaceChildren();
    if (e.parentElement.closest("pre, svg")) e.remove();
  }
}"""
# What nobody can reach in a drawing, and what only colours code: half of a lesson's elements.
SET_ASIDE = """() => {
  const reached = "a, button, [tabindex], [role]";
  window.aside = [...document.querySelectorAll("pre, svg[aria-label]")]
    .filter((e) => !e.querySelector(reached)).map((e) => [e, [...e.childNodes]]);
  for (const [e] of aside) e.replaceChildren(e.localName === "pre" ? e.textContent : "");
}"""
PUT_BACK = "() => aside.forEach(([e, children]) => e.replaceChildren(...children))"


def barriers(page):
    """What axe finds serious for a reader who sees or hears less, but for colours.

    preload: it would ask for style sheets anew, to see whether a phone may be turned.
    """
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(SET_ASIDE)
    no_colours = {"rules": {"color-contrast": {"enabled": False}}, "preload": False}
    found = page.evaluate(BARRIERS, no_colours)
    page.evaluate(PUT_BACK)
    return found


def pale_words(page):
    """Words that stand out too little, on a light or a dark page, which is spent on it.

    Axe takes long over contrast: of elements alike in name, colours and size, it sees three.
    """
    for scheme in ("light", "dark"):
        turn(page, scheme)
        page.evaluate(NAME_KINDS)
    page.evaluate(HIDE_TWINS)
    found = page.evaluate(BARRIERS, {"runOnly": ["color-contrast"]})
    turn(page, "light")
    return found + page.evaluate(BARRIERS, {"runOnly": ["color-contrast"]})


def turn(page, scheme):
    """Let the reader's system be light or dark; the book's theme follows, some of it slowly."""
    page.emulate_media(color_scheme=scheme)
    turned = "(scheme) => (document.documentElement.dataset.theme ?? scheme) === scheme"
    page.wait_for_function(turned, arg=scheme)
    end_transitions(page)


def end_transitions(page):
    """Let colours and sizes be at once where they are going.

    Subtle: to wait for it may be in vain, as Chromium lists what is over on a hidden element.
    """
    page.evaluate(
        "document.getAnimations().filter((one) => one instanceof CSSTransition)"
        ".forEach((one) => one.finish())"
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        # A browser asks for an icon of itself, where a page names none.
        if self.path == "/favicon.ico":
            self.send_error(204)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        pass  # the browser went on before it had everything


@contextmanager
def serving(folder):
    """The address at which this machine serves a folder."""
    with Server(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def chromium():
    """A browser in which every name but this machine's leads nowhere."""
    program = chrome.program()
    if program is None:
        pytest.skip("no chromium or chrome on this machine")
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with chrome.opened(program, offline) as browser:
        yield browser


def watched(page, *own):
    """The page, whose waits end with their event and whose faults gather in page.problems.

    own: the beginnings of addresses that it may ask for.
    """
    page.set_default_timeout(PATIENCE_MS)
    page.problems, ours = [], (*own, "data:", "blob:")
    say = page.problems.append
    page.on("request", lambda sent: sent.url.startswith(ours) or say(f"asks {sent.url}"))
    page.on("response", lambda got: got.status < 400 or say(f"{got.status} {got.url}"))
    page.on("console", lambda said: said.type != "error" or say(f"console: {said.text}"))
    page.on("pageerror", lambda error: say(f"script: {error}"))
    page.on("dialog", lambda dialog: (say("an alert"), dialog.dismiss()))
    return page


def go(page, address):
    """Open a page and wait for all of it: the network may be idle while a long page is read."""
    page.goto(address)
    page.wait_for_load_state("networkidle")


def spoil(page, module, right, wrong):
    """Let a page get a site's file with one thing in it done wrong."""
    source = module.read_text(encoding="utf-8")
    assert source.count(right) == 1
    body = source.replace(right, wrong)
    page.route(
        f"**/{module.name}", lambda route: route.fulfill(body=body, content_type="text/javascript")
    )


def visit_file(browser, path, width=1280, scheme="light"):
    """A file as a reader sees it; page.asked: every address it asks for but its own,
    all refused."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE_MS)
    page.asked, page.complaints = [], []
    own = path.resolve().as_uri()

    def answer(route):
        if route.request.url == own:
            return route.continue_()
        page.asked.append(route.request.url)
        return route.abort()

    page.route(lambda url: not url.startswith("data:"), answer)
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    go(page, own)
    return page


# --- the sampling widget --------------------------------------------------------------------------
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>A page</title><style>body { font-family: sans-serif; margin: 1em }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark } body { background: #121212; color: #ddd } }</style>
<main><h1>A page</h1><div class="sampler-place" data-prompt="ROMEO:"></div></main>
<script type="module" src="_static/mount.mjs"></script></html>"""


def widget_site(folder):
    """Fill a folder with what the widget needs: page.html has it, tall.html far down,
    blank.html not."""
    PLAYGROUND.copy_parts(folder / "playground")
    (folder / "_static").mkdir()
    shutil.copy(ROOT / "book/_static/mount.mjs", folder / "_static")
    tall = PAGE.replace("<h1>A page</h1>", '<h1>A page</h1><div style="height: 5000px"></div>')
    blank = '<!doctype html><meta charset="utf-8"><title>blank</title>'
    for name, page in (("page", PAGE), ("tall", tall), ("blank", blank)):
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


def published():
    """The records whose models the playground offers, small to large."""
    return PLAYGROUND.models(files.PUBLISHED)


class Reader:
    """A page with the widget, and what a reader sees and does there."""

    def __init__(self, browser, site, address="", empty=False, **options):
        options = {"viewport": {"width": 1280, "height": 1000}} | options
        self.context = browser.new_context(**options)
        self.page = watched(self.context.new_page(), site)
        self.page.goto(f"{site}page.html{address}")
        self.wait_until_ready(empty)

    def wait_until_ready(self, empty=False):
        self.page.wait_for_selector("button:text-is('Generate'):enabled")
        if not empty:
            self.page.wait_for_selector(".sampler-pane:not(.sampler-empty)")

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def generate(self, **settings):
        for name, value in settings.items():
            self.page.get_by_label(name.replace("_", "-"), exact=True).fill(str(value))
        self.press("Generate")
        self.page.locator("[role=status]", has_text="written").wait_for()
        return self.texts()

    def texts(self):
        return self.page.locator(".sampler-text").evaluate_all(
            "(all) => all.map((text) => text.textContent)"
        )

    def status(self):
        return self.page.locator("[role=status]").inner_text()

    def close(self):
        self.context.close()
        assert not self.page.problems
