"""What lies on disk is read with suspicion: records, states and weights that are not what they say.

And what a run leaves there is what it was: after Ctrl-C at the end, by other threads, under names
that are no UTF-8.
"""

import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from course_utils import files
from course_utils.lessons.model import GPT, GPTConfig, count_parameters
from course_utils.lessons.train import TrainConfig
from course_utils.research import pool
from course_utils.training import checkpoints, engine, recipes, runs
from helpers import COURSE, OWN, ROOT, CtrlC, here, timeless

ALPHABET = "".join(sorted(set(OWN.text)))
SMALL = GPTConfig(
    vocab_size=len(ALPHABET), context_length=16, n_layers=2, n_heads=2, d_model=16, d_ff=12
)


def spec(arm="2 layers", model=SMALL, **settings):
    usual = {"steps": 40, "batch_size": 2, "evaluate_every": 10, "optimizer": "muon"}
    train = TrainConfig(**usual | settings)
    return runs.RunSpec("depth", "smoke", arm, model, train, OWN.sha256)


def refusal(path, load):
    """The one sentence with which a file is refused; it begins with the file's name."""
    with pytest.raises(files.RunError) as refused:
        load()
    words = str(refused.value)
    assert words.startswith(str(path))
    assert "\n" not in words
    assert len(words) < len(str(path)) + 300
    return words


# --- records -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return runs.execute(spec(), OWN, tmp_path_factory.mktemp("records"))


WRONG = [
    *({name: None} for name in ("validation_loss", "history", "seed", "model", "corpus", "arm")),
    *({"validation_loss": loss} for loss in ("2.1", 1e9, -1.0, math.nan, math.inf, True, 10**400)),
    *({"seed": seed} for seed in ("0", 0.5, 7, [])),
    *({"model": model} for model in ([], {}, {"n_layers": "2"}, asdict(SMALL) | {"colour": 1})),
    *({"train": train} for train in ([], {"steps": 0}, asdict(TrainConfig()) | {"seed": "0"})),
    *({"history": history} for history in ([], {}, [1], [{}], [{"step": 1}], "ten")),
    *({"corpus": corpus} for corpus in ({}, [], {"sha256": 3}, {"sha256": "1" * 64})),
    *({"environment": place} for place in ({}, [], {"device": 1})),
    *({name: []} for name in ("arm", "name", "study", "recipe", "fingerprint", "stopped")),
    {"position_losses": ["low"]},
    *({"untouched": plays} for plays in ([1.6], {"hamlet": "low"})),
    {"format": "2"},
    {"folder": "/"},
    {"data_share": 0.5},
    {"weights_offset": 1000},
    *(
        {"plays": plays}
        for plays in ([1], {"characters": 9}, {"characters": 9, "plays": ["hamlet"]})
    ),
    {"fingerprint": "01234567"},
    {"more": 1},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong}"[:60])
def test_a_record_with_a_wrong_value_is_refused_in_one_sentence(record, tmp_path, wrong):
    path = tmp_path / "logs" / f"{record.name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(record.content() | wrong))
    words = refusal(path, lambda: runs.load_all(tmp_path))
    assert words.endswith("move it away")


def test_a_record_that_lacks_anything_is_refused(record, tmp_path):
    path = tmp_path / "logs" / f"{record.name}.json"
    path.parent.mkdir()
    written_later = {"choosing_loss", "reporting_loss", "position_losses"}
    written_later |= {"data_share", "weights_offset", "weights_sha256", "untouched"}
    written_later |= {"plays", "drawn", "step_memory_mb"}
    for name in record.content():
        path.write_text(json.dumps({k: v for k, v in record.content().items() if k != name}))
        if name in written_later:
            runs.RunRecord.load(path)
        else:
            assert f"no {name}" in refusal(path, lambda: runs.RunRecord.load(path))


def test_a_copy_of_a_record_is_not_a_second_seed(record, tmp_path):
    """Such as a cloud's "conflicted copy" makes; what macOS writes beside a file is passed over."""
    record = replace(record)
    record.save(tmp_path)
    (tmp_path / "logs" / f"._{record.name}.json").write_bytes(b"\0\5\26\7")
    assert [r.name for r in runs.load_all(tmp_path)] == [record.name]
    copy = tmp_path / "logs" / f"{record.name} (conflicted copy).json"
    copy.write_bytes((tmp_path / "logs" / f"{record.name}.json").read_bytes())
    assert [r.name for r in runs.load_all(tmp_path)] == [record.name]


# --- states --------------------------------------------------------------------------------------
def stopped(folder, wanted, after=25):
    """The path of the state that a run leaves, stopped after so many steps."""
    with pytest.raises(KeyboardInterrupt, match="its state is saved"):
        runs.execute(wanted, OWN, folder, on_step=CtrlC(after))
    return runs.state_path(wanted, folder)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """-> (tensors, facts) of a run that was stopped after 25 of 40 steps"""
    path = stopped(tmp_path_factory.mktemp("states"), spec())
    return files.read_tensors(path, "saved state")


def others(after=25, **changes):
    """Takes the whole state of another run, but for its name."""

    def meddle(tensors, facts, folder):
        other = files.read_tensors(stopped(folder, spec(**changes), after), "saved state")
        return other[0], other[1] | {"fingerprint": facts["fingerprint"]}

    return meddle


def tensors_changed(change):
    return lambda tensors, facts, folder: (change(dict(tensors)), facts)


def facts_changed(change):
    return lambda tensors, facts, folder: (tensors, change(json.loads(json.dumps(facts))))


def without(start):
    return tensors_changed(lambda t: {k: v for k, v in t.items() if not k.startswith(start)})


def with_tensor(name, of):
    return tensors_changed(lambda t: t | {name: of(t)})


def measured(**changes):
    return facts_changed(lambda facts: facts | {"found": facts["found"] | changes})


A_WEIGHT = "model/blocks.0.attention.qkv.weight"
MEDDLED = {
    "another run's": lambda tensors, facts, folder: (tensors, facts | {"fingerprint": "01234567"}),
    "nobody's": facts_changed(lambda facts: {k: facts[k] for k in ("found", "threads")}),
    "of four layers": others(model=replace(SMALL, n_layers=4)),
    "of another optimiser": others(optimizer="adamw"),
    "past the end": others(after=60, steps=80),
    "without losses": without("losses"),
    "without luck": without("random"),
    "without a model": without("model/"),
    "without one weight": without(A_WEIGHT),
    "without the optimisers' memory": without("optimizer/"),
    "without one memory": without("optimizer/0/0/exp_avg_sq"),
    "without the best weights": without("best/"),
    "a weight on its side": with_tensor(A_WEIGHT, lambda t: t[A_WEIGHT].T.contiguous()),
    "a weight of one number": with_tensor(A_WEIGHT, lambda t: t[A_WEIGHT][:1, :1]),
    "a best weight too many": with_tensor("best/more", lambda t: torch.zeros(3)),
    "a tensor too many": with_tensor("model/more", lambda t: torch.zeros(3)),
    "a memory of nobody": with_tensor("optimizer/7/0/exp_avg", lambda t: torch.zeros(3)),
    "a weight that is no number": with_tensor(A_WEIGHT, lambda t: t[A_WEIGHT] * math.nan),
    "a best weight that is none": with_tensor(
        "best/embedding.weight", lambda t: t["best/embedding.weight"] + 1e30
    ),
    "luck that is none": with_tensor("random", lambda t: torch.full_like(t["random"], 255)),
    "nothing measured": facts_changed(lambda facts: {k: facts[k] for k in facts if k != "found"}),
    "measured in words": measured(elapsed_s="long"),
    "a history of words": measured(history=["good"]),
    "a report past its steps": measured(
        history=[{"step": 39, "characters": 1, "training_loss": 2.0, "elapsed_s": 1.0}]
    ),
    "threads in words": facts_changed(lambda facts: facts | {"threads": "two"}),
}


@pytest.mark.parametrize("meddle", MEDDLED.values(), ids=MEDDLED)
def test_a_state_that_is_not_this_runs_is_refused_and_kept(state, tmp_path, meddle):
    path = runs.state_path(spec(), tmp_path / "mine")
    files.write_tensors(path, *meddle(*state, tmp_path / "other"))
    before = path.read_bytes()
    words = refusal(path, lambda: runs.execute(spec(), OWN, tmp_path / "mine"))
    assert words.endswith("delete it, and the run begins anew")
    assert path.read_bytes() == before


def test_the_same_state_untouched_goes_on(record, state, tmp_path):
    """The control of the trials above."""
    files.write_tensors(runs.state_path(spec(), tmp_path), *state)
    assert timeless(runs.execute(spec(), OWN, tmp_path)) == timeless(record)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_stopped_before_its_first_step_goes_on(tmp_path, optimizer):
    wanted = spec(optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt, match="after step 0 of 40; its state is saved"):
        runs.execute(wanted, OWN, tmp_path / "resumed", on_step=CtrlC(0))
    resumed = runs.execute(wanted, OWN, tmp_path / "resumed")
    assert timeless(resumed) == timeless(runs.execute(wanted, OWN, tmp_path / "straight"))


def test_ctrl_c_after_the_last_step_is_heard_and_loses_nothing(record, tmp_path):
    """A real one, as the loop returns: no step is left that would look for it."""

    def watch(frame, event, _):
        if event == "return" and frame.f_code.co_name == "make_steps":
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(watch)
    try:
        with pytest.raises(KeyboardInterrupt, match="stopped after step 40 of 40; its state is"):
            runs.execute(spec(), OWN, tmp_path)
    finally:
        sys.setprofile(None)
    assert runs.find(spec(), [tmp_path]) is None
    assert timeless(runs.execute(spec(), OWN, tmp_path)) == timeless(record)


@pytest.mark.slow
def test_a_record_names_the_threads_of_all_its_parts(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        stopped(tmp_path / "mixed", spec(), after=15)
        stopped(tmp_path / "mixed", spec(), after=24)
        torch.set_num_threads(1)
        mixed = runs.execute(spec(), OWN, tmp_path / "mixed")
        alone = runs.execute(spec(), OWN, tmp_path / "alone")
    finally:
        torch.set_num_threads(before)
    assert mixed.environment["threads"] == [2, 1]
    assert alone.environment["threads"] == 1
    assert mixed.validation_loss == pytest.approx(alone.validation_loss, abs=1e-4)


# --- weights -------------------------------------------------------------------------------------
def weights():
    torch.manual_seed(0)
    state = GPT(SMALL).state_dict()
    return {name: weight.clone() for name, weight in state.items() if name != "head.weight"}


def checkpoint(path, tensors=None, config=None, alphabet=ALPHABET):
    about = {"format": "1", "config": asdict(SMALL) | (config or {}), "alphabet": alphabet}
    metadata = {"course": json.dumps(about)}
    path.write_bytes(save(weights() if tensors is None else tensors, metadata=metadata))
    return path


KINDS = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.uint16: "U16",
}


@pytest.mark.parametrize("dtype", KINDS, ids=KINDS.get)
def test_weights_are_of_the_kinds_that_are_listed(tmp_path, dtype):
    name = "blocks.1.attention.out.weight"
    path = checkpoint(tmp_path / "m", weights() | {name: weights()[name].to(dtype)})
    if KINDS[dtype] in ("F32", "F16", "BF16"):
        loaded, _ = checkpoints.load_model(path)
        expected = weights()[name].to(dtype).float()
        assert torch.equal(loaded.blocks[1].attention.out.weight, expected)
    elif dtype == torch.int8:
        assert "do not fit" in refusal(path, lambda: checkpoints.load_model(path)), "no scale"
    else:
        words = refusal(path, lambda: checkpoints.load_model(path))
        assert ", ".join(checkpoints.KINDS) in words


@pytest.mark.parametrize(
    ("scale", "works"),
    [
        (torch.ones(16, 1).half(), True),
        (torch.ones(16, 1), False),
        (torch.ones(16, 1).bfloat16(), False),
        (torch.ones(16, 1).to(torch.int8), False),
        (torch.ones(16, 2).half(), False),
        (torch.ones(16).half(), False),
        (torch.ones(1, 16).half(), False),
    ],
    ids=lambda value: str(value.dtype) + str(list(value.shape)) if torch.is_tensor(value) else "",
)
def test_whole_numbers_have_a_scale_for_each_group(tmp_path, scale, works):
    name = "blocks.1.attention.out.weight"
    numbers = torch.arange(256, dtype=torch.int64).sub(128).to(torch.int8).view(16, 16)
    path = checkpoint(tmp_path / "m", weights() | {name: numbers, f"{name}.scale": scale})
    if works:
        loaded, _ = checkpoints.load_model(path)
        assert torch.equal(loaded.blocks[1].attention.out.weight, numbers.float())
    else:
        refusal(path, lambda: checkpoints.load_model(path))


@pytest.mark.parametrize(
    "config",
    [
        {"residual": "no"},
        {"residual": 1},
        {"qk_norm": None},
        {"n_layers": True},
        {"n_layers": 2.5},
        {"dropout": "0.1"},
        {"dropout": math.nan},
        {"dropout": True},
        {"norm": 3},
        {"norm": ["layernorm"]},
        {"d_model": "16"},
        {"vocab_size": math.inf},
        {"d_ff": 10**400},
    ],
    ids=lambda config: f"{config}"[:40],
)
def test_a_setting_of_another_type_is_refused(tmp_path, config):
    path = checkpoint(tmp_path / "m", config=config)
    assert "do not fit" in refusal(path, lambda: checkpoints.load_model(path))


def test_a_whole_number_may_be_written_with_a_point(tmp_path):
    """To JavaScript 2.0 and 2 are one number; so they are here."""
    sizes = {name: float(size) for name, size in asdict(SMALL).items() if type(size) is int}
    loaded, _ = checkpoints.load_model(checkpoint(tmp_path / "m", config=sizes | {"dropout": 0}))
    assert loaded.config == replace(SMALL, dropout=0.0)
    assert type(loaded.config.n_layers) is int


@pytest.mark.parametrize(
    "alphabet",
    [
        ALPHABET[::-1],
        ALPHABET[1:] + ALPHABET[0],
        ALPHABET[:-1] + ALPHABET[0],
        ALPHABET[:-1],
        ALPHABET + "€",
        ALPHABET[:-1] + "\udcfc",
        ALPHABET[:-2] + "\ud83d\ude00",
        "",
        None,
        list(ALPHABET),
    ],
    ids=ascii,
)
def test_an_alphabet_is_different_characters_in_order(tmp_path, alphabet):
    """The page reads it as it stands: another order would be another text there than here."""
    path = checkpoint(tmp_path / "m", alphabet=alphabet)
    assert "alphabet" in refusal(path, lambda: checkpoints.load_model(path))


@pytest.mark.parametrize("value", [3e38, -2e6, math.nan, math.inf])
def test_weights_that_are_no_weights_are_refused(tmp_path, value):
    tensors = weights()
    tensors["blocks.0.norm_1.weight"][3] = value
    path = checkpoint(tmp_path / "m", tensors)
    assert "not numbers" in refusal(path, lambda: checkpoints.load_model(path))


# --- sizes ---------------------------------------------------------------------------------------
def sparse(path, header, size):
    """A safetensors file with this header, and zeros that take no room on the disk."""
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    return path


def many_layers(n):
    first = {name: weight for name, weight in weights().items() if name.startswith("blocks.0.")}
    rest = {name: weight for name, weight in weights().items() if not name.startswith("blocks.")}
    layers = itertools.product(range(n), first.items())
    blocks = {name.replace(".0.", f".{i}.", 1): weight.clone() for i, (name, weight) in layers}
    return rest | blocks


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path):
    """Three gigabytes of zeros, by names that the model has or has not; the reader stays small."""
    about = {"format": "1", "config": asdict(SMALL), "alphabet": ALPHABET}
    header = {"__metadata__": {"course": json.dumps(about)}}
    at = 0
    for name, weight in weights().items():
        end = at + 4 * weight.numel()
        header[name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [at, end]}
        at = end
    gigabytes = 3 * 2**30
    for name in ("x.scale", "blocks.0.more", "blocks.0.attention.qkv.weight.scale"):
        extra = {"dtype": "F16", "shape": [gigabytes // 2], "data_offsets": [at, at + gigabytes]}
        sparse(tmp_path / name, header | {name: extra}, at + gigabytes)
    sparse(tmp_path / "not.a.header", {"": "x" * files.LONGEST_HEADER}, gigabytes)
    program = """
        import resource, sys
        from course_utils import files
        from course_utils.training import checkpoints
        for path in sys.argv[1:]:
            try:
                checkpoints.load_model(path)
            except files.RunError as error:
                assert str(error).startswith(path)
            else:
                sys.exit(f"{path} was read")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < gigabytes / 2


def test_a_file_of_too_many_layers_is_refused(tmp_path):
    path = checkpoint(tmp_path / "m", many_layers(300), config={"n_layers": 300})
    assert "n_layers must be at most 256" in refusal(path, lambda: checkpoints.load_model(path))
    few = checkpoint(tmp_path / "few", many_layers(5), config={"n_layers": 5})
    assert checkpoints.load_model(few)[0].config.n_layers == 5, "it is the number that is refused"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"n_layers": 10**9}, "n_layers must be at most 256"),
        ({"context_length": 2**40}, "keys and values"),
        ({"d_model": 2**20}, "weights"),
    ],
    ids=str,
)
def test_what_could_not_be_read_is_not_trained(model, words):
    with pytest.raises(ValueError, match=words):
        spec(model=replace(SMALL, **model))
    spec(model=replace(SMALL, n_layers=256))


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_a_seed_beyond_its_bounds_is_refused(seed):
    with pytest.raises(ValueError, match=f"a seed must lie in 0 … {2**63 - 1}"):
        spec(seed=seed)


def test_the_largest_seed_trains(tmp_path):
    record = runs.execute(spec(seed=2**63 - 1, steps=2), OWN, tmp_path)
    assert runs.RunRecord.load(tmp_path / "logs" / f"{record.name}.json").seed == 2**63 - 1


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_a_plan_counts_parameters_without_a_model_a_run(recipe):
    settings, train = recipes.named_recipe(recipe)
    config = GPTConfig(**settings)
    expected = count_parameters(GPT(config))
    assert engine.parameters_of(config) == expected
    specs = [
        runs.RunSpec("s", recipe, "arm", config, replace(train, seed=seed), "0" * 64)
        for seed in range(50)
    ]
    made = engine.parameters_of.cache_info().misses
    characters = train.steps * train.batch_size * config.context_length
    assert pool.work(specs) == 50 * expected * characters
    assert engine.parameters_of.cache_info().misses == made


def test_the_baseline_recipe_is_what_the_configs_default_to():
    settings, train = recipes.named_recipe("baseline")
    assert GPTConfig(**settings) == GPTConfig()
    assert train == TrainConfig()


# --- names ---------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux alone")
def test_names_that_are_no_utf_8_lose_no_run(tmp_path):
    """A text and a results folder by such names: trained once, recorded, found again."""
    folder = os.fsencode(tmp_path) + b"/w\xf6rter"
    os.mkdir(folder)
    text = folder + b"/m\xfcller.txt"
    Path(os.fsdecode(text)).write_text(OWN.text)
    arguments = [b"--profile", b"smoke", b"--corpus", text, b"--out", folder]
    command = [*COURSE, "train", *arguments, "--steps", "3"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8"}  # which refuses to print such a name

    first = subprocess.run(command, cwd=ROOT, capture_output=True, env=strict)
    assert (first.returncode, first.stderr.count(b"Traceback")) == (0, 0), first.stderr
    (log,) = (Path(os.fsdecode(folder)) / "logs").iterdir()
    record = runs.RunRecord.load(log)
    assert record.corpus["name"] == record.corpus["source"] == "m\\udcfcller.txt"
    assert "m\\udcfcller.txt" in record.environment["command"]
    written = log.stat().st_mtime_ns
    assert here(*map(os.fsdecode, command[len(COURSE) :])).returncode == 0
    assert log.stat().st_mtime_ns == written, "it was found again"
    log.read_text(encoding="utf-8").encode("utf-8")


def test_a_name_is_shown_so_that_it_can_be_written_anywhere():
    chance = random.Random(0)
    for _ in range(200):
        raw = bytes(chance.randrange(1, 256) for _ in range(12)).replace(b"/", b"x")
        name = files.shown(os.fsdecode(raw))
        name.encode("utf-8")
    assert files.shown("plain 文.txt") == "plain 文.txt"


@pytest.mark.slow
def test_a_code_page_that_lacks_a_character_fails_no_command(tmp_path):
    """As on Windows, where a redirected stream has one; what it lacks is spelled out."""
    text = tmp_path / "我的文本.txt"
    text.write_text("一丁七万丈三上下不与。\n" * 60, encoding="utf-8")
    out = ("--corpus", text, "--out", tmp_path, "--profile", "smoke")

    def course(encoding, *arguments):
        narrow = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        command = [*COURSE, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, env=narrow)

    trained = course("ascii", "train", "--layers", "1", "--steps", "3", *out)
    assert trained.returncode == 0, trained.stderr
    assert b"\\u6211\\u7684" in trained.stdout
    written = course("cp1252", "generate", "--prompt", "一丁", "--characters", "5", *out)
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith(b"\\u4e00\\u4e01")
    assert course("cp1252", "train", "--help").returncode == 0


def test_where_no_run_can_be_kept_a_lesson_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(files.RunError, match=r"no run can be kept in .*COURSE_RESULTS"):
        files.lock(tmp_path / "file/results")
