"""The numbers of the sampling widget: a browser's JavaScript against PyTorch, Hugging Face."""

import copy
import json
import math
import shutil

import pytest
import torch
from playwright.sync_api import Error
from torch.nn import functional as F
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from course_utils import corpus, files, widgets
from course_utils.lessons.data import CharTokenizer, get_batch, split
from course_utils.lessons.model import positions_at
from course_utils.lessons.sampling import filter_logits, window_start
from course_utils.training import checkpoints, evaluation, runs
from helpers import by_path, mutant, small_model
from pages import spoil, watched

ROUNDING = by_path("tools/rounding.py")
SHIPPED = [r for r in runs.load_all(files.PUBLISHED) if r.checkpoint.is_file()]

LOGITS = """async ([file, texts]) => {
  const { GPT } = await import("/playground/gpt.mjs");
  const { readSafetensors } = await import("/playground/safetensors.mjs");
  const decoder = new GPT(readSafetensors(await (await fetch(file)).arrayBuffer()));
  return texts.map((ids) => [...decoder.logits(ids)]);
}"""
LOSS = """async ([file, windows]) => {
  const { GPT } = await import("/playground/gpt.mjs");
  const { readSafetensors } = await import("/playground/safetensors.mjs");
  const { surprise } = await import("/playground/sampler.mjs");
  const model = readSafetensors(await (await fetch(file)).arrayBuffer());
  const V = model.config.vocab_size;
  let sum = 0, count = 0;
  for (const window of windows) {
    const logits = new GPT(model).logits(window.slice(0, -1));
    window.slice(1).forEach((id, t) => {
      sum += surprise(logits.subarray(t * V, (t + 1) * V), id);
      count++;
    });
  }
  return [sum / count, count];
}"""
FILTERED = """async (cases) => {
  const { filter } = await import("/playground/sampler.mjs");
  return cases.map(([logits, settings]) => [...filter(logits, settings).p]);
}"""


@pytest.fixture
def folder(site_folder):
    return site_folder


@pytest.fixture(scope="module")
def window(browser, site):
    """An empty page beside the modules."""
    page = watched(browser.new_context().new_page(), site)
    page.goto(f"{site}blank.html")
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def text():
    return corpus.load()


@pytest.fixture(scope="module")
def held_out(text):
    """Ids of text that no model was trained on."""
    return split(CharTokenizer(text.text).encode(text.text))[1]


def test_the_published_models_are_found_by_their_records(folder):
    listed = json.loads((folder / "playground/models.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in listed] == ["2 layers", "4 layers", "6 layers"]
    sizes = [(folder / "playground" / model["file"]).stat().st_size for model in listed]
    assert max(sizes) <= 6e6
    assert sum(sizes) <= 12e6


@pytest.mark.parametrize("record", SHIPPED, ids=lambda record: record.name)
def test_published_models_agree_with_pytorch(window, folder, held_out, record):
    model, _ = checkpoints.load_model(record.checkpoint)
    T, file = min(model.config.context_length, 256), f"/{record.checkpoint.name}"
    shutil.copy(record.checkpoint, folder)
    texts = [held_out[at : at + T] for at in range(0, 256, T)]
    ours = torch.tensor(window.evaluate(LOGITS, [file, texts])).reshape(256, -1)
    theirs = logits(model, texts)
    worst, same = ROUNDING.difference(ours, theirs)
    print(f"{record.name}: worst logit error {worst:.1e}, argmax equal in {same:.1%}")
    assert worst < 1e-3
    assert same >= 0.99
    if record != SHIPPED[-1]:
        return  # one is enough for a long text
    windows = [held_out[at : at + T + 1] for at in range(0, 10_000, T)]
    loss, count = window.evaluate(LOSS, [file, windows])
    right = F.cross_entropy(
        logits(model, [w[:-1] for w in windows]), torch.tensor([w[1:] for w in windows]).flatten()
    )
    print(f"{record.name}: loss over {count} characters {loss:.6f}, PyTorch {right:.6f}")
    assert count >= 10_000
    assert abs(loss - right) < 1e-4


@torch.no_grad()
def logits(model, texts):
    return model(torch.tensor(texts)).flatten(0, 1)


@pytest.mark.slow
def test_a_trained_model_in_whole_numbers_stays_near(text, held_out, tmp_path):
    """The laptop's deepest, published in half precision; the method must beat plain rounding."""
    (record,) = (r for r in SHIPPED if r.recipe == "laptop" and r.model["n_layers"] == 6)
    model, tokenizer = checkpoints.load_model(record.checkpoint)
    train = split(torch.tensor(tokenizer.encode(text.text)))[0]
    seen = get_batch(train, 64, model.config.context_length, torch.Generator().manual_seed(0))[0]
    plain = {}
    for name, weight in model.blocks.named_parameters(prefix="blocks"):
        if weight.ndim == 2:
            plain |= ROUNDING.in_whole_numbers(
                name, weight.detach(), torch.eye(weight.shape[1], dtype=torch.double)
            )
    T = model.config.context_length
    windows = [held_out[at : at + T + 1] for at in range(0, 10_000, T)]
    texts, targets = [w[:-1] for w in windows], torch.tensor([w[1:] for w in windows]).flatten()
    exact, worst, same, loss = logits(model, texts), {}, {}, {}
    for kind, whole in (("plain", plain), ("rounded", ROUNDING.rounded(model, seen))):
        checkpoints.save_model(
            tmp_path / "m.safetensors", model, tokenizer.alphabet, torch.float16, whole
        )
        found = logits(checkpoints.load_model(tmp_path / "m.safetensors")[0], texts)
        worst[kind], same[kind] = ROUNDING.difference(found[:256], exact[:256])
        loss[kind] = (F.cross_entropy(found, targets) - F.cross_entropy(exact, targets)).item()
        print(f"{kind}: worst logit error {worst[kind]:.3f}, argmax equal in {same[kind]:.1%}")
        print(f"{kind}: loss {loss[kind]:+.5f}")
    assert worst["rounded"] < 0.08  # of 0.1 that a reader's model may have
    assert worst["rounded"] < 0.7 * worst["plain"]
    assert same["rounded"] >= 0.99
    assert abs(loss["rounded"]) < 1e-3


SWITCHES = [
    *({"position": position} for position in ("learned", "sinusoidal", "rope", "none")),
    *({"activation": activation} for activation in ("gelu", "relu", "relu2", "swiglu")),
    {"norm": "rmsnorm"},
    {"norm": "none"},
    {"norm_placement": "post"},
    {"norm_placement": "post", "norm": "rmsnorm", "residual": False},
    {"tie_embeddings": False},
    {"qk_norm": True, "position": "rope"},
    {"position": "sinusoidal", "d_model": 33, "n_heads": 3},
]


def save(path, model, dtype=torch.float32):
    checkpoints.save_model(
        path, model, "".join(map(chr, range(97, 97 + model.config.vocab_size))), dtype
    )


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_agrees_with_pytorch(window, folder, switches):
    model, ids = small_model(**switches), [i * i % 11 for i in range(13)]
    name = f"small-{SWITCHES.index(switches)}.safetensors"  # one each: the browser keeps them
    save(folder / name, model)
    # The whole at once, then two texts that share a beginning with the one before: the cache must
    # not show.
    texts = [ids, [*ids[:7], 3, 1], ids[:4], ids]
    found = window.evaluate(LOGITS, [f"/{name}", texts])
    with torch.no_grad():
        for text, logits in zip(texts, found, strict=True):
            right = model(torch.tensor([text]))[0].flatten()[-len(logits) :]
            assert torch.allclose(torch.tensor(logits), right, atol=2e-4, rtol=1e-4)
    assert [len(logits) // 11 for logits in found] == [13, 2, 1, 9]


def test_without_vectors_it_is_slower_and_the_same(window, folder):
    """In a browser that does not know WebAssembly's vectors; the page asks before it uses them."""
    model, ids = small_model(), [i * i % 11 for i in range(13)]
    save(folder / "plain.safetensors", model)
    page = window.context.new_page()
    page.add_init_script(
        "window.asked = 0; WebAssembly.validate = () => { asked++; return false; }"
    )
    page.goto(window.url)
    (found,) = page.evaluate(LOGITS, ["/plain.safetensors", [ids]])
    assert page.evaluate("asked") == 1
    assert torch.allclose(torch.tensor(found), logits(model, [ids]).flatten(), atol=2e-4, rtol=1e-4)
    page.close()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(window, folder, dtype):
    model = small_model()
    with torch.no_grad():
        model.embedding.weight[0, :3] = torch.tensor(
            [0.0, 3e-7, -6e-8]
        )  # the smallest of float16 among them
    name = f"{dtype}.safetensors"
    save(folder / name, model, dtype)
    read, _ = checkpoints.load_model(folder / name)
    (logits,) = window.evaluate(LOGITS, [f"/{name}", [[0, 1, 2]]])
    with torch.no_grad():
        assert torch.allclose(
            torch.tensor(logits), read(torch.tensor([[0, 1, 2]]))[0].flatten(), atol=2e-4, rtol=1e-4
        )


def cases(count):
    """Rows of logits, half of them full of ties, each with settings."""
    chance = torch.Generator().manual_seed(1)

    def pick(*choices):
        return choices[torch.randint(len(choices), (), generator=chance)]

    for i in range(count):
        logits = 3 * torch.randn(65, generator=chance)
        logits = logits.round() if i % 2 else logits
        topK, topP = (
            pick(None, 1, 2, 3, 5, 10, 64, 65, 100),
            pick(None, 1e-17, 0.01, 0.3, 0.5, 0.8, 0.9, 0.95, 1.0),
        )
        settings = {"temperature": pick(0.05, 0.5, 0.8, 1.0, 1.7, 2.0), "topK": topK, "topP": topP}
        yield logits.double(), settings


def hugging_face(logits, settings):
    scores = logits[None]
    scores = TemperatureLogitsWarper(settings["temperature"])(None, scores)
    if settings["topK"]:
        scores = TopKLogitsWarper(settings["topK"])(None, scores)
    if settings["topP"] and settings["topP"] < 1:
        scores = TopPLogitsWarper(settings["topP"])(None, scores)
    return scores[0].softmax(-1)


def by_logit(p, logits):
    """Probabilities in the order of the logits. Of equals that top-p parts, the sort of torch keeps
    any, so these are in the order of their probabilities."""
    return p[sorted(range(len(p)), key=lambda i: (logits[i].item(), p[i].item()))]


def disagreements(window, rows):
    """How many rows differ from Hugging Face's, in what is kept or in a probability."""
    ours = window.evaluate(FILTERED, [[logits.tolist(), settings] for logits, settings in rows])
    wrong = 0
    for found, (logits, settings) in zip(ours, rows, strict=True):
        found = by_logit(torch.tensor(found, dtype=torch.float64), logits)
        right = by_logit(hugging_face(logits, settings), logits)
        wrong += not (
            torch.equal(found > 0, right > 0) and torch.allclose(found, right, atol=1e-6, rtol=0)
        )
    return wrong


def test_the_rule_is_hugging_faces(window):
    assert disagreements(window, list(cases(1200))) == 0
    tied = [0.0, 0.0, 1.0, 0.0, 0.0]  # four equals, of which top-p needs two: the later
    kept = window.evaluate(FILTERED, [[tied, {"temperature": 1, "topK": None, "topP": 0.6}]])[0]
    assert [p > 0 for p in kept] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("if (logits[i] < kth)", "if (logits[i] <= kth)"),
        ("[V - topK]", "[V - topK - 1]"),
        ("if (mass > 1 - topP) break", "if (mass >= topP) break"),
        ("rising.slice(0, -1)", "rising"),
        ("const before = softmax(scaled)", "const before = softmax(logits)"),
    ],
)
def test_a_wrong_rule_is_noticed(window, folder, right, wrong):
    page = window.context.new_page()
    spoil(page, folder / "playground/sampler.mjs", right, wrong)
    page.goto(window.url)
    assert disagreements(page, list(cases(300)))
    page.close()


def test_the_rule_is_lesson_6s_where_hugging_face_has_none(window):
    tied = [1.0, 3.0, 3.0, 2.0]
    (greedy,) = window.evaluate(FILTERED, [[tied, {"temperature": 0, "topK": None, "topP": None}]])
    assert (
        greedy
        == filter_logits(torch.tensor(tied), temperature=0).softmax(-1).tolist()
        == [0, 1, 0, 0]
    )
    tiny = {"temperature": 5e-324, "topK": 3, "topP": 0.5}  # dividing by it would overflow
    ((p, q, *_),) = window.evaluate(FILTERED, [[[0.5, 1.0, -1.0], tiny]])
    assert (p, q) == (0, 1)
    ask = """async (pairs) => {
      const { windowStart } = await import("/playground/sampler.mjs");
      return pairs.map((pair) => windowStart(...pair));
    }"""
    pairs = [(length, context) for context in (1, 2, 7, 8) for length in range(1, 40)]
    assert window.evaluate(ask, pairs) == [window_start(*pair) for pair in pairs]


def test_draws_follow_the_probabilities(window):
    ask = """async ([p, seeds, count]) => {
      const { draw } = await import("/playground/sampler.mjs"), tally = p.map(() => 0);
      for (let seed = 0; seed < seeds; seed++) {
        for (let i = 0; i < count; i++) tally[draw(p, seed, i)]++;
      }
      return tally;
    }"""
    p, seeds, count = [0.5, 0.3, 0.0, 0.19, 0.01], 50, 1000
    tally = window.evaluate(ask, [p, seeds, count])
    n = seeds * count
    assert tally[2] == 0
    for found, share in zip(tally, p, strict=True):
        assert abs(found - n * share) <= 4 * math.sqrt(n * share * (1 - share))


# --- what goes on inside --------------------------------------------------------------------------
LOOK = """async ([file, asked]) => {
  const { GPT } = await import("/playground/gpt.mjs");
  const { Reading } = await import("/playground/reading.mjs");
  const { readSafetensors } = await import("/playground/safetensors.mjs");
  const model = new GPT(readSafetensors(await (await fetch(file)).arrayBuffer()));
  const { n_layers: layers, n_heads: heads } = model.config;
  return asked.map(([ids, off]) => {
    model.switchOff(off);
    const next = [...model.next(ids)]; // the text before may be in the cache
    const { lens, attention } = model.look(ids);
    const reading = new Reading(ids, { layers, heads, numbers: [lens, attention] });
    const places = ids.slice(1).map((_, i) => i + 1);
    const each = (count, value) => Array.from({ length: count }, (_, i) => value(i));
    const place = ids.length - 1;
    return {
      surprises: places.map((t) => reading.surprise(t)),
      loss: reading.loss,
      guesses: each(layers + 1, (i) => reading.guesses(i, place, 5)),
      lens: each(layers + 1, (i) => places.map((t) => [...reading.logits(i, t)])),
      maps: each(layers, (i) => each(heads, (h) => places.map((t) =>
        [...reading.attention(i, h, t)]))),
      next,
    };
  });
}"""


@pytest.fixture(scope="module")
def looking(window, site_folder):
    """The window, with what the page keeps within inside.mjs beside the other modules."""
    name = "reading.mjs"
    (site_folder / "playground" / name).write_text(widgets.here(name), encoding="utf-8")
    return window


def without(model, off):
    """A model without some of its parts: no switch, the weights themselves are gone."""
    changed, D = copy.deepcopy(model), model.config.d_model // model.config.n_heads
    for name in off:
        layer, *head = (int(part[1:]) - 1 for part in name.split(":"))
        if head:
            channels = slice(head[0] * D, (head[0] + 1) * D)
            changed.blocks[layer].attention.out.weight.data[:, channels] = 0
        else:
            changed.blocks[layer] = Passing()
    return changed


class Passing(torch.nn.Module):
    def forward(self, x, angles=None, cache=None):
        return x


@torch.no_grad()
def lens_of(model, ids):
    """Lesson 3's: last norm and head on the stream, before the first block and after each."""
    added, angles = positions_at(model, 0, len(ids))
    stages = [model.embedding(torch.tensor([ids])) * model.scale + added]
    for block in model.blocks:
        stages.append(block(stages[-1], angles))
    return torch.stack([model.head(model.norm(x))[0] for x in stages])


def errors(found, model, ids, off):
    """The largest error of each kind of number, against PyTorch's."""
    changed = without(model, off)
    lens, targets = lens_of(changed, ids), torch.tensor(ids[1:])
    surprises = F.cross_entropy(lens[-1, :-1], targets, reduction="none")
    top = lens[:, -2].softmax(-1).topk(5)
    shown = [[guess["id"] for guess in row] for row in found["guesses"]]
    chances = torch.tensor([[guess["p"] for guess in row] for row in found["guesses"]])
    worst = {
        "surprises": (torch.tensor(found["surprises"]) - surprises).abs().max(),
        "loss": abs(found["loss"] - surprises.mean()),
        "lens": (torch.tensor(found["lens"]) - lens[:, :-1]).abs().max(),
        "guesses": (chances - top.values).abs().max(),
        "next": (torch.tensor(found["next"]) - lens[-1, -1]).abs().max(),
        "wrong guesses": torch.tensor(shown != top.indices.tolist()).float(),
        "attention": map_error(found["maps"], changed, ids),
    }
    return {name: float(error) for name, error in worst.items()}


def map_error(maps, model, ids):
    """The largest error of a head's weight; of a layer that is gone nothing is expected."""
    there = [i for i, block in enumerate(model.blocks) if not isinstance(block, Passing)]
    right = copy.deepcopy(model)
    right.blocks = torch.nn.ModuleList(model.blocks[i] for i in there)
    right = list(evaluation.attention_maps(right, torch.tensor([ids])).values())
    flat = [head for i in there for head in maps[i]]
    gone = [maps[i] for i in range(len(maps)) if i not in there]
    if any(weight for layer in gone for head in layer for row in head for weight in row):
        return math.inf
    return max(
        (torch.tensor(row) - weights[t, : t + 1]).abs().max()
        for head, weights in zip(flat, right, strict=True)
        for t, row in enumerate(head)
    )


OFF = [[], ["L1:H1"], ["L2:H3", "L3:H5"], ["L2"], ["L1:H2", "L3"], []]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_what_goes_on_inside_is_pytorchs_with_parts_off_too(looking, folder, switches):
    sizes = {"n_heads": 5} | switches
    model, ids = small_model(**switches), [i * i % 11 for i in range(13)]
    name = f"inside-{SWITCHES.index(switches)}.safetensors"
    save(folder / name, model)
    off = [[part for part in parts if int(part[-1]) <= sizes["n_heads"]] for parts in OFF]
    found = looking.evaluate(LOOK, [f"/{name}", [[ids, parts] for parts in off]])
    for numbers, parts in zip(found, off, strict=True):
        worst = errors(numbers, model, ids, parts)
        assert max(worst.values()) < 1e-4, (parts, worst)
    assert len({numbers["loss"] for numbers in found}) == len({str(parts) for parts in off})


@pytest.mark.parametrize("record", SHIPPED, ids=lambda record: record.name)
def test_what_goes_on_inside_a_published_model_is_pytorchs(looking, folder, held_out, record):
    model, _ = checkpoints.load_model(record.checkpoint)
    file, T = f"/{record.checkpoint.name}", min(model.config.context_length, 256)
    shutil.copy(record.checkpoint, folder)
    asked = [[held_out[:T], []], [held_out[50:130], ["L1:H2", "L2"]]]
    for numbers, (ids, off) in zip(looking.evaluate(LOOK, [file, asked]), asked, strict=True):
        worst = errors(numbers, model.eval(), ids, off)
        print(f"{record.name}, off {off}:", {k: f"{v:.1e}" for k, v in worst.items()})
        assert worst["lens"] < 1e-3, "logits, of which softmax sees the differences"
        assert max(error for name, error in worst.items() if name not in ("lens", "next")) < 1e-4


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("gpt.mjs", "this.silent[h]) continue", "this.silent[h]) break"),
        ("linear.mjs", "(i || height) - ROWS", "i"),
        ("gpt.mjs", "room(x.length).fill(0)", "room(x.length)"),
        ("gpt.mjs", "if (this.off) return;", "if (this.off) x.fill(0);"),
        ("gpt.mjs", "this.read = []; // with other parts they meant something else", ""),
        ("gpt.mjs", "this.read = []; // none is skipped", ""),
        ("gpt.mjs", "this.head.forward(this.norm(x))", "this.head.forward(x)"),
        ("gpt.mjs", "const i = stage - 1;", "const i = (stage + L - 2) % L;"),
        ("reading.mjs", "* this.T + place - 1)", "* this.T + place)"),
        ("reading.mjs", "+ below(place - 1)", "+ below(place - 2)"),
        ("reading.mjs", "sum / (this.T - 1)", "sum / this.T"),
    ],
)
def test_a_wrong_look_is_noticed(looking, folder, file, right, wrong):
    model, ids = small_model(), [i * i % 11 for i in range(13)]
    save(folder / "mutant.safetensors", model)
    page = looking.context.new_page()
    spoil(page, folder / "playground" / file, right, wrong)
    page.goto(looking.url)
    asked = [[ids[:9], []], *([ids, parts] for parts in OFF)]
    noticed = False
    try:
        found = page.evaluate(LOOK, ["/mutant.safetensors", asked])
    except Error:  # of JavaScript: noticed at once
        noticed = True
    else:
        for numbers, (text, off) in zip(found, asked, strict=True):
            noticed |= max(errors(numbers, model, text, off).values()) > 1e-3
    assert noticed
    page.close()


def seen_by_python(host, ids, off):
    """What Python answers to the page's question: lens, maps with zeros above the diagonal, next"""
    question = {"model": 0, "ids": ids, "off": off}
    about, (lens, below) = host.reply(question | {"kind": "look"})
    _, (logits,) = host.reply(question | {"kind": "next"})
    L, H, T = about["layers"], about["heads"], len(ids)
    maps = torch.zeros(L, H, T, T)
    maps[:, :, torch.ones(T, T).tril().bool()] = numbers_in(below).view(L, H, -1)
    return numbers_in(lens).view(L + 1, T, -1), maps, numbers_in(logits)


def numbers_in(data):
    return torch.frombuffer(bytearray(data), dtype=torch.float32)


def error_of_python(host, off):
    model, ids = copy.deepcopy(host.models[0]).eval(), [i * i % 11 for i in range(13)]
    lens, maps, logits = seen_by_python(host, ids, off)
    right = lens_of(without(model, off), ids)
    rows = [
        [[row[: t + 1].tolist() for t, row in enumerate(head)] for head in layer] for layer in maps
    ]
    wrong = map_error(rows, without(model, off), ids)
    return float(max((lens - right).abs().max(), (logits - right[-1, -1]).abs().max(), wrong))


@pytest.mark.parametrize("off", OFF[:-1], ids=str)
def test_python_looks_inside_as_the_page_does(off):
    model = small_model(norm_placement="post", position="rope").train()  # between two epochs
    host = widgets.InsideHost(model, CharTokenizer("abcdefghijk"), {})
    assert error_of_python(host, off) < 1e-5
    assert model.training
    assert error_of_python(host, []) < 1e-5, "all is on again"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("// D == head[0]", "% D == head[0]"),
        ("made: given[0])", "made: made)"),
        ("            maps[i] = 0", "            maps[i] = maps[i]"),
        ("model.head(model.norm(x))[0]", "model.head(x)[0]"),
    ],
)
def test_a_wrong_look_of_python_is_noticed(monkeypatch, right, wrong):
    host = widgets.InsideHost(small_model(), CharTokenizer("abcdefghijk"), {})
    monkeypatch.setattr(evaluation, "look", mutant(evaluation.look, right, wrong))
    assert max(error_of_python(host, off) for off in OFF) > 1e-3
