"""Training runs on disk: a JSON record and a file of weights each, found again by what they are."""

import functools
import hashlib
import itertools
import json
import math
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import files, profiles
from course_utils.corpus import Draw
from course_utils.files import FORMAT, RunError
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPTConfig, count_parameters
from course_utils.lessons.train import TrainConfig
from course_utils.messages import N_, _
from course_utils.messages.names import translated
from course_utils.training import checkpoints, trainer
from course_utils.training.recipes import layers, named_recipe

LARGEST_SEED = 2**63 - 1  # what every generator takes, of this seed and of those next to it


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result: two runs of one spec are the same run."""

    study: str  # the question it belongs to, a name in studies.STUDIES
    recipe: str  # a name in recipes.RECIPES
    arm: str  # what is compared, such as "4 layers"
    model: GPTConfig
    train: TrainConfig
    corpus_sha256: str
    data_share: float = 1.0  # of the training split, from its beginning
    plays: Draw | None = None  # what is learned from in place of the training split
    weights_offset: int = 0  # from the run's seed to that of its first weights alone
    # Evaluations for the curve alone. They change nothing, so they are no part of what a run is.
    curve_points: int = field(default=0, compare=False)

    def __post_init__(self):
        checkpoints.check_bounds(self.model)
        for seed in (self.train.seed, self.train.seed + self.weights_offset):
            if not 0 <= seed <= LARGEST_SEED:
                raise ValueError(
                    _(
                        "a seed must lie in 0 … {largest_seed}, not {seed}",
                        largest_seed=LARGEST_SEED,
                        seed=seed,
                    )
                )

    @property
    def fingerprint(self):
        model, train = asdict(self.model), asdict(self.train)
        text = self.corpus_sha256, self.data_share, self.plays
        return fingerprint(model, train, *text, self.weights_offset)

    @property
    def name(self):
        return run_name(self.arm, self.train.seed, self.fingerprint)


def fingerprint(model, train, corpus_sha256, data_share, plays=None, weights_offset=0):
    """Eight hexadecimal digits that stand for all of a run's settings, given as dicts."""
    text = corpus_sha256 if data_share == 1 else f"{corpus_sha256}, {data_share}"
    settings = {"model": model, "train": train, "corpus": text}
    if plays:
        settings["plays"] = asdict(plays)
    if weights_offset:
        settings["weights_offset"] = weights_offset
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def run_name(arm, seed, fingerprint):
    """What a run's files are called."""
    arm = re.sub(r"[^\w.]+", "-", arm, flags=re.ASCII)
    return f"{arm}_seed-{seed}_{fingerprint}"


@dataclass(kw_only=True)
class RunRecord(trainer.Training):
    """One finished run, as it is written to logs/NAME.json: what it was, and what it came to."""

    name: str
    study: str
    recipe: str
    arm: str
    seed: int
    fingerprint: str
    model: dict
    train: dict
    corpus: dict  # name, sha256, source, note
    parameters: int
    data_share: float = 1.0  # of the training split
    plays: dict = field(default_factory=dict)  # corpus.Draw's, where whole plays took its place
    drawn: list = field(default_factory=list)  # the names of those that the seed drew
    weights_offset: int = 0  # from the seed to that of the first weights alone
    environment: dict = field(default_factory=dict)
    weights_sha256: str = ""  # of what was trained; empty in records of before there was one
    untouched: dict = field(default_factory=dict)  # play -> loss; empty where none was opened
    format: str = FORMAT
    folder: Path | None = None  # where it lies; not written

    @property
    def own_name(self):
        """What it should be called by what it holds; a copy is called something else."""
        return run_name(self.arm, self.seed, self.fingerprint)

    @property
    def draw(self):
        """The corpus.Draw that it learned from, if it was one."""
        if not self.plays:
            return None
        return Draw(self.plays["characters"], tuple(self.plays["plays"]))

    @property
    def checkpoint(self):
        return self.folder / "checkpoints" / f"{self.name}.safetensors"

    @property
    def untouched_loss(self):
        """Mean over the plays that no run has seen, nats/character; NaN where none was opened."""
        return sum(self.untouched.values()) / len(self.untouched) if self.untouched else math.nan

    def content(self):
        """All that is written, as a dict: first what the run was, then what it came to."""
        values = asdict(self)
        del values["folder"]
        training = {name: values.pop(name) for name in trainer.Training.__dataclass_fields__}
        return values | training

    def save(self, folder):
        content = json.dumps(self.content(), indent=1, ensure_ascii=False)
        files.write(folder / "logs" / f"{self.name}.json", content.encode())
        self.folder = folder

    @classmethod
    def load(cls, path):
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            record = cls.from_file(values, folder=path.parent.parent)
        except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise RunError(
                _(
                    "{path} is not a run record of this course ({reason}): move it away",
                    path=path,
                    reason=reason,
                )
            ) from None
        return record

    def check(self):
        """A ValueError that names what no finished run leaves behind."""
        super().check()
        if self.format != FORMAT:
            words = _(
                "format {theirs}, where this course reads {ours}", theirs=self.format, ours=FORMAT
            )
            raise ValueError(words)
        GPTConfig(**files.fields_of(GPTConfig, self.model))
        TrainConfig(**files.fields_of(TrainConfig, self.train))
        for name in ("name", "sha256", "source", "note"):
            files.of_type(str, self.corpus[name], _("the corpus's {name}", name=name))
        for name in ("device", "torch", "command"):
            files.of_type(str, self.environment[name], _("the environment's {name}", name=name))
        for play, loss in self.untouched.items():
            files.of_type(float, loss, _("the loss on {play}", play=play))
        if not self.history or "validation_loss" not in self.history[-1]:
            raise ValueError(_("no evaluation at its end"))
        if not (0 <= self.validation_loss <= trainer.DIVERGED and self.training_loss >= 0):
            raise ValueError(_("losses that no run has"))
        text = self.corpus["sha256"], self.data_share, self.draw
        settings = self.model, self.train, *text, self.weights_offset
        if self.fingerprint != fingerprint(*settings) or self.seed != self.train["seed"]:
            raise ValueError(_("its settings are not those that it is named after"))


def spec_of(record, seed):
    """The spec of a recorded run, with another seed."""
    return RunSpec(
        study=record.study,
        recipe=record.recipe,
        arm=record.arm,
        model=GPTConfig(**record.model),
        train=TrainConfig(**record.train | {"seed": seed}),
        corpus_sha256=record.corpus["sha256"],
        data_share=record.data_share,
        plays=record.draw,
        weights_offset=record.weights_offset,
    )


def find(spec, folders, weights=True):
    """The record of this very run in the first folder that has it, else None.

    weights: whether the folder must have its weights too.
    """
    for folder in map(Path, folders):
        path = folder / "logs" / f"{spec.name}.json"
        if path.is_file():
            record = RunRecord.load(path)
            same = record.name == record.own_name == spec.name
            if same and (record.checkpoint.is_file() or not weights):
                return record
    return None


def find_finished(spec, folder, weights=True):
    """The record of this very run in a folder that this process has locked, else None.

    If a process was killed between a run's record and the end of its state, the state goes now.
    """
    record = find(spec, [folder], weights)
    if record:
        state_path(spec, folder).unlink(missing_ok=True)
    return record


def load_all(folder, corpus=None):
    """Every record of a results folder, in order of name; if a corpus is given, those of it.

    A file that isn't named as what it holds, a copy for one, is no run of its own: `misnamed`.
    """
    records = [record for path, record in read_all(folder) if path.stem == record.own_name]
    return [r for r in records if corpus is None or r.corpus["sha256"] == corpus.sha256]


def misnamed(folder):
    """The files that load_all leaves out, and the name that each should have. -> {path: name}"""
    read = read_all(folder)
    return {path: record.own_name for path, record in read if path.stem != record.own_name}


def read_all(folder):
    """Every file that claims to be a record: (path, RunRecord)."""
    for path in sorted((Path(folder) / "logs").glob("*.json")):
        if not path.name.startswith("."):  # the system's own notes
            yield path, RunRecord.load(path)


def best(folders, corpus=None):
    """The record with the lowest validation loss in the first folder that has one with weights."""
    for folder in folders:
        records = [record for record in load_all(folder, corpus) if record.checkpoint.is_file()]
        if records:
            return min(records, key=lambda r: r.validation_loss)
    raise RunError(_("there is no trained model of this text yet: `course train` makes one"))


_unwritten = {}  # spec -> what was trained when the disk was full; no need to train it again


def execute(spec, corpus, folder, device="cpu", on_step=None, allow=None):
    """Train one run, from where it was stopped if it was, and write it down. -> RunRecord

    on_step(n): called when n more steps are done. allow: as engine.make_engine's.
    """
    folder = Path(folder)
    if spec not in _unwritten:
        _unwritten[spec] = train_or_resume(spec, corpus, folder, device, on_step, allow)
    record = write_run(spec, corpus, folder, device, *_unwritten[spec])
    state_path(spec, folder).unlink(missing_ok=True)
    del _unwritten[spec]
    return record


def state_path(spec, folder):
    return Path(folder) / "checkpoints" / f"{spec.name}.state"


def train_or_resume(spec, corpus, folder, device, on_step, allow):
    """Train a run to its end, from its saved state if there is one.

    -> (model, Training, threads): of PyTorch, one after the other if the run was resumed with
    another number of them; as many threads, the same bits.
    """
    path = state_path(spec, folder)
    for unfinished in folder.glob(f"*/.{spec.name}.*"):  # of a process killed while it wrote
        unfinished.unlink()
    saved = read_state(path, spec) if path.exists() else None
    threads = [*(saved[1]["threads"] if saved else []), torch.get_num_threads()]
    threads = [n for n, _ in itertools.groupby(threads)]
    facts = {"fingerprint": spec.fingerprint, "threads": threads}

    ids = torch.tensor(CharTokenizer(corpus.text).encode(corpus.text))
    train_ids, validation_ids = split(ids)
    train_ids = train_ids[: round(spec.data_share * len(train_ids))]
    if spec.plays:
        text = "\n".join(spec.plays.texts(spec.train.seed).values())
        train_ids = torch.tensor(CharTokenizer(corpus.text).encode(text))
    first = replace(spec.train, seed=spec.train.seed + spec.weights_offset)
    model = trainer.new_model(spec.model, first, device)

    def save(tensors, measured):
        files.write_tensors(path, tensors, facts | measured)

    try:
        training = trainer.train(
            model,
            train_ids,
            validation_ids,
            spec.train,
            on_step,
            allow,
            saved,
            save,
            curve_points=spec.curve_points,
        )
    except trainer.StateError as error:
        raise not_a_state(path, error) from None
    except KeyboardInterrupt as stop:
        if not stop.args:  # a second Ctrl-C: nothing was saved just now
            raise
        words = _("its state is saved, and the same again goes on from there")
        raise trainer.stopped(_("; ").join((stop.args[0], words))) from None
    return model, training, threads


ANEW = N_("delete it, and the run begins anew")


def read_state(path, spec):
    """The state of a run that was stopped: (tensors, facts). RunError if it is another run's."""
    tensors, facts = files.read_tensors(path, N_("saved state"), ANEW)
    if facts.get("fingerprint") != spec.fingerprint:
        raise not_a_state(path, _("it is another's"))
    threads = facts.get("threads")
    if not isinstance(threads, list) or not all(type(n) is int for n in threads):
        raise not_a_state(path, _("it does not say by how many threads it was made"))
    return tensors, facts


def not_a_state(path, reason):
    return RunError(
        _(
            "{path} is no state of this run ({reason}): {anew}",
            path=path,
            reason=reason,
            anew=_(ANEW),
        )
    )


def write_run(spec, corpus, folder, device, model, training, threads):
    """Write a finished run's weights and then its record, so that no record lacks its weights."""
    record = RunRecord(
        name=spec.name,
        study=spec.study,
        recipe=spec.recipe,
        arm=spec.arm,
        seed=spec.train.seed,
        fingerprint=spec.fingerprint,
        model=asdict(spec.model),
        train=asdict(spec.train),
        corpus={key: getattr(corpus, key) for key in ("name", "sha256", "source", "note")},
        parameters=count_parameters(model),
        data_share=spec.data_share,
        plays=asdict(spec.plays) if spec.plays else {},
        drawn=list(spec.plays.texts(spec.train.seed)) if spec.plays else [],
        weights_offset=spec.weights_offset,
        environment=environment(device) | {"threads": threads[0] if len(threads) == 1 else threads},
        weights_sha256=checkpoints.weights_sha256(model),
        folder=folder,
        **asdict(training),
    )
    checkpoints.save_model(record.checkpoint, model, CharTokenizer(corpus.text).alphabet)
    record.save(folder)
    return record


def load_or_train(spec, corpus, device="cpu"):
    """A model and its record: the reader's own run, else the published one, else trained now."""
    record = find_or_train(spec, corpus, device, weights=True)
    model, _ = checkpoints.load_model(record.checkpoint)
    return model.to(device), record


def find_or_train(spec, corpus, device="cpu", weights=False):
    """The record alone, from the reader's own runs, else the published ones, else trained now.

    It says which.
    """
    record = find(spec, [files.results(), files.PUBLISHED], weights)
    if record is None:
        record = train_here(spec, corpus, device, weights)
        whose = _("trained just now")
    elif record.folder == files.PUBLISHED:
        whose = _("the published run")
    else:
        whose = _("your run")
    words = _(
        "{arm}, seed {seed}: {loss:.3f} nats/character ({whose})",
        arm=translated(spec.arm),
        seed=spec.train.seed,
        loss=record.validation_loss,
        whose=whose,
    )
    print(words)
    return record


def train_here(spec, corpus, device, weights):
    """Train a run into the reader's results, if no other process makes it meanwhile."""
    folder = files.results()
    with files.lock(folder):
        record = find_finished(spec, folder, weights)
        if record is None:
            words = _("training {arm}", arm=translated(spec.arm))
            with tqdm(total=spec.train.steps, desc=words, leave=False) as bar:
                record = execute(spec, corpus, folder, device, bar.update)
    return record


@functools.cache
def code():
    """A fingerprint of the code that decides a result: the lessons' and the training's."""
    package = Path(__file__).parent.parent
    sources = sorted([*package.glob("lessons/*.py"), *package.glob("training/*.py")])
    lines = [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sources]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:8]


def environment(device):
    """What a number depends on besides the spec."""
    kind = torch.device(device).type
    here = torch.cuda.get_device_name() if kind == "cuda" else f"{kind} ({platform.machine()})"
    return {
        "device": here,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "code": code(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command(),
    }


def command():
    """The command line, without the folders of this machine."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv]
    words = map(files.shown, words)
    return " ".join(words).replace("__main__.py", "course")


def depth_spec(n_layers, corpus, seed=0):
    """The study of depth's run of so many layers, by the recipe of this machine's profile."""
    recipe = profiles.current().recipe
    model, train = named_recipe(recipe)
    model = GPTConfig(**model | {"vocab_size": len(set(corpus.text)), "n_layers": n_layers})
    train = replace(train, seed=seed)
    return RunSpec("depth", recipe, layers(n_layers), model, train, corpus.sha256)


def training_spec(recipe, seed, corpus, n_layers=None, steps=None):
    """The run of a recipe by itself; n_layers and steps, where they are given, in place of its."""
    settings, train = named_recipe(recipe)
    if n_layers:
        settings = settings | {"n_layers": n_layers}
    model = GPTConfig(**{"vocab_size": len(set(corpus.text)), **settings})
    train = replace(train, seed=seed, steps=steps or train.steps)
    return RunSpec("train", recipe, layers(model.n_layers), model, train, corpus.sha256)


def small_model(corpus, device="cpu"):
    """The 2-layer model and its record: the reader's own, else the published, else trained now."""
    return load_or_train(depth_spec(2, corpus), corpus, device)


def depth_models(corpus, depths=(2, 4, 6)):
    """The models of the study of depth, found or made like the small one, on this machine's device.

    -> {"2 layers": model, …}
    """
    specs, device = [depth_spec(n, corpus) for n in depths], profiles.device()
    return {spec.arm: load_or_train(spec, corpus, device)[0] for spec in specs}
