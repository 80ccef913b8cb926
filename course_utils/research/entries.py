"""The table of records: an entry, the seeds that it is tried on, and whether its claim holds.

An entry is a file that anybody can write: a model, how it is trained, and the loss that it claims.
So it is read with suspicion. It is tried on seeds that nobody picked, each of them counts, and what
came of each is kept as soon as it is there.
"""

import hashlib
import json
import math
import re
import statistics
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import files
from course_utils.corpus import SHA256
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.messages import _
from course_utils.research.comparisons import ALIKE
from course_utils.research.terminal import broken
from course_utils.training import checkpoints, distillation, engine, runs, trainer
from course_utils.training.recipes import named_recipe

FILE = files.PUBLISHED / "records.json"  # a list of results

# The rules of the table.
LEAST_SEEDS = 5
MARGIN = 3  # standard deviations of one seed, that (claim - mean) · √seeds must reach
MOST_PARAMETERS = 10_750_000  # nanoGPT's model for this text has 10.65 million

# Bounds of what is read and tried.
LONGEST = 2**20  # bytes of an entry
MOST_STEPS = 2**28
NAME = re.compile(r"[\w .,+()-]{1,60}")  # harmless in a table, on a page, on a terminal


@dataclass(frozen=True)
class Entry:
    """A model, how it is trained, and the loss that it is said to reach."""

    name: str
    claim: float  # nats/character
    model: GPTConfig
    training: TrainConfig  # but for its seed
    teachers: int = 0
    share: float = 0.5  # of the targets, that which is the teachers'
    teaching: TrainConfig | None = None  # how they are trained, if not as the student

    @classmethod
    def load(cls, path, vocab_size):
        """The entry in a file, for a text of so many characters. RunError: it is none, and why."""
        return read(path, lambda values: cls.from_values(values, vocab_size))

    @classmethod
    def from_values(cls, values, vocab_size):
        """What a file says; a ValueError names what is missing, unknown, or of no use."""
        by_recipe = isinstance(values, dict) and "recipe" in values
        needed = {"name", "claim"} | ({"recipe"} if by_recipe else {"model", "training"})
        check_names(values, needed, {"teachers", "share", "teaching"}, _("the entry"))
        if by_recipe:
            model, training = named_recipe(files.of_type(str, values["recipe"], "recipe"))
            model = GPTConfig(**model | {"vocab_size": vocab_size})
        else:
            model = settings(GPTConfig, values["model"], "model", {"vocab_size": vocab_size})
            training = settings(TrainConfig, values["training"], "training", {"seed": 0})
        teaching = values.get("teaching")
        if teaching is not None:
            teaching = settings(TrainConfig, teaching, "teaching", {"seed": 0})

        entry = cls(
            name=files.of_type(str, values["name"], "name"),
            claim=files.of_type(float, values["claim"], "claim"),
            model=model,
            training=training,
            teachers=files.of_type(int, values.get("teachers", 0), "teachers"),
            share=files.of_type(float, values.get("share", 0.5), "share"),
            teaching=teaching,
        )
        entry.check(vocab_size)
        return entry

    def check(self, vocab_size):
        """A ValueError for what nobody could try, or not on a text of so many characters."""
        if not NAME.fullmatch(self.name):
            raise ValueError(_("name: 1 to 60 letters, digits, blanks and signs of _.,+()-"))
        if not 0 < self.claim <= trainer.DIVERGED:
            raise ValueError(_("claim must be a loss in nats/character, not {n}", n=self.claim))
        most = distillation.TEACHERS
        if not (0 <= self.share <= 1 and 0 <= self.teachers <= most):
            raise ValueError(_("share must lie in [0, 1], teachers in 0 … {most}", most=most))
        if self.model.vocab_size != vocab_size:
            raise ValueError(_("model: vocab_size must be the text's, {n}", n=vocab_size))
        checkpoints.check_bounds(self.model)
        for config in filter(None, (self.training, self.teaching)):
            batch = config.batch_size * self.model.context_length
            if config.steps > MOST_STEPS or batch > checkpoints.MOST_NUMBERS:
                raise ValueError(
                    _(
                        "steps, and the characters of a batch, must be at most {most:,}",
                        most=min(MOST_STEPS, checkpoints.MOST_NUMBERS),
                    )
                )

    @property
    def first_seed(self):
        """The first of the seeds that it is tried on, drawn from its name: nobody's choice."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")

    @property
    def parameters(self):
        return engine.parameters_of(self.model)

    @property
    def steps(self):
        """Of one seed, with its teachers'."""
        return self.training.steps + self.teachers * (self.teaching or self.training).steps

    @property
    def work(self):
        """About how long one seed takes, as engine.work has it."""
        taught = engine.work(self.model, self.teaching or self.training)
        return engine.work(self.model, self.training) + self.teachers * taught

    def content(self):
        """What a file says of it: with a model and a training in place of a recipe."""
        values = asdict(self)
        for name in ("training", "teaching"):
            if values[name]:
                del values[name]["seed"]
        return values


def read(path, parse):
    """What a JSON file says, parsed. RunError: it doesn't say that, and why."""
    path = Path(path)
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(_("it is too large"))
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise files.RunError(
            _(
                "{path} does not say what the table of records needs ({reason}); the book's page "
                "on records shows what that is",
                path=path,
                reason=reason,
            )
        ) from None


def settings(kind, values, where, given):
    """A GPTConfig or TrainConfig of which a file says each field, but for those that are given.

    Fields are not left to their defaults: if one changed, the entry would be another. A size of
    the alphabet may be said, a seed may not.
    """
    names = {field.name for field in fields(kind)} - given.keys()
    check_names(values, names, given.keys() - {"seed"}, where)
    try:
        said = files.fields_of(kind, given | values)
        if not all(math.isfinite(n) for n in said.values() if isinstance(n, float)):
            raise ValueError(_("not all in it are numbers"))
        return kind(**said)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def check_names(values, needed, allowed, where):
    """A ValueError that names the fields that are missing, or that nobody knows."""
    if not isinstance(values, dict):
        raise ValueError(_("{where} is not a JSON object", where=where))
    if missing := needed - values.keys():
        raise ValueError(_("{where} lacks {names}", where=where, names=", ".join(sorted(missing))))
    if unknown := sorted(values.keys() - needed - allowed):
        known = ", ".join(sorted(needed | allowed))
        raise ValueError(
            _(
                "{where} has {name!r:.40}, which is none of {known}",
                where=where,
                name=unknown[0],
                known=known,
            )
        )


# --- what comes of it -----------------------------------------------------------------------------
@dataclass(frozen=True)
class Trial:
    """One seed of an entry."""

    seed: int
    loss: float  # nats/character, over the whole validation split
    training_s: float  # with its evaluations
    setup_s: float  # compiling and capturing, before the first step
    teachers_s: float  # all of theirs
    regime: str

    @property
    def all_s(self):
        return self.training_s + self.setup_s + self.teachers_s

    def in_words(self):
        return _(
            "seed {seed}: {loss:.4f} nats/character; training and evaluating {training:.1f} s, "
            "set-up {setup:.1f} s, teachers {teachers:.1f} s ({regime})",
            seed=self.seed,
            loss=self.loss,
            training=self.training_s,
            setup=self.setup_s,
            teachers=self.teachers_s,
            regime=self.regime,
        )


@dataclass
class Result:
    """What came of an entry on one machine: trials, whose seeds follow one another."""

    entry: Entry
    corpus: dict  # name, sha256
    environment: dict
    trials: list

    @classmethod
    def from_values(cls, values, vocab_size=None):
        """What a file says; a ValueError names what no result says.

        vocab_size: of the text, where it is at hand; else the entry's is believed.
        """
        check_names(values, {field.name for field in fields(cls)}, set(), _("the result"))
        own = values["entry"]["model"]["vocab_size"]
        for name in ("name", "sha256"):
            files.of_type(str, values["corpus"][name], f"the corpus's {name}")
        for name in ("device", "torch", "code", "threads"):
            values["environment"][name]
        entry = Entry.from_values(values["entry"], vocab_size or own)
        trials = [Trial(**files.fields_of(Trial, trial)) for trial in values["trials"]]
        seeds = [trial.seed for trial in trials]
        if not seeds or seeds != [*range(seeds[0], seeds[0] + len(seeds))]:
            raise ValueError(_("a seed is left out"))
        if not all(0 <= trial.loss <= trainer.DIVERGED for trial in trials):
            raise ValueError(_("losses that no run has"))
        return cls(entry, values["corpus"], values["environment"], trials)

    @property
    def losses(self):
        return [trial.loss for trial in self.trials]

    @property
    def mean(self):
        return statistics.mean(self.losses)

    @property
    def sd(self):
        """Of one seed; a single one doesn't say."""
        return statistics.stdev(self.losses) if len(self.trials) > 1 else math.nan

    @property
    def surplus(self):
        """(claim - mean) · √n, nats/character."""
        return (self.entry.claim - self.mean) * len(self.trials) ** 0.5

    @property
    def holds(self):
        """Whether the mean of all seeds lies as far below the claim as the rules ask for."""
        return len(self.trials) >= LEAST_SEEDS and self.surplus >= MARGIN * self.sd

    def content(self):
        return vars(self) | {
            "entry": self.entry.content(),
            "trials": [asdict(trial) for trial in self.trials],
        }

    def save(self, path):
        content = json.dumps(self.content(), indent=1, ensure_ascii=False)
        files.write(path, content.encode())

    def in_words(self):
        """All seeds together, in a sentence."""
        first = self.trials[0].seed
        whence = _("chosen")
        if first == self.entry.first_seed:
            whence = _("drawn from its name")
        return _(
            "{name}: mean {mean:.4f}, worst {worst:.4f}, SD {sd:.4f} over {n} seeds from {first} "
            "on ({whence}); context {context:,}, {parameters:,} parameters, {device}.",
            name=self.entry.name,
            mean=self.mean,
            worst=max(self.losses),
            sd=self.sd,
            n=len(self.trials),
            first=first,
            whence=whence,
            context=self.entry.model.context_length,
            parameters=self.entry.parameters,
            device=self.environment["device"],
        )

    def verdict(self):
        """Whether the claim holds by the rules, in a sentence."""
        if len(self.trials) < LEAST_SEEDS:
            n = len(self.trials)
            return _("no verdict: {n} seeds, and {least} are asked for", n=n, least=LEAST_SEEDS)
        words = {
            "claim": self.entry.claim,
            "surplus": self.surplus,
            "margin": MARGIN,
            "asked": MARGIN * self.sd,
        }
        if self.holds:
            return _(
                "the claim of {claim:.4f} holds: (claim - mean) · √n is {surplus:.4f}, and "
                "{margin} · SD is {asked:.4f}",
                **words,
            )
        return _(
            "the claim of {claim:.4f} does not hold: (claim - mean) · √n is {surplus:.4f}, and "
            "{margin} · SD is {asked:.4f}",
            **words,
        )

    def outside(self):
        """Why it has no place in the main table: "", or a few words."""
        if not self.holds:
            return self.verdict()
        if self.trials[0].seed != self.entry.first_seed:
            return _("other seeds than those drawn from its name")
        if self.entry.parameters > MOST_PARAMETERS:
            return _("more than {most:,} parameters", most=MOST_PARAMETERS)
        return "" if self.corpus["sha256"] == SHA256 else _("another text")


def load_all():
    """The recorded results; none where the course came without them."""
    if not FILE.is_file():
        return []
    return read(FILE, lambda values: [Result.from_values(value) for value in values])


# --- trying one -----------------------------------------------------------------------------------
def verify(entry, corpus, folder, device="cpu", seeds=LEAST_SEEDS, first=None, asked=()):
    """Try an entry on so many seeds that follow one another, and keep each as it ends.

    Those that a stopped try has left in the folder count, whatever came of them. first: the first
    seed, where it isn't the entry's own. asked: as engine.pieces_for's. -> (Result, its path)
    """
    first = entry.first_seed if first is None else first
    if distillation.TEACHERS * (first + seeds + 1) > runs.LARGEST_SEED:
        most = runs.LARGEST_SEED // distillation.TEACHERS - seeds - 1
        raise ValueError(_("the first seed must be at most {most}", most=most))
    path = Path(folder) / "records" / f"{name_of(entry, corpus, first)}.json"
    result = found(path, entry, corpus, device)
    for trial in result.trials:
        tqdm.write(broken(trial.in_words()))

    ids = torch.tensor(CharTokenizer(corpus.text).encode(corpus.text), device=device)
    pieces = engine.pieces_for(seeds * entry.work, asked)
    left = range(first + len(result.trials), first + seeds)
    with tqdm(total=len(left) * entry.steps, unit=_("step"), disable=None if left else True) as bar:
        for seed in left:
            bar.set_description(_("seed {seed}", seed=seed))
            result.trials.append(tried(entry, seed, ids, pieces, bar.update))
            result.save(path)
            tqdm.write(broken(result.trials[-1].in_words()))
    return result, path


def name_of(entry, corpus, first):
    """What the file of its trials is called: by all that decides their losses."""
    values = entry.content() | {"corpus": corpus.sha256}
    del values["name"], values["claim"]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return runs.run_name(entry.name, first, digest[:8])


def found(path, entry, corpus, device):
    """The result as far as it got, on this machine and by this code, or one without trials."""
    environment = runs.environment(device)
    about = {"name": corpus.name, "sha256": corpus.sha256}
    if not path.is_file():
        return Result(entry, about, environment, [])
    there = read(path, partial(Result.from_values, vocab_size=entry.model.vocab_size))
    if any(there.environment[name] != environment[name] for name in ALIKE):
        raise files.RunError(
            _(
                "{path} was begun on another device or with other versions: name another folder "
                "with --out, or delete it",
                path=path,
            )
        )
    return replace(there, entry=entry)


def tried(entry, seed, ids, pieces, on_step):
    """One seed of an entry: trained and measured. -> Trial"""
    training = replace(entry.training, seed=seed)
    taught = entry.teachers, entry.share, entry.teaching
    try:
        its, teachers_s = distillation.train(
            entry.model, training, *split(ids), *taught, pieces, on_step
        )[1:]
    except trainer.TrainingError as error:
        words = _("seed {seed}: {error}; no seed of an entry is left out", seed=seed, error=error)
        raise trainer.TrainingError(words) from None
    except KeyboardInterrupt:  # its words are of one run; the command's, of all
        raise KeyboardInterrupt from None
    return Trial(seed, its.validation_loss, its.elapsed_s, its.setup_s, teachers_s, its.regime)
