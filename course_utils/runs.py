"""Training runs on disk: one JSON record and one file of weights each, found again by what they are."""

import hashlib
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from course_utils import paths, trainer
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPT, GPTConfig, count_parameters
from course_utils.lessons.train import TrainConfig

FORMAT = "1"  # of checkpoints and records


class RunError(ValueError):
    """A record or checkpoint can't be used; the message says why."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result: two runs of one spec are the same run."""

    study: str  # the question it belongs to, a name in studies.STUDIES
    recipe: str  # a name in studies.RECIPES
    arm: str  # what is compared, such as "4 layers"
    model: GPTConfig
    train: TrainConfig
    corpus_sha256: str

    @property
    def fingerprint(self):
        parts = {"model": asdict(self.model), "train": asdict(self.train), "corpus": self.corpus_sha256}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self):
        return f"{self.arm.replace(' ', '-')}_seed-{self.train.seed}_{self.fingerprint}"


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
    environment: dict = field(default_factory=dict)
    format: str = FORMAT
    folder: Path | None = None  # where it lies; not written

    @property
    def checkpoint(self):
        return self.folder / "checkpoints" / f"{self.name}.safetensors"

    def save(self, folder):
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write(folder / "logs" / f"{self.name}.json", json.dumps(content, indent=1, ensure_ascii=False).encode())
        self.folder = folder

    @classmethod
    def load(cls, path):
        path = Path(path)
        try:
            record = cls(**json.loads(path.read_text(encoding="utf-8")), folder=path.parent.parent)
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{path} is not a run record of this course ({type(error).__name__}); delete it") from None
        if record.format != FORMAT:
            raise RunError(f"{path} has format {record.format}; this course reads format {FORMAT}")
        return record


def write(path, content):
    """Write bytes so that the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(path, model, alphabet, dtype=torch.float32):
    """Weights and all that is needed to use them, as one safetensors file, whole or absent."""
    weights = {name: weight.to("cpu", dtype).contiguous() for name, weight in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    about = {"format": FORMAT, "config": asdict(model.config), "alphabet": alphabet}
    write(path, save(weights, metadata={"course": json.dumps(about)}))  # one entry: their order would be random


def load_model(path, alphabet=None):
    """A model in evaluation mode and its tokenizer, from a checkpoint; nothing in the file is executed.

    alphabet: if given, the characters that the checkpoint must have been trained on.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("course", "{}"))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path} is damaged or not a safetensors file ({error})") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise RunError(f"{path} is not a checkpoint of this course in format {FORMAT}")
    try:
        model = GPT(GPTConfig(**about["config"]))
        if model.config.tie_embeddings:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights)
        tokenizer = CharTokenizer(about["alphabet"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise RunError(f"{path}: its weights do not fit the model that it describes") from None
    if tokenizer.vocab_size != model.config.vocab_size or not all(w.isfinite().all() for w in weights.values()):
        raise RunError(f"{path} holds weights that are not numbers, or an alphabet of another size than its model's")
    if alphabet is not None and alphabet != tokenizer.alphabet:
        raise RunError(
            f"{path} was trained on another alphabet ({tokenizer.vocab_size} characters, the text has "
            f"{len(alphabet)}): choose a checkpoint of this text, or train one"
        )
    return model.eval(), tokenizer


def find(spec, folders, weights=True):
    """The record of this very run in the first folder that has it, and its weights if they are needed; else None."""
    for folder in map(Path, folders):
        path = folder / "logs" / f"{spec.name}.json"
        if path.is_file():
            record = RunRecord.load(path)
            if record.fingerprint == spec.fingerprint and (record.checkpoint.is_file() or not weights):
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


def execute(spec, corpus, folder, device="cpu", on_step=None, allow=None):
    """Train one run and write its weights and then its record. allow: as engine.make_engine's. -> RunRecord"""
    tokenizer = CharTokenizer(corpus.text)
    train_ids, validation_ids = split(torch.tensor(tokenizer.encode(corpus.text)))
    model = trainer.new_model(spec.model, spec.train, device)
    result = trainer.train(model, train_ids, validation_ids, spec.train, on_step, allow)
    about = {name: getattr(corpus, name) for name in ("name", "sha256", "source", "note")}
    record = RunRecord(
        spec.name, spec.study, spec.recipe, spec.arm, spec.train.seed, spec.fingerprint, asdict(spec.model),
        asdict(spec.train), about, count_parameters(model), environment=environment(device), **asdict(result),
    )  # fmt: skip
    save_model(Path(folder) / "checkpoints" / f"{spec.name}.safetensors", model, tokenizer.alphabet)
    record.save(Path(folder))
    return record


def load_or_train(spec, corpus, device="cpu"):
    """A model and its record: the reader's own run if there is one, else the published one, else one trained now."""
    record = find_or_train(spec, corpus, device, weights=True)
    return load_model(record.checkpoint)[0].to(device), record


def find_or_train(spec, corpus, device="cpu", weights=False):
    """The record alone, from the reader's own runs, else the published ones, else trained now; says which."""
    record = find(spec, [paths.results(), paths.PUBLISHED], weights)
    if record:
        whose = "the published run" if record.folder == paths.PUBLISHED else "your run"
    else:
        with tqdm(total=spec.train.steps, desc=f"training {spec.arm}", unit="step", leave=False) as bar:
            record = execute(spec, corpus, paths.results(), device, bar.update)
        whose = "trained just now"
    print(f"{spec.arm}, seed {spec.train.seed}: {record.validation_loss:.3f} nats/character ({whose})")
    return record


def environment(device):
    """What a number depends on besides the spec."""
    kind = torch.device(device).type
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else f"{kind} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "command": command(),
    }


def command():
    """The command line, without the folders of this machine."""
    return " ".join(Path(w).name if Path(w).is_absolute() else w for w in sys.argv).replace("__main__.py", "course")
