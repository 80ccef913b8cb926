"""The inside of a model on a page: what it made of each character, with parts switched off."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_utils import widgets
from course_utils.lessons.data import CharTokenizer
from course_utils.training import checkpoints, evaluation
from helpers import small_model
from pages import PAGE, barriers, pale_words, published, spoil, watched

TEXT = "ROMEO:\nBut soft, what light through yonder window breaks?"
NOTE = ".inside-view > .inside-note"
LOSS = ".inside-loss"
# The page hears of a change when its words have changed: nothing else is waited for.
SAYS = "([place, words]) => document.querySelector(place).textContent.includes(words)"
DEEPEST = published()[-1].arm


@pytest.fixture(scope="module")
def folder(site_folder):
    place = widgets.place_on_a_page({"text": TEXT}, "inside")
    page = re.sub('<div class="sampler-place".*?</div>', "PLACE", PAGE).replace("PLACE", place)
    (site_folder / "inside.html").write_text(page, encoding="utf-8")
    return site_folder


@pytest.fixture
def open_page(browser, site, folder):
    """Open the page with the options of a browser's context; it must have had no problem."""
    pages = []

    def visit(**options):
        options = {"viewport": {"width": 1280, "height": 1000}} | options
        page = watched(browser.new_context(**options).new_page(), site)
        pages.append(page)
        page.goto(f"{site}inside.html")
        page.wait_for_selector("button:text-is('Write on'):enabled")
        return page

    yield visit
    for page in pages:
        page.context.close()
        assert not page.problems


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="module")
def deepest():
    model, tokenizer = checkpoints.load_model(published()[-1].checkpoint)
    return model.eval(), tokenizer


def read_by_pytorch(deepest, off=(), text=TEXT):
    """-> the lens's probabilities (L + 1, T, V), maps, the nats of each character but the first"""
    model, tokenizer = deepest
    tokens = torch.tensor([tokenizer.encode(text)])
    lens, maps = evaluation.look(model, tokens, off)
    nats = F.cross_entropy(lens[-1, :-1], tokens[0, 1:], reduction="none")
    return lens.softmax(-1), maps, nats


def says(page, place, words):
    page.wait_for_function(SAYS, arg=[place, words])


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def a_character_tells_what_pytorch_says_of_it(page, deepest):
    lens, maps, nats = read_by_pytorch(deepest)
    alphabet, place = deepest[1].alphabet, TEXT.index("soft")
    page.locator(f"[data-place='{place}']").click()
    best = alphabet[lens[-1, place - 1].argmax()]
    share = f"{100 * lens[-1, place - 1].max():.1f} %"
    note = f"After “ROMEO:⏎But␣”, next “s”: {nats[place - 1]:.2f} nats; "
    layers = len(lens) - 1
    assert page.locator(NOTE).inner_text() == f"{note}layer {layers}'s first guess {best} {share}"
    rows = page.locator(".inside-lens tbody tr")
    assert rows.count() == len(lens)
    for stage, row in enumerate(rows.all()):
        guesses = [alphabet[i] for i in lens[stage, place - 1].topk(5).indices]
        shown = row.locator(".sampler-label").all_inner_texts()
        assert shown == [{" ": "␣", "\n": "⏎"}.get(c, c) for c in guesses]
        real = lens[stage, place - 1, alphabet.index("s")]
        last = row.locator("td").last.inner_text()
        assert last == ("< 0.1 %" if real < 0.0005 else f"{100 * real:.1f} %")
    strips = page.get_by_role("img", name=re.compile("looks most at"))
    assert strips.count() == maps.shape[0] * maps.shape[1]
    most = maps[1, 2, place - 1, :place].max()
    spoken = f"2·3 looks most at .*: {100 * most:.1f} %"
    assert re.fullmatch(spoken, strips.nth(maps.shape[1] + 2).get_attribute("aria-label"))
    assert f"{nats.mean():.3f} nats a character" in page.locator(LOSS).inner_text()


PIXELS = """([strip, count]) => {
  const canvas = document.querySelectorAll(".inside-head canvas")[strip];
  const wide = canvas.width / count;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1);
  return Array.from({ length: count }, (_, i) => data[4 * Math.floor(wide * (i + 0.5)) + 3] / 255);
}"""


def a_strip_is_the_heads_row(page, deepest):
    _, maps, _ = read_by_pytorch(deepest)
    place = 20
    page.locator(f"[data-place='{place}']").click()
    for layer, head in ((0, 0), (3, 2), (5, 7)):
        drawn = page.evaluate(PIXELS, [layer * maps.shape[1] + head, place])
        right = maps[layer, head, place - 1, :place].sqrt()
        assert torch.allclose(torch.tensor(drawn), right, atol=0.01)


def test_a_part_that_is_off_has_its_price(page, deepest):
    whole = read_by_pytorch(deepest)[2].mean()
    for pressed, off in (("2·3", ["L2:H3"]), ("Layer 4", ["L2:H3", "L4"])):
        press(page, f"{pressed}, switch off")
        now = read_by_pytorch(deepest, off)[2].mean()
        says(page, LOSS, f"Without {', '.join(off)}: {now:.3f} nats a character")
        sign = "−" if now < whole else "+"
        change = f"{sign}{abs(now - whole):.3f} (all on: {whole:.3f})"
        assert page.locator(LOSS).inner_text().endswith(change)
    pressed = page.locator(".inside [aria-pressed='true']")
    assert pressed.all_inner_texts() == ["2·3", "Layer 4"]
    assert page.get_by_role("img", name="4·1 is off with its layer").count() == 1
    press(page, "Everything on")
    says(page, LOSS, f"The whole text: {whole:.3f}")
    assert pressed.count() == 0


def test_the_model_writes_on_with_the_parts_that_are_on(page):
    written = page.locator(".inside-written dd")
    for off in ("", "Layer 1, switch off", "Everything on"):
        if off:
            press(page, off)
            says(page, LOSS, "Without" if "off" in off else "The whole")
            page.wait_for_selector("button:text-is('Write on'):enabled")
        press(page, "Write on")
        says(page, ".inside [role=status]", "40 characters written.")
    again, without, first = written.all_inner_texts()
    assert again == first != without, "by the same luck"
    assert len(first) == 40
    named = page.locator(".inside-written dt").all_inner_texts()
    assert named == ["Everything on", "Without L1", "Everything on"]


def test_it_works_by_keyboard_alone(page):
    focused = (
        "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    )
    page.get_by_label("Text", exact=True).focus()
    order = ["Model", "", "Write on", "Everything on", "The text; arrow keys choose a character"]
    for expected in order:  # the second is a box to tick
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == expected
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.locator(NOTE).inner_text().startswith("After “RO”, next “M”: ")
    page.keyboard.press("End")
    assert re.match("After “[^”]*”: layer", page.locator(NOTE).inner_text()), "nothing is there yet"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Layer 1, switch off"
    page.keyboard.press("Space")
    says(page, LOSS, "Without L1:")
    assert page.evaluate(focused) == "Layer 1, switch off", "the focus stays"
    page.keyboard.press("Tab")
    assert page.locator(".inside-parts .inside-note").inner_text() == "1·1 is off with its layer"


def a_pointer_looks_and_a_click_chooses(page, deepest):
    page.locator("[data-place='3']").click()
    chosen = page.locator(NOTE).inner_text()
    page.locator("[data-place='9']").hover()
    assert page.locator(NOTE).inner_text() != chosen
    page.get_by_role("button", name="3·2, switch off").hover()
    assert page.locator(NOTE).inner_text() == chosen
    assert page.locator(".inside-parts .inside-note").inner_text().startswith("3·2 looks most at")
    weights = page.locator(".inside-letters span").evaluate_all(
        "(all) => all.map((letter) => Number(letter.style.getPropertyValue('--weight')))"
    )
    assert sum(weight**2 for weight in weights) == pytest.approx(1, abs=0.01)
    assert not any(weights[3:]), "no head looks ahead"


SHOWN = [
    a_character_tells_what_pytorch_says_of_it,
    a_strip_is_the_heads_row,
    a_pointer_looks_and_a_click_chooses,
]


@pytest.mark.parametrize("check", SHOWN, ids=lambda check: check.__name__)
def test_what_is_shown(page, deepest, check):
    check(page, deepest)


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (SHOWN[0], "reading.surprise(place).toFixed", "reading.surprise(place - 1).toFixed"),
        (SHOWN[0], "reading.guesses(stage, place,", "reading.guesses(stage, place + 1,"),
        (SHOWN[1], "Math.sqrt(weight); //", "weight; //"),
        (SHOWN[1], "this.layer, this.head, place)", "this.head, this.layer, place)"),
        (SHOWN[2], "this.pointer.over ?? this.pointer.chosen", "this.pointer.chosen"),
        (SHOWN[2], "this.onPoint(strip?.weights ?? [])", "this.onPoint([])"),
    ],
)
def test_what_is_shown_wrong_is_noticed(browser, site, folder, deepest, check, right, wrong):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    spoil(page, folder / "playground/inside.mjs", right, wrong)
    page.goto(f"{site}inside.html")
    page.wait_for_selector("button:text-is('Write on'):enabled")
    with pytest.raises(AssertionError):
        check(page, deepest)
    page.context.close()


HOSTILE = "<b>x</b><img src=x onerror=alert(1)>"


@pytest.mark.promise("text")
def test_a_text_that_cant_be_read_gets_a_sentence_and_nothing_runs(page):
    box = page.get_by_label("Text", exact=True)
    box.fill(HOSTILE)
    says(page, ".inside [role=status]", f"{DEEPEST} does not know “<”")
    box.fill("A")
    says(page, ".inside [role=status]", "A text needs at least two characters.")
    box.fill("A" * 257)
    says(page, ".inside [role=status]", f"{DEEPEST} reads up to 256 characters; these are 257.")
    box.fill("A" * 256)
    page.wait_for_selector("[data-place='256']")
    assert page.locator(".inside [role=status]").inner_text() == ""
    assert page.locator(".inside :is(img, b, script)").count() == 0


def test_a_model_that_speaks_html_makes_no_live_node(page, folder):
    """Weights of another alphabet in the place of ours: what it reads and says is text."""
    alphabet = "".join(sorted(set(HOSTILE)))
    model = small_model(vocab_size=len(alphabet), context_length=64)
    checkpoints.save_model(folder / "html.safetensors", model, alphabet)
    body = (folder / "html.safetensors").read_bytes()
    page.route("**/2-layers*", lambda route: route.fulfill(body=body))
    page.get_by_label("Model").select_option("2 layers")
    says(page, ".inside [role=status]", "2 layers does not know")
    page.get_by_label("Text", exact=True).fill(HOSTILE)
    page.locator(".inside-letters", has_text=HOSTILE).wait_for()
    assert page.locator(".inside-lens tbody tr").count() == 4, "its three layers, and the embedding"
    assert page.locator(".inside-head").count() == 15
    for place in range(1, len(HOSTILE) + 1):
        page.locator(f"[data-place='{place}']").click()
        assert page.locator(".inside :is(img, b, script)").count() == 0
    press(page, "Write on")
    says(page, ".inside [role=status]", "40 characters written.")
    assert page.locator(".inside :is(img, b, script)").count() == 0
    assert page.locator(".inside-letters").inner_text() == f"{HOSTILE}…"


def test_fewer_layers_have_fewer_rows(page):
    for record in published():
        page.get_by_label("Model").select_option(record.arm)
        layers = record.model["n_layers"]
        page.wait_for_function(
            "(rows) => document.querySelectorAll('.inside-lens tbody tr').length === rows",
            arg=layers + 1,
        )
        says(page, NOTE, f"layer {layers}'s first guess")
        assert page.locator(".inside-layer").count() == layers


def test_models_side_by_side_are_at_the_same_place(page):
    page.get_by_label("all side by side").check()
    views = [page.get_by_role("group", name=record.arm, exact=True) for record in published()]
    place = TEXT.index("light")
    views[1].locator(f"[data-place='{place - 1}']").click()
    views[1].locator(".inside-letters").press("ArrowRight")
    for view, record in zip(views, published(), strict=True):
        nats = read_by_pytorch(checkpoints.load_model(record.checkpoint))[2]
        note = view.locator("> .inside-note")
        assert f"next “l”: {nats[place - 1]:.2f} nats; layer" in note.inner_text()
        assert f"{nats.mean():.3f} nats a character" in view.locator(LOSS).inner_text()
        assert note.get_attribute("aria-live") == ("polite" if view is views[1] else "off")
    views[2].get_by_role("button", name="Layer 5, switch off").click()
    views[2].locator(LOSS, has_text="Without L5").wait_for()
    assert all("The whole text" in view.locator(LOSS).inner_text() for view in views[:2])
    page.get_by_label("all side by side").uncheck()
    page.wait_for_function("document.querySelectorAll('.inside-view').length === 1")


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read_by_all(open_page, width):
    page = open_page(viewport={"width": width, "height": 844}, reduced_motion="reduce")
    page.get_by_label("all side by side").check()
    view = page.get_by_role("group", name=DEEPEST, exact=True)
    view.get_by_role("button", name="Layer 2, switch off").click()
    view.locator(LOSS, has_text="Without L2").wait_for()
    press(page, "Write on")
    says(page, ".inside [role=status]", "written")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert barriers(page) == []
    assert pale_words(page) == []


def test_what_the_page_says_to_look_for_is_there(deepest):
    """book/playground.md, Look inside: what its three points claim of this text."""
    lens, _, nats = read_by_pytorch(deepest)
    tokens = torch.tensor(deepest[1].encode(TEXT))
    first = [i for i in range(1, len(TEXT)) if TEXT[i].isalpha() and not TEXT[i - 1].isalpha()]
    others = [i for i in range(1, len(TEXT)) if TEXT[i].isalpha() and i not in first]
    assert nats[[i - 1 for i in first]].mean() > 2 * nats[[i - 1 for i in others]].mean()
    said = lens[:, :-1].argmax(-1)
    assert (said[0] == tokens[:-1]).all(), "before any layer it says what was just read"
    right = (said == tokens[1:]).sum(-1)
    assert right[:3].sum() == 0 < right[-1]
    whole, (L, H) = nats.mean(), (deepest[0].config.n_layers, deepest[0].config.n_heads)
    names = {"heads": [f"L{i}:H{h}" for i in range(1, L + 1) for h in range(1, H + 1)]}
    names["layers"] = [f"L{i}" for i in range(1, L + 1)]
    cost = {
        kind: [float(read_by_pytorch(deepest, [name])[2].mean() - whole) for name in those]
        for kind, those in names.items()
    }
    assert max(map(abs, cost["heads"])) < 0.05
    assert min(cost["heads"]) < 0, "without some the loss is lower"
    assert min(cost["layers"]) > 0.1
    assert cost["layers"][0] > sum(cost["layers"][1:]), "the first costs more than all others"


NOTEBOOK = """async () => {
  const { default: inside } = await import("/playground/inside.mjs");
  const heard = [];
  const on = (event, f) => event === "msg:custom" && heard.push(f);
  const model = { on, off() {}, send: async (question) => {
    const { content, buffers } = await window.python(question);
    const views = buffers.map((numbers) => new DataView(new Float32Array(numbers).buffer));
    for (const f of heard) f(content, views);
  } };
  inside.render({ model, el: document.body.appendChild(document.createElement("main")) });
}"""


@pytest.mark.promise("text")
def test_python_s_hostile_names_and_errors_are_text(browser, site, folder):
    """The widget of a notebook, with Python behind it."""
    alphabet = "".join(sorted(set(HOSTILE)))
    model = small_model(vocab_size=len(alphabet), context_length=64)
    host = widgets.InsideHost({HOSTILE: model}, CharTokenizer(alphabet), {"text": HOSTILE})

    def python(question):
        request = {"request": question["request"]}
        if question["kind"] == "next":
            return {"content": request | {"error": HOSTILE}, "buffers": []}
        content, buffers = host.reply(question)
        numbers = [np.frombuffer(data, dtype=np.float32).tolist() for data in buffers]
        return {"content": content | request, "buffers": numbers}

    page = watched(browser.new_context().new_page(), site)
    page.expose_function("python", python)
    page.goto(f"{site}blank.html")
    page.evaluate(NOTEBOOK)
    page.wait_for_selector("button:text-is('Write on'):enabled")
    press(page, "Write on")
    says(page, ".inside [role=status]", HOSTILE)
    assert page.locator("option").inner_text() == HOSTILE
    assert page.locator(".inside :is(img, b, script)").count() == 0
    page.context.close()
    assert not page.problems
