"""Training runs on disk: one JSON record and one file of weights each, found again by what they are."""

import hashlib
import json
import math
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import files
from course_utils.files import FORMAT, RunError, lock, read_tensors, write, write_tensors
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPTConfig, count_parameters
from course_utils.lessons.train import TrainConfig
from course_utils.training import trainer
from course_utils.training.checkpoints import load_model, save_model


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

    @property
    def fingerprint(self):
        corpus = (
            self.corpus_sha256
            if self.data_share == 1
            else f"{self.corpus_sha256}, {self.data_share}"
        )
        parts = {"model": asdict(self.model), "train": asdict(self.train), "corpus": corpus}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self):
        arm = re.sub(r"[^\w.]+", "-", self.arm, flags=re.ASCII)
        return f"{arm}_seed-{self.train.seed}_{self.fingerprint}"


@dataclass
class RunRecord:
    """One finished run, as it is written to logs/NAME.json."""

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
    history: list  # a dict a report: step, characters, training_loss, elapsed_s, and validation_loss where evaluated
    best_step: int
    validation_loss: float
    training_loss: float
    stopped: str
    regime: str  # how the steps were made
    setup_s: float  # compiling and capturing, before the first step
    elapsed_s: float  # training and evaluations
    evaluating_s: float
    characters_per_s: float
    peak_memory_mb: float
    choosing_loss: float = math.nan  # over the validation split's first half, which chose best_step
    reporting_loss: float = math.nan  # over its second half, which chose nothing
    position_losses: list = field(
        default_factory=list
    )  # at places 1, 2, 3–4, 5–8, … of the context
    data_share: float = 1.0  # of the training split
    environment: dict = field(default_factory=dict)
    format: str = FORMAT
    folder: Path | None = None  # where it lies; not written

    @property
    def checkpoint(self):
        return self.folder / "checkpoints" / f"{self.name}.safetensors"

    def save(self, folder):
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write(
            folder / "logs" / f"{self.name}.json",
            json.dumps(content, indent=1, ensure_ascii=False).encode(),
        )
        self.folder = folder

    @classmethod
    def load(cls, path):
        path = Path(path)
        try:
            record = cls(**json.loads(path.read_text(encoding="utf-8")), folder=path.parent.parent)
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{path} is not a run record of this course ({type(error).__name__}); delete it"
            ) from None
        if record.format != FORMAT:
            raise RunError(f"{path} has format {record.format}; this course reads format {FORMAT}")
        return record


def spec_of(record, seed):
    """The spec of a recorded run, with another seed."""
    model, train = GPTConfig(**record.model), TrainConfig(**record.train | {"seed": seed})
    about = (
        record.study,
        record.recipe,
        record.arm,
        model,
        train,
        record.corpus["sha256"],
        record.data_share,
    )
    return RunSpec(*about)


def find(spec, folders, weights=True):
    """The record of this very run in the first folder that has it, and its weights if they are needed; else None."""
    for folder in map(Path, folders):
        path = folder / "logs" / f"{spec.name}.json"
        if path.is_file():
            record = RunRecord.load(path)
            if record.fingerprint == spec.fingerprint and (
                record.checkpoint.is_file() or not weights
            ):
                return record
    return None


def load_all(folder, corpus=None):
    """Every record of a results folder, in order of name; if a corpus is given, those trained on it."""
    records = map(RunRecord.load, sorted((Path(folder) / "logs").glob("*.json")))
    return [r for r in records if corpus is None or r.corpus["sha256"] == corpus.sha256]


def best(folders, corpus=None):
    """The record with the lowest validation loss in the first folder that has one with its weights."""
    for folder in folders:
        records = [record for record in load_all(folder, corpus) if record.checkpoint.is_file()]
        if records:
            return min(records, key=lambda r: r.validation_loss)
    raise RunError("there is no trained model of this text yet: `course train` makes one")


_unwritten = {}  # spec -> what was trained but could not be written, the disk being full: no need to train again


def execute(spec, corpus, folder, device="cpu", on_step=None, allow=None):
    """Train one run, from where it was stopped if it was, and write its weights and then its record. -> RunRecord

    on_step(n): called when n more steps are done. allow: as engine.make_engine's.
    """
    tokenizer, state = (
        CharTokenizer(corpus.text),
        Path(folder) / "checkpoints" / f"{spec.name}.state",
    )
    for left in state.parent.glob(f".{spec.name}.*"):  # by a process that was killed while it wrote
        left.unlink()
    if spec not in _unwritten:
        train_ids, validation_ids = split(torch.tensor(tokenizer.encode(corpus.text)))
        train_ids = train_ids[: round(spec.data_share * len(train_ids))]
        model = trainer.new_model(spec.model, spec.train, device)
        saved, save = (
            read_tensors(state, "saved state") if state.exists() else None,
            partial(write_tensors, state),
        )
        try:
            result = trainer.train(
                model, train_ids, validation_ids, spec.train, on_step, allow, saved, save
            )
        except KeyboardInterrupt as stop:
            words = "; its state is saved, and the same again goes on from there"
            raise KeyboardInterrupt(*(f"{said}{words}" for said in stop.args)) from None
        _unwritten[spec] = model, result
    model, result = _unwritten[spec]
    about = {name: getattr(corpus, name) for name in ("name", "sha256", "source", "note")}
    record = RunRecord(
        spec.name, spec.study, spec.recipe, spec.arm, spec.train.seed, spec.fingerprint, asdict(spec.model),
        asdict(spec.train), about, count_parameters(model), data_share=spec.data_share, environment=environment(device),
        **asdict(result),
    )  # fmt: skip
    save_model(Path(folder) / "checkpoints" / f"{spec.name}.safetensors", model, tokenizer.alphabet)
    record.save(Path(folder))
    state.unlink(missing_ok=True)
    del _unwritten[spec]
    return record


def load_or_train(spec, corpus, device="cpu"):
    """A model and its record: the reader's own run if there is one, else the published one, else one trained now."""
    record = find_or_train(spec, corpus, device, weights=True)
    return load_model(record.checkpoint)[0].to(device), record


def find_or_train(spec, corpus, device="cpu", weights=False):
    """The record alone, from the reader's own runs, else the published ones, else trained now; says which."""
    record = find(spec, [files.results(), files.PUBLISHED], weights)
    if record:
        whose = "the published run" if record.folder == files.PUBLISHED else "your run"
    else:
        with (
            lock(files.results()),
            tqdm(total=spec.train.steps, desc=f"training {spec.arm}", leave=False) as bar,
        ):
            mine = find(
                spec, [files.results()], weights
            )  # another process may have made it meanwhile
            record = mine or execute(spec, corpus, files.results(), device, bar.update)
        whose = "trained just now"
    print(
        f"{spec.arm}, seed {spec.train.seed}: {record.validation_loss:.3f} nats/character ({whose})"
    )
    return record


def environment(device):
    """What a number depends on besides the spec."""
    kind = torch.device(device).type
    return {
        "device": torch.cuda.get_device_name()
        if kind == "cuda"
        else f"{kind} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command(),
    }


def command():
    """The command line, without the folders of this machine."""
    return " ".join(Path(w).name if Path(w).is_absolute() else w for w in sys.argv).replace(
        "__main__.py", "course"
    )
