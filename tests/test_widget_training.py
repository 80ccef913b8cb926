"""Training in the page, in a real browser: number by number what the package does, and kept."""

import hashlib
import re
from dataclasses import asdict, replace

import pytest
import torch

from course_utils import corpus
from course_utils.lessons.data import CharTokenizer, WittenBell, get_batch, split
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import evaluate, next_character_loss
from course_utils.training import checkpoints, engine, trainer
from course_utils.training.recipes import named_recipe
from helpers import small_model
from pages import AXE, BARRIERS, PAGE, spoil, watched

LEARN = """async ([about, file, steps, count]) => {
  const { Learner } = await import("/playground/learner.mjs");
  const ids = new Int32Array(await (await fetch(file)).arrayBuffer());
  const learner = new Learner(about.model, about.train, ids);
  learner.initialise();
  const losses = [];
  let gradients;
  for (let step = 0; step < steps; step++) {
    losses.push(learner.read());
    gradients ??= learner.network.gradients.map(({ values }) => [...values]);
    learner.clip();
    learner.move();
  }
  const held = learner.hold(ids, 0, count - 1) / (count - 1);
  return { losses, gradients, held };
}"""
HELD = 1000  # characters: not a whole number of windows


def recipe(name, text):
    """-> GPTConfig, TrainConfig, and the text's tokens"""
    settings, train = named_recipe(name)
    tokenizer = CharTokenizer(text)
    ids = torch.tensor(tokenizer.encode(text))
    return GPTConfig(vocab_size=tokenizer.vocab_size, **settings), train, ids


@pytest.fixture(scope="module")
def text():
    return corpus.practice_bytes().decode()


@pytest.fixture(scope="module")
def few(text):
    """The beginning of it, whose n-grams a page counts at once."""
    return text[:20_000]


@pytest.fixture(scope="module")
def folder(site_folder, text, few):
    """What the page asks for, with a page that trains by the smallest recipe."""
    tokenizer = CharTokenizer(text)
    ids = torch.tensor(tokenizer.encode(text), dtype=torch.int32)
    (site_folder / "ids.bin").write_bytes(ids.numpy().tobytes())
    (site_folder / "playground/few.txt").write_text(few, encoding="utf-8")
    page = re.sub('<div class="sampler-place".*?</div>', '<div class="training-place"></div>', PAGE)
    (site_folder / "training.html").write_text(page, encoding="utf-8")
    return site_folder


def differences(page, name, text, steps):
    """How far the page is from the package: worst gradient, worst loss of a step, loss held out."""
    model_config, train, ids = recipe(name, text)
    train = replace(train, seed=3)
    about = {"model": asdict(model_config), "train": asdict(train)}
    found = page.evaluate(LEARN, [about, "/ids.bin", steps, HELD])

    model = trainer.new_model(model_config, train)
    generator = torch.Generator().manual_seed(train.seed)
    batch = get_batch(ids, train.batch_size, model_config.context_length, generator)
    next_character_loss(model, *batch).backward()
    gradients = []
    for parameter, numbers in zip(model.parameters(), found["gradients"], strict=True):
        ours = torch.tensor(numbers)[: parameter.numel()].view_as(parameter)
        gradients.append(((ours - parameter.grad).norm() / parameter.grad.norm()).item())
    model.zero_grad()

    steady = engine.make_engine(model, ids, train)
    for _ in range(steps):
        steady.step()
    losses = (torch.tensor(found["losses"]) - steady.losses[:steps]).abs()
    return max(gradients), losses.max().item(), abs(found["held"] - evaluate(model, ids[:HELD]))


@pytest.fixture(scope="module")
def window(browser, site, folder):
    page = watched(browser.new_context().new_page(), site)
    page.goto(f"{site}blank.html")
    yield page
    page.context.close()


def test_twenty_steps_are_pytorchs(window, text):
    """The laptop's recipe, which is what the page trains."""
    gradient, loss, held = differences(window, "laptop", text, steps=20)
    print(f"gradients {gradient:.1e} relative, losses {loss:.1e}, held out {held:.1e}")
    assert gradient < 1e-4
    assert loss < 1e-3
    assert held < 1e-3


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        ("network", " - stretch * normed", ""),
        ("network", "* (all[d + i] - mean)", "* all[d + i]"),
        ("kernels", "1 / Math.sqrt(2 * Math.PI)", "1 / Math.sqrt(Math.PI)"),
        ("optimizers", "+ momentum * (velocity[i]", "+ 0 * (velocity[i]"),
        ("optimizers", "Math.max(1, R / C)", "1"),
        ("twister", "1 - sixteen[i]", "sixteen[i]"),
    ],
)
def test_a_wrong_step_is_noticed(window, folder, text, module, right, wrong):
    page = window.context.new_page()
    spoil(page, folder / f"playground/{module}.mjs", right, wrong)
    page.goto(window.url)
    gradient, loss, held = differences(page, "smoke", text, steps=4)
    print(f"gradients {gradient:.1e} relative, losses {loss:.1e}, held out {held:.1e}")
    assert gradient > 1e-4 or loss > 1e-3
    page.close()


def test_the_lines_are_lesson_1s(window, text):
    ask = """async ([file, count, V]) => {
      const { countedLines } = await import("/playground/ngrams.mjs");
      const ids = new Int32Array(await (await fetch(file)).arrayBuffer()).subarray(0, count);
      return countedLines(ids.subarray(0, 0.9 * count), ids.subarray(0.9 * count), V);
    }"""
    _, _, ids = recipe("smoke", text)
    V = int(ids.max()) + 1
    lines = window.evaluate(ask, ["/ids.bin", 20_000, V])
    learned, held = split(ids[:20_000])
    right = [WittenBell(learned, order, V).loss(held) for order in range(1, 6)]
    assert [line["loss"] for line in lines[1:]] == pytest.approx(right, abs=1e-9)


# --- as a reader meets it -------------------------------------------------------------------------
class Visit:
    """The page with "Train it here", by the smallest recipe, and what a reader does there."""

    READY = ".training .sampler-main[aria-disabled=false]"

    def __init__(self, context, site, steps=20, name="training", ready=READY, **places):
        self.page = watched(context.new_page(), site)
        settings, train = named_recipe("smoke")
        train = replace(train, steps=steps)
        places = {"sha256": "", "mirrors": [], "practice": "few.txt"} | places
        about = {"model": asdict(GPTConfig(**settings)), "train": asdict(train), "corpus": places}
        self.page.route("**/training.json", lambda route: route.fulfill(json=about))
        self.page.goto(f"{site}{name}.html")
        self.page.wait_for_selector(ready)

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def wait(self, words):
        self.page.locator(".training [role=status]", has_text=words).wait_for()
        return self.page.locator(".training [role=status]").inner_text()

    def close(self):
        assert not self.page.problems
        self.page.close()


@pytest.fixture
def context(browser, folder):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context
    context.close()


def test_a_reader_trains_and_takes_the_weights(context, site, text, tmp_path):
    visit = Visit(context, site, practice="practice.txt")
    visit.press("Train")
    said = visit.wait("Trained")
    assert "practice text" in visit.page.locator(".training-note").inner_text()
    with visit.page.expect_download() as download:
        visit.press("Download the weights")
    download.value.save_as(tmp_path / "trained.safetensors")
    model, tokenizer = checkpoints.load_model(tmp_path / "trained.safetensors")
    visit.close()

    _, train, ids = recipe("smoke", text)
    fresh = trainer.new_model(model.config, train)
    result = trainer.train(fresh, *split(ids), train)
    assert tokenizer.alphabet == CharTokenizer(text).alphabet
    assert evaluate(model, split(ids)[1]) == pytest.approx(result.validation_loss, abs=1e-3)
    (loss,) = re.findall(r"validation loss (\d\.\d{3})", said)
    assert float(loss) == pytest.approx(result.validation_loss, abs=2e-3)


WEIGHTS = """async () => {
  const { recall } = await import("/playground/kept.mjs");
  const { runs } = await recall();
  return runs.map(({ weights, told }) => [[...weights], told.losses, told.held]);
}"""


def test_weights_of_the_package_go_on_as_there(context, site, folder, few, tmp_path):
    """With fresh optimizers; what the page can't train is refused in a sentence."""
    model_config, train, ids = recipe("smoke", few)
    alphabet = "".join(CharTokenizer(few).alphabet)
    model = trainer.new_model(replace(model_config, n_layers=3), replace(train, seed=5))
    checkpoints.save_model(tmp_path / "mine.safetensors", model, alphabet)
    other = small_model(vocab_size=len(alphabet), context_length=32)
    checkpoints.save_model(tmp_path / "other.safetensors", other, alphabet)

    visit = Visit(context, site)
    own = visit.page.get_by_label("A text of yours, or weights")
    own.set_input_files(tmp_path / "other.safetensors")
    visit.wait("A page can train only models of the laptop recipe's kind")
    own.set_input_files(tmp_path / "mine.safetensors")
    visit.wait("Trained")
    said = visit.page.locator(".training-note").inner_text()
    assert "Going on from mine.safetensors, with a fresh optimiser state." in said
    ((_, losses, _),) = visit.page.evaluate(WEIGHTS)
    visit.close()

    steady = engine.make_engine(model, split(ids)[0], train)
    for _ in range(train.steps):
        steady.step()
    assert losses == pytest.approx(steady.losses[: train.steps].tolist(), abs=1e-3)


REACHED = """async (step) => {
  const numbers = document.querySelector(".training-numbers");
  const main = document.querySelector(".training .sampler-main");
  const there = () => Number(numbers.textContent.split(" ")[1]) >= step;
  while (!there() || main.textContent !== "Pause") await new Promise(requestAnimationFrame);
  main.click();
}"""


def test_a_race_that_was_closed_goes_on_as_if_each_model_were_alone(browser, site, folder):
    """Closed once it had paused, and once in the middle of its steps: the same bits."""
    steps, ends = 60, []
    for race in (False, True):
        context = browser.new_context()
        visit = Visit(context, site, steps=steps)
        visit.page.get_by_label("2, 4 and 6 layers race").set_checked(race)
        visit.press("Train")
        if race:
            visit.page.evaluate(REACHED, 30)
            paused = visit.wait(f"of {steps} steps; kept in this browser")
            visit.close()
            visit = Visit(context, site, steps=steps)
            assert visit.wait("kept") == paused
            visit.press("Go on")
            visit.page.get_by_role("button", name="Pause", exact=True).wait_for()
            visit.page.close()
            visit = Visit(context, site, steps=steps)
            visit.press("Go on")
        visit.wait("Trained")
        ends.append(visit.page.evaluate(WEIGHTS))
        visit.close()
        context.close()
    (alone,), (two, four, six) = ends
    assert len(alone[1]) == steps
    assert alone == four
    assert len(two[0]) < len(four[0]) < len(six[0])
    assert [len(losses) for _, losses, _ in (two, six)] == [steps, steps]


HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_tab_rests_and_says_so(context, site):
    visit = Visit(context, site, steps=5000)
    learns = visit.page.get_by_role("button", name="Pause", exact=True)
    visit.press("Train")
    learns.wait_for()
    visit.page.evaluate(HIDE, True)
    visit.wait("Paused after")
    assert visit.page.title() == "Paused · A page"
    visit.page.evaluate(HIDE, False)
    learns.wait_for()
    assert visit.page.title() == "A page"
    visit.close()


def test_a_button_trains_there_and_then(context, site, folder):
    """Nothing is fetched before it is pressed; what was trained on another page is not lost."""
    link = '<div class="training-place"><a href="training.html">Train here</a></div>'
    page = re.sub('<div class="sampler-place".*?</div>', link, PAGE)
    (folder / "waits.html").write_text(page, encoding="utf-8")
    for fresh in (True, False):
        visit, asked = Visit(context, site, name="waits", ready=".training-place > button"), []
        visit.page.on("request", lambda sent, asked=asked: asked.append(sent.url))
        fetched = visit.page.evaluate("JSON.stringify(performance.getEntriesByType('resource'))")
        assert "mount.mjs" in fetched
        assert "/playground/" not in fetched
        visit.press("Train here")
        visit.wait("Trained")
        assert visit.page.evaluate("document.activeElement.textContent") == "Train anew"
        assert any(address.endswith("few.txt") for address in asked) == fresh
        visit.close()


def test_a_text_comes_by_its_hash_or_from_the_reader(context, site, folder):
    """And what is not a text to learn from is refused in a sentence, with nothing lost."""
    markup = "<img src=x onerror=alert(1)>\r\n" * 100
    (folder / "mirror.txt").write_bytes(markup.encode())
    sha256 = hashlib.sha256(markup.encode()).hexdigest()
    mirrors = [f"{site}mirror.txt"]

    visit = Visit(context, site, mirrors=mirrors, sha256="another")
    visit.press("Train")
    visit.wait("Trained")
    assert "could not be fetched" in visit.page.locator(".training-note").inner_text()
    visit.close()

    visit = Visit(context, site, mirrors=mirrors, sha256=sha256)
    visit.wait("Trained")  # as it was left
    visit.press("Train anew")
    visit.page.locator(".training-note", has_text="from 127.0.0.1").wait_for()
    visit.wait("Trained")
    note = visit.page.locator(".training-note").inner_text()
    learned = "2,610 characters to learn from, 290 held out, 21 different"
    assert learned in note, "a newline of Windows is one character"
    assert visit.page.locator(".training img").count() == 0

    files = {"short.txt": b"too short", "latin.txt": "é".encode("latin-1") * 200}
    for name, data in files.items():
        given = {"name": name, "mimeType": "text/plain", "buffer": data}
        visit.page.get_by_label("A text of yours").set_input_files(given)
        visit.wait("A text to learn from must have" if name == "short.txt" else "is not UTF-8 text")
        assert visit.page.get_by_role("button", name="Train anew").is_visible()
    visit.close()


@pytest.mark.parametrize(
    "look", [{}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}}], ids=str
)
def test_it_can_be_used_by_everybody(browser, site, folder, look):
    context = browser.new_context(**look)
    visit = Visit(context, site)
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    visit.wait("Trained")
    assert visit.page.evaluate("document.activeElement.textContent") == "Train anew"
    curve = visit.page.get_by_role("img").get_attribute("aria-label")
    assert re.match(r"Validation loss: \d\.\d{3} after 3 steps, .* Lines it lies below: ", curve)
    visit.page.add_script_tag(path=AXE)
    assert visit.page.evaluate(BARRIERS, {}) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.close()
    context.close()


SPOIL = """async () => {
  const { keep, recall } = await import("/playground/kept.mjs");
  const kept = await recall();
  kept.runs[0].weights[7] = NaN;
  await keep(kept);
}"""


def test_a_training_that_was_damaged_is_not_taken_up(context, site):
    visit = Visit(context, site)
    visit.press("Train")
    visit.wait("Trained")
    visit.page.evaluate(SPOIL)
    visit.close()
    visit = Visit(context, site)
    assert visit.wait("begin anew") == "What was kept of a training can't be used: begin anew."
    visit.press("Train")
    visit.wait("Trained")
    visit.close()
