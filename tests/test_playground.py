"""The sampling widget on a page, driven as a reader would: by mouse, keyboard, with any files."""

import json
import re
import struct

import pytest
import torch
from safetensors.torch import save

from course_utils import widgets
from course_utils.lessons import sampling
from course_utils.training import checkpoints
from helpers import small_model
from pages import AXE, PAGE, Reader, barriers, go, pale_words, published

COUNTED = """() => {
  const post = Worker.prototype.postMessage;
  window.asked = [];
  Worker.prototype.postMessage = function (question) {
    asked.push(question.kind);
    return post.call(this, question);
  };
}"""
DONE = "document.querySelector('[role=status]').textContent.includes('written')"


def test_a_worker_does_the_models_work_once_a_character(reader):
    """So the page itself stays free. (How fast that is, stands on the page of performance.)"""
    reader.page.evaluate(COUNTED)
    reader.generate(Characters=200)
    print(reader.status())
    asked = reader.page.evaluate("asked")
    assert asked == ["next"] * 201  # the last is about what would follow


def test_nothing_is_loaded_before_the_reader_comes_near(browser, site):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    asked = []
    page.on("request", lambda sent: asked.append(sent.url.removeprefix(site)))
    go(page, f"{site}tall.html")
    assert page.locator(".sampler-place.sampler").count() == 0
    assert not [name for name in asked if name.startswith("playground/")]
    page.locator(".sampler-place").scroll_into_view_if_needed()
    page.wait_for_selector(".sampler-pane:not(.sampler-empty)")
    page.context.close()


def test_greedy_text_is_pytorchs_past_the_context_too(reader):
    model, tokenizer = checkpoints.load_model(published()[-1].checkpoint)
    count = model.config.context_length + 100
    (text,) = reader.generate(Temperature=0, Characters=count)
    tokens = torch.tensor([tokenizer.encode("ROMEO:")])
    assert text == tokenizer.decode(
        sampling.generate(model, tokens, count, temperature=0)[0].tolist()
    )


def test_a_seed_decides_the_text(reader):
    first = reader.generate(Seed=1, Characters=40)
    assert reader.generate(Seed=2) != first
    assert reader.generate(Seed=1) == first
    reader.page.get_by_label("Prompt").fill("KING")
    assert reader.generate()[0].startswith("KING")
    reader.page.get_by_label("Prompt").fill("ROMEO:")
    for i in range(40):  # one at a time, they come to the same text
        reader.press("One character")
        reader.page.wait_for_function(f"document.querySelectorAll('[data-at]').length === {i + 1}")
        reader.page.wait_for_selector("button:text-is('Generate'):enabled")
    assert reader.texts() == first


def test_three_models_write_side_by_side_and_stop(reader):
    reader.page.get_by_role("checkbox").check()
    reader.page.wait_for_selector(".sampler-pane >> nth=2")
    reader.wait_until_ready()
    texts = reader.generate(Characters=150)
    assert len(set(texts)) == 3
    assert {len(text) for text in texts} == {len("ROMEO:") + 150}
    reader.page.get_by_label("Characters", exact=True).fill("5000")
    reader.press("Generate")
    reader.page.wait_for_selector("[data-at='20']")
    reader.press("Stop")
    assert reader.status() == "Stopped."
    stopped = reader.texts()
    reader.page.wait_for_timeout(300)
    assert reader.texts() == stopped
    reader.page.get_by_role("checkbox").uncheck()
    reader.page.wait_for_selector(".sampler-pane >> nth=1", state="detached")


def test_a_slider_redraws_at_once_without_the_model(reader):
    reader.page.evaluate(COUNTED)
    for name in ("Temperature", "Top-k", "Top-p"):
        shown = reader.page.locator("ol").inner_text()
        reader.page.get_by_label(name, exact=True).fill("1" if name == "Top-k" else "0.3")
        assert reader.page.locator("ol").inner_text() != shown
        reader.page.get_by_label(name, exact=True).fill("65" if name == "Top-k" else "1")
    assert reader.page.evaluate("asked") == []
    reader.page.get_by_label("Top-k", exact=True).fill("3")
    reader.page.get_by_label("Top-p", exact=True).fill("1")
    fates = reader.page.locator(".sampler-fates").inner_text()
    assert fates == "3 kept · 62 cut by top-k · 0 cut by top-p"


def test_a_character_tells_its_surprise_to_mouse_and_keyboard(reader):
    reader.generate(Characters=30)
    reader.page.locator("[data-at='4']").hover()
    by_mouse = reader.page.locator(".sampler-note").inner_text()
    assert re.fullmatch(r"“.”: surprise \d+\.\d\d nats \([<\d. ]+ %\)", by_mouse)
    assert reader.page.locator("li.sampler-drawn").count() == 1
    reader.page.mouse.move(5, 5)
    assert reader.page.locator(".sampler-note").inner_text() == "The next character"
    reader.page.locator(".sampler-text").focus()
    for key in ("Home", *["ArrowRight"] * 5, "ArrowLeft"):
        reader.page.keyboard.press(key)
    assert reader.page.locator(".sampler-note").inner_text() == by_mouse
    reader.page.keyboard.press("Escape")
    assert reader.page.locator(".sampler-note").inner_text() == "The next character"


def test_it_works_by_keyboard_alone(reader):
    reader.page.get_by_label("Prompt").focus()
    order = ["Temperature", "Top-k", "Top-p", "Seed", "Characters", "Model"]
    name = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    for expected in order:
        reader.page.keyboard.press("Tab")
        assert reader.page.evaluate(name) == expected
        if expected == "Top-k":
            reader.page.keyboard.press("Home")
    assert reader.page.get_by_label("Top-k", exact=True).get_attribute("aria-valuetext") == "1"
    reader.page.keyboard.press("Tab")
    assert reader.page.evaluate(name) == "Generate"
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_function(DONE)


HOSTILE = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'


@pytest.mark.promise("text")
def test_unknown_characters_are_named_and_nothing_runs(reader):
    reader.page.get_by_label("Prompt").fill(HOSTILE + "é")
    reader.press("Generate")
    assert re.fullmatch(
        r"6 layers does not know “<”, .*: its alphabet has 65 characters\.", reader.status()
    )
    assert reader.page.locator("[data-at]").count() == 0
    reader.page.get_by_label("Prompt").fill("")
    reader.press("One character")
    assert reader.status() == "A prompt needs at least one character."
    reader.page.get_by_label("Prompt").fill("A")
    for seed in ("", "-1", "1000000", "0.5"):
        reader.page.get_by_label("Seed").fill(seed)
        reader.press("Generate")
        assert reader.status() == "The seed must be a whole number from 0 to 999999."
    reader.page.get_by_label("Characters", exact=True).fill("0")
    reader.page.get_by_label("Seed").fill("1")
    assert reader.status() == "Characters: a whole number from 1 to 5000.", (
        "the next problem, in place of a stale one"
    )
    reader.page.get_by_label("Characters", exact=True).fill("10")
    assert reader.status() == "", "mended without a press"
    reader.page.get_by_label("Temperature", exact=True).fill("0")
    assert (
        "temperature 0 takes the best alone" in reader.page.locator(".sampler-fates").inner_text()
    )
    assert reader.page.locator("main img, main script").count() == 0


ALPHABET = "".join(sorted(set(HOSTILE)))


def file_of(weights, about):
    return save(weights, metadata={"course": json.dumps(about)})


def a_model():
    """The weights of a small model that speaks HTML, and what its file says about it."""
    model = small_model(vocab_size=len(ALPHABET))
    weights = {name: weight for name, weight in model.state_dict().items() if name != "head.weight"}
    config = {name: getattr(model.config, name) for name in model.config.__dataclass_fields__}
    return weights, {"format": "1", "config": config, "alphabet": ALPHABET}


def bad_files():
    weights, about = a_model()
    good, config = file_of(weights, about), about["config"]
    size = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + size])

    def with_header(change, text=None):
        changed = json.loads(json.dumps(header))
        change(changed)
        text = json.dumps(changed).encode() if text is None else text
        return struct.pack("<Q", len(text)) + text + good[8 + size :]

    nan = weights | {"norm.weight": weights["norm.weight"] * float("nan")}
    lost = {name: weight for name, weight in weights.items() if name != "norm.weight"}
    return {
        "empty": b"",
        "four bytes": b"abcd",
        "a page": b"<!doctype html><img src=x onerror=alert(1)>" * 9,
        "cut in the header": good[: size // 2],
        "cut in the weights": good[:-1],
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + good[8:],
        "a header that is no JSON": with_header(lambda h: None, b"{" * size),
        "a header that is null": with_header(lambda h: None, b"null"),
        "offsets beyond the end": with_header(
            lambda h: h["norm.weight"].update(data_offsets=[10**9, 10**9 + 120])
        ),
        "offsets below zero": with_header(
            lambda h: h["norm.weight"].update(data_offsets=[-120, 0])
        ),
        "offsets of another size": with_header(
            lambda h: h["norm.weight"].update(data_offsets=[0, 4])
        ),
        "offsets that are words": with_header(lambda h: h["norm.weight"].update(data_offsets="ab")),
        "another kind of number": with_header(lambda h: h["norm.weight"].update(dtype="__proto__")),
        "a wrong shape": with_header(lambda h: h["norm.weight"].update(shape=[2, 15])),
        "no numbers": file_of(nan, about),
        "a weight is missing": file_of(lost, about),
        "another format": file_of(weights, about | {"format": "2"}),
        "not of this course": save(weights),
        "no config": file_of(weights, about | {"config": None}),
        "a giant": file_of(
            weights, about | {"config": config | {"context_length": 10**9, "position": "none"}}
        ),
        "half a layer": file_of(weights, about | {"config": config | {"n_layers": 0.5}}),
        "an unknown switch": file_of(
            weights, about | {"config": config | {"activation": "<b>sine</b>"}}
        ),
        "a short alphabet": file_of(weights, about | {"alphabet": "ab"}),
    }


def drop(reader, name, content):
    reader.page.get_by_label("Your own model").set_input_files(
        {"name": name, "mimeType": "", "buffer": content}
    )


@pytest.mark.promise("text")
def test_a_bad_file_gets_one_sentence(reader):
    reader.generate(Characters=20)
    for what, content in bad_files().items():
        drop(reader, f"<img src=x onerror=alert(1)> {what}.safetensors", content)
        told = "(what) => document.querySelector('[role=status]').textContent.includes(what)"
        reader.page.wait_for_function(told, arg=f"> {what}.safetensors: ")
        sentence = reader.status().split(".safetensors: ")[1]
        assert re.fullmatch(r"[A-Z][^.]*\.|This is not a safetensors file[^.]*\.", sentence), (
            what,
            sentence,
        )
        assert "could not be used here" not in sentence, what  # known, not stumbled over
    assert reader.page.locator("main img, main script, main b").count() == 0
    assert (
        len(reader.generate(Characters=25)[0]) == len("ROMEO:") + 25
    )  # the model of before is still there


@pytest.mark.promise("text")
def test_a_readers_own_model_plays(reader):
    drop(reader, "<i>mine</i>.safetensors", file_of(*a_model()))
    reader.page.wait_for_function(
        "document.querySelector('.sampler-name').textContent.includes('mine')"
    )
    reader.page.get_by_label("Prompt").fill(HOSTILE)
    (text,) = reader.generate(Characters=300, Temperature=2)
    assert text.startswith(HOSTILE)
    assert len(text) == len(HOSTILE) + 300
    assert reader.page.locator("main img, main script, main i").count() == 0
    assert int(reader.page.get_by_label("Top-k", exact=True).get_attribute("max")) == 65


def test_a_file_is_dropped_on_the_widget(reader, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(file_of(*a_model()))
    reader.page.locator(".sampler-panes").scroll_into_view_if_needed()
    box, hand = (
        reader.page.locator(".sampler-text").bounding_box(),
        reader.context.new_cdp_session(reader.page),
    )
    held = {"items": [], "files": [str(tmp_path / "mine.safetensors")], "dragOperationsMask": 1}
    for event in (
        "dragEnter",
        "dragOver",
        "drop",
    ):  # as a browser sends them for a file from the desktop
        place = {"x": box["x"] + 20, "y": box["y"] + 20}
        hand.send("Input.dispatchDragEvent", {"type": event, "data": held} | place)
    reader.page.wait_for_function(
        "document.querySelector('.sampler-name').textContent === 'mine.safetensors'"
    )
    reader.page.get_by_label("Prompt").fill(HOSTILE)
    (text,) = reader.generate(Characters=30)
    assert len(text) == len(HOSTILE) + 30
    assert reader.page.url.endswith("page.html"), "the browser did not open the file itself"


def test_a_link_keeps_prompt_and_settings(browser, site):
    first = Reader(browser, site, permissions=["clipboard-read", "clipboard-write"])
    first.page.get_by_label("Prompt").fill("To be & not\nto be?")
    text = first.generate(Temperature=1.1, Top_k=7, Top_p=0.9, Seed=5, Characters=60)
    first.press("Copy link")
    first.page.wait_for_function(
        "document.querySelector('[role=status]').textContent.includes('link')"
    )
    assert first.page.evaluate("navigator.clipboard.readText()") == first.page.url
    second = Reader(browser, site, first.page.url.removeprefix(f"{site}page.html"))
    second.page.locator("[role=status]", has_text="60 characters written").wait_for()
    assert second.texts() == text, "at once, without a press"
    assert second.generate() == text
    first.close()
    second.close()


@pytest.mark.promise("text")
def test_a_wild_link_does_no_harm(browser, site):
    wild = "temperature=1e99&top_k=-3&top_p=<b>&seed=x&length=1e9&model=length&together=maybe"
    reader = Reader(browser, site, f"#{wild}&prompt=<img src=x onerror=alert(1)>", empty=True)
    assert reader.status().startswith("6 layers does not know “<”")
    assert reader.page.get_by_label("Temperature", exact=True).input_value() == "2"
    assert reader.page.locator("main img, main b").count() == 0
    reader.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read_by_all(browser, site, width):
    viewport = {"width": width, "height": 844}
    reader = Reader(browser, site, viewport=viewport, reduced_motion="reduce")
    reader.page.get_by_role("checkbox").check()
    reader.page.wait_for_selector(".sampler-pane >> nth=2")
    reader.wait_until_ready()
    reader.generate(Characters=60, Top_k=5, Top_p=0.7)
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
    assert barriers(reader.page) == []
    assert pale_words(reader.page) == []
    reader.close()


def test_the_last_choice_counts_however_late_the_ones_before_answer(reader):
    held = []
    reader.page.route("**/2-layers*", lambda route: held.append(route))
    choice = reader.page.get_by_label("Model", exact=True)
    choice.select_option("2 layers")
    reader.page.wait_for_selector("[role=status]:text-is('Loading …')")
    choice.select_option("4 layers")
    reader.page.locator(".sampler-name", has_text="4 layers").wait_for()
    reader.wait_until_ready()
    with reader.page.expect_response("**/2-layers*"):
        held[0].continue_()
    (text,) = reader.generate(Characters=20)
    assert len(text) == len("ROMEO:") + 20
    assert reader.page.locator(".sampler-name").all_inner_texts() == ["4 layers"]
    choice.select_option("2 layers")
    reader.page.locator(".sampler-name", has_text="2 layers").wait_for()


def test_settings_that_turn_wrong_stop_the_writing(reader):
    reader.page.get_by_label("Characters", exact=True).fill("5000")
    reader.press("Generate")
    reader.page.wait_for_selector("[data-at='5']")
    reader.page.get_by_label("Seed").fill("")
    problem = "The seed must be a whole number from 0 to 999999."
    assert reader.status() == problem
    written = reader.texts()
    assert reader.page.get_by_role("button", name="Stop", exact=True).is_disabled()
    reader.press("Generate")
    assert (reader.status(), reader.texts()) == (problem, written)
    reader.page.get_by_label("Seed").fill("1")
    assert reader.status() == ""


def test_an_address_of_a_heading_writes_nothing(browser, site):
    reader = Reader(browser, site, "#what-the-sliders-do")
    assert reader.texts() == ["ROMEO:"]
    reader.close()


def test_a_text_is_copied_or_selected(browser, site):
    reader = Reader(browser, site, permissions=["clipboard-read", "clipboard-write"])
    (text,) = reader.generate(Characters=20)
    reader.press("Copy text of 6 layers")
    reader.page.locator("[role=status]", has_text="is copied").wait_for()
    assert reader.page.evaluate("navigator.clipboard.readText()") == text
    reader.page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )  # as in a frame, which may not write there
    reader.press("Copy text of 6 layers")
    reader.page.locator("[role=status]", has_text="is selected").wait_for()
    assert reader.page.evaluate("getSelection().toString()") == text
    reader.close()


def test_a_long_text_grows_in_its_box_and_can_be_seen_whole(reader):
    box = reader.page.locator(".sampler-text")
    low = box.bounding_box()["height"]
    reader.generate(Characters=2000)
    assert box.bounding_box()["height"] > low
    hidden = "(box) => box.scrollHeight - box.clientHeight"
    assert box.evaluate(hidden) > 0
    reader.press("Whole text of 6 layers")
    assert box.evaluate(hidden) == 0
    reader.press("Whole text of 6 layers")
    assert box.evaluate(hidden) > 0


def test_one_character_after_the_other_by_the_same_key(reader):
    reader.page.get_by_role("button", name="One character").focus()
    for i in range(4):
        reader.page.keyboard.press("Enter")
        reader.page.wait_for_function(f"document.querySelectorAll('[data-at]').length === {i + 1}")
        reader.page.wait_for_selector("button:text-is('One character'):focus")
    reader.page.get_by_role("button", name="Generate", exact=True).focus()
    reader.page.keyboard.press("Enter")
    reader.page.get_by_role("button", name="Stop", exact=True).focus()
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_selector("button:text-is('Generate'):focus")


def test_a_file_that_is_dragged_over_is_awaited_and_its_name_shown(reader, tmp_path):
    alphabet = "".join(sorted(set("ROMEO:abcdefg\n")))
    model = small_model(vocab_size=len(alphabet))
    checkpoints.save_model(tmp_path / "mine.safetensors", model, alphabet)
    box = reader.page.locator(".sampler-text").bounding_box()
    here, away = {"x": box["x"] + 20, "y": box["y"] + 20}, {"x": 2, "y": 2}
    held = {"items": [], "files": [str(tmp_path / "mine.safetensors")], "dragOperationsMask": 1}
    hand = reader.context.new_cdp_session(reader.page)
    hand.send("Input.dispatchDragEvent", {"type": "dragEnter", "data": held} | here)
    dragged = reader.page.locator(".sampler-dragged")
    for event, place, awaited in (
        ("dragOver", here, "attached"),
        ("dragOver", away, "detached"),
        ("dragOver", here, "attached"),
    ):
        for _ in range(2):  # the first one over an element only enters it
            hand.send("Input.dispatchDragEvent", {"type": event, "data": held} | place)
        dragged.wait_for(state=awaited)
    hand.send("Input.dispatchDragEvent", {"type": "drop", "data": held} | here)
    dragged.wait_for(state="detached")
    reader.page.locator("[role=status]", has_text="mine.safetensors is loaded.").wait_for()
    chosen = "(input) => input.files[0].name"
    assert reader.page.get_by_label("Your own model").evaluate(chosen) == "mine.safetensors"


# As Colab's page has it in its dark theme: its own words for its colours, and JupyterLab's black.
COLAB = """:root { --colab-primary-text-color: #d5d5d5; --colab-primary-surface-color: #383838;
  --jp-content-font-color1: rgba(0, 0, 0, 0.87); --jp-ui-font-color1: #d5d5d5 }
body { background: var(--colab-primary-surface-color); color: #d5d5d5 }"""
STYLES = {"light": "body { background: white }", "dark": "body { margin: 0 }", "colab": COLAB}
CONTRAST = """([selector, property]) => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (color) => rgb(color).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const style = getComputedStyle(document.querySelector(selector));
  const own = property === "color" ? style.backgroundColor : "rgba(0, 0, 0, 0)";
  const ground = own === "rgba(0, 0, 0, 0)" ? getComputedStyle(document.body).backgroundColor : own;
  const [light, dark] = [style[property], ground].map(luminance).sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}"""


@pytest.mark.parametrize("page", STYLES)
def test_words_and_bars_stand_out_from_the_page(browser, site, page):
    scheme = "dark" if page == "dark" else "light"
    reader = Reader(browser, site, color_scheme=scheme)
    reader.page.add_style_tag(content=STYLES[page])
    reader.generate(Characters=60, Top_k=3)
    reader.page.locator("[data-at='4']").hover()
    words = ["p", "textarea", "select", ".sampler-value", ".sampler-text", ".sampler-at"]
    for selector in [*words, ".sampler-main", "button:not(.sampler-main)"]:
        ratio = reader.page.evaluate(CONTRAST, [f".sampler {selector}", "color"])
        assert ratio >= 4.5, (selector, ratio)
    for selector, part in (
        (".sampler-after", "backgroundColor"),
        (".sampler-before", "borderColor"),
    ):
        ratio = reader.page.evaluate(CONTRAST, [f".sampler {selector}", part])
        assert ratio >= 3, (selector, ratio)
    reader.page.add_script_tag(path=AXE)
    found = reader.page.evaluate("axe.run('.sampler', { runOnly: ['color-contrast'] })")
    assert found["passes"]
    assert not found["violations"]
    reader.close()


def test_a_lessons_place_is_filled_with_its_settings(browser, site, site_folder):
    settings = {"prompt": 'KING "R":\nI', "temperature": 0.85, "top_p": 0.95, "together": True}
    lesson = re.sub('<div class="sampler-place".*?</div>', "PLACE", PAGE)
    lesson = lesson.replace("PLACE", widgets.place_on_a_page(settings))
    (site_folder / "lesson.html").write_text(lesson, encoding="utf-8")
    page = browser.new_context().new_page()
    page.goto(f"{site}lesson.html")
    page.wait_for_selector("button:text-is('Generate'):enabled")
    sliders = [page.get_by_role("slider", name=name) for name in ("Temperature", "top-p")]
    assert [slider.input_value() for slider in sliders] == ["0.85", "0.95"]
    assert page.get_by_label("Prompt").input_value() == settings["prompt"]
    assert page.get_by_label("side by side").is_checked()
    assert page.get_by_text(widgets.PLAYGROUND).count() == 0, "the sentence gives way"
    page.context.close()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_cover_writes_at_once_unless_a_reader_wants_it_still(browser, site, site_folder, motion):
    cover = PAGE.replace("data-prompt", 'data-write="yes" data-length="40" data-prompt')
    (site_folder / "cover.html").write_text(cover, encoding="utf-8")
    page = browser.new_context(reduced_motion=motion).new_page()
    page.goto(f"{site}cover.html")
    page.wait_for_selector("button:text-is('Generate'):enabled")
    page.wait_for_selector(".sampler-pane:not(.sampler-empty)")
    assert page.locator(".sampler > :first-child .sampler-text").count() == 1, "the text leads"
    status = page.locator("[role=status]")
    if motion == "no-preference":
        page.wait_for_function(DONE)
        assert "40 characters written" in status.inner_text()
    else:
        assert "ritt" not in status.inner_text()
        assert page.locator(".sampler-text").inner_text() == "ROMEO:"
    page.context.close()
