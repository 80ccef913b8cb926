"""A file of weights means the same in Python and on a page, or is refused by both, and at once."""

import json
import struct
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save

from course_utils.lessons.model import GPTConfig
from course_utils.training import checkpoints
from helpers import small_model
from pages import watched

READ = """async (files) => {
  const { GPT } = await import("/playground/gpt.mjs");
  const { FileError, readSafetensors } = await import("/playground/safetensors.mjs");
  const slice = ArrayBuffer.prototype.slice;
  let taken;
  ArrayBuffer.prototype.slice = function (...range) { taken++; return slice.apply(this, range); };
  const read = async (file) => {
    const buffer = await (await fetch(file)).arrayBuffer();
    taken = 0;
    try {
      const model = readSafetensors(buffer);
      return { alphabet: model.alphabet.join(""), logits: [...new GPT(model).logits([3, 1, 2])] };
    } catch (error) {
      return { refused: error.message, known: error instanceof FileError, taken };
    }
  };
  const found = [];
  for (const file of files) found.push(await read(file));
  ArrayBuffer.prototype.slice = slice;
  return found;
}"""
MODEL = small_model(n_layers=2, n_heads=4, d_model=32, d_ff=48)
ABOUT = {"format": "1", "config": asdict(MODEL.config), "alphabet": "abcdefghijk"}
WEIGHTS = {
    name: weight.detach() for name, weight in MODEL.state_dict().items() if name != "head.weight"
}
QKV = "blocks.1.attention.qkv.weight"


def a_file(weights=WEIGHTS, config=None, left_out=(), **about):
    config = ABOUT["config"] | (config or {})
    config = {name: value for name, value in config.items() if name not in left_out}
    return save(weights, metadata={"course": json.dumps(ABOUT | {"config": config} | about)})


def in_int8(**changes):
    """One matrix kept in whole numbers, with the scales of its groups."""
    scales = torch.full((96, 2), 2.0**-6)
    whole = (WEIGHTS[QKV] * 64).round().clamp(-127, 127).to(torch.int8)
    return WEIGHTS | {QKV: whole, f"{QKV}.scale": scales.half()} | changes


def with_header(change):
    """The good file with its header changed, as text or as what it says."""
    whole = a_file()
    (size,) = struct.unpack("<Q", whole[:8])
    text = change(whole[8 : 8 + size].decode()).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + size :]


def moved(name, to):
    """The good file with a tensor said to lie where another lies."""

    def change(text):
        header = json.loads(text)
        header[name]["data_offsets"] = header[to]["data_offsets"]
        return json.dumps(header)

    return with_header(change)


def all_on_one_layer(layers):
    """A file of one layer that says it has many, all on the same bytes."""

    def change(text):
        header = json.loads(text)
        about = json.loads(header["__metadata__"]["course"])
        about["config"]["n_layers"] = layers
        header["__metadata__"]["course"] = json.dumps(about)
        ones = {name: said for name, said in header.items() if name.startswith("blocks.1.")}
        for layer in range(2, layers):
            for name, said in ones.items():
                header[name.replace("blocks.1.", f"blocks.{layer}.")] = said
        return json.dumps(header)

    return with_header(change)


GOOD = {
    "float32": a_file(),
    "float16": a_file({name: weight.half() for name, weight in WEIGHTS.items()}),
    "bfloat16": a_file({name: weight.bfloat16() for name, weight in WEIGHTS.items()}),
    "int8 with scales": a_file(in_int8()),
    "a whole number as 2.0": a_file(config={"n_layers": 2.0}),
    "no dropout": a_file(config={"dropout": 0}),
    "signs beyond 16 bits": a_file(alphabet="abcdefg\uffff\U00010000\U0001f600\U0001f601"),
}
LIES = {
    "an alphabet in another order": a_file(alphabet="kjihgfedcba"),
    "an alphabet ordered by its 16-bit halves": a_file(alphabet="abcdefghi\U0001f600\uffff"),
    "an alphabet with one sign twice": a_file(alphabet="abcdefghijj"),
    "an alphabet with half a sign": a_file(alphabet="abcdefghij\ud83d"),
    "two tensors on the same bytes": moved("blocks.0.norm_1.weight", to="blocks.0.norm_2.weight"),
    "two hundred layers on the same bytes": all_on_one_layer(200),
    "a hole": with_header(lambda text: text) + b"\0\0\0\0",
    "metadata twice": with_header(lambda text: text.replace("{", '{"__metadata__":{},', 1)),
    "a tensor twice": with_header(
        lambda text: (
            text[:-1] + ',"norm.weight":' + json.dumps(json.loads(text)["norm.weight"]) + "}"
        )
    ),
    "a switch that is a word": a_file(config={"residual": "no"}),
    "a size that is true": a_file(config={"n_layers": True}),
    "a setting that we don't have": a_file(config={"colour": "red"}),
    "dropout of everything": a_file(config={"dropout": 1.0}),
    "dropout that is no number": a_file(config={"dropout": float("nan")}),
    "dropout in words": a_file(config={"dropout": "0.1"}),
    "a head of its own beside tied embeddings": a_file(
        WEIGHTS | {"head.weight": torch.ones(11, 32)}
    ),
    "a setting left out": a_file(left_out=["dropout"]),
    "a tensor too many": a_file(WEIGHTS | {"blocks.0.bias": torch.zeros(3)}),
    "a giant's cache": a_file(config={"context_length": 2**40, "position": "none"}),
    "int8 without scales": a_file(
        {name: weight for name, weight in in_int8().items() if not name.endswith(".scale")}
    ),
    "int8 with scales of other groups": a_file(
        in_int8(**{f"{QKV}.scale": torch.ones(96, 4).half()})
    ),
    "int8 with scales in float32": a_file(in_int8(**{f"{QKV}.scale": torch.ones(96, 2)})),
    **{
        f"a weight in {kind}": a_file(WEIGHTS | {"norm.weight": torch.ones(32, dtype=kind)})
        for kind in (torch.float64, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn)
    },
}
UNSOUND = {
    f"a weight of {value}": a_file(WEIGHTS | {"norm.weight": torch.full((32,), value)})
    for value in (2e6, -3e38, float("inf"), float("nan"))
}


@pytest.fixture(scope="module")
def page(browser, site):
    page = watched(browser.new_context().new_page(), site)
    page.goto(f"{site}blank.html")
    yield page
    page.context.close()


def read_by_both(page, site_folder, files):
    """-> what Python and what the page made of each file: (alphabet, logits), or None, and words"""
    names, ours = [], []
    for number, content in enumerate(files):
        path = site_folder / f"file-{hash(content) % 10**12}-{number}.safetensors"
        path.write_bytes(content)
        names.append(f"/{path.name}")
        try:
            model, tokenizer = checkpoints.load_model(path)
        except checkpoints.RunError as refusal:
            ours.append({"refused": str(refusal)})
        else:
            with torch.no_grad():
                logits = model(torch.tensor([[3, 1, 2]])).flatten()
            ours.append({"alphabet": "".join(tokenizer.alphabet), "logits": logits})
    return ours, page.evaluate(READ, names)


def test_a_good_file_is_the_same_model_to_both(page, site_folder):
    for name, ours, theirs in zip(
        GOOD, *read_by_both(page, site_folder, GOOD.values()), strict=True
    ):
        assert "refused" not in ours | theirs, (name, ours, theirs)
        assert ours["alphabet"] == theirs["alphabet"], name
        assert torch.allclose(ours["logits"], torch.tensor(theirs["logits"]), atol=1e-3), name


def test_a_file_that_lies_is_refused_by_both_before_memory_is_taken(page, site_folder):
    for name, ours, theirs in zip(
        LIES, *read_by_both(page, site_folder, LIES.values()), strict=True
    ):
        assert "refused" in ours, name
        assert "refused" in theirs, name
        assert theirs["known"], (name, theirs)
        assert theirs["taken"] == 0, (name, theirs)


def test_weights_that_no_training_makes_are_refused_by_both(page, site_folder):
    for name, ours, theirs in zip(
        UNSOUND, *read_by_both(page, site_folder, UNSOUND.values()), strict=True
    ):
        assert "not numbers" in ours["refused"], name
        assert "not numbers" in theirs["refused"], name


def test_the_page_knows_every_setting_of_a_model(page):
    names = """async () => {
      const source = await (await fetch("/playground/safetensors.mjs")).text();
      return source;
    }"""
    source = page.evaluate(names)
    for name in GPTConfig.__dataclass_fields__:
        assert name in source, name
