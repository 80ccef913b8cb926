"""The experiments as data: what is asked, which arms answer, over which seeds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from course_utils import profiles
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.research.effects import PAIRED, best_rates
from course_utils.training import runs
from course_utils.training.recipes import named_recipe

REFERENCE = "unchanged"  # the arm that others are measured against, where there is one
DEPTHS, ALL_DEPTHS = (2, 4, 6), (1, 2, 4, 6, 8, 12)


@dataclass(frozen=True)
class Study:
    """One question: arms that differ from one recipe in a few settings, over paired seeds.

    A setting of an arm may be a function of the recipe's own value. Another context or batch keeps the recipe's
    characters: a step's with the context, the whole run's with the batch.
    """

    name: str
    question: str
    arms: (
        dict | Callable
    )  # arm -> {setting: value}, or a function of (recipe, earlier records) that gives it
    recipe: str = ""  # what the published study changes; a quick profile changes its own
    seeds: range = range(6)  # of the published study
    after: str = ""  # the study whose records decide the arms

    def specs(self, recipe, seeds, corpus, earlier=()):
        """All runs, seed by seed. corpus: a corpus.Corpus. earlier: records of `after`. -> list of runs.RunSpec"""
        arms = self.arms(recipe, earlier) if callable(self.arms) else self.arms
        return [
            self._spec(recipe, arm, changes, seed, corpus)
            for seed in seeds
            for arm, changes in arms.items()
        ]

    def _spec(self, recipe, arm, changes, seed, corpus):
        model, train = named_recipe(recipe)
        model, train = (
            GPTConfig(**{"vocab_size": len(set(corpus.text)), **model}),
            replace(train, seed=seed),
        )
        base = vars(model) | vars(train) | {"data_share": 1.0}
        if unknown := changes.keys() - base.keys():
            raise ValueError(f"arm {arm!r} changes {', '.join(unknown)}, which is no setting")
        changes = {name: resolved(value, base[name]) for name, value in changes.items()}
        if "seed" in changes:
            changes["seed"] += seed
        if "context_length" in changes and "batch_size" not in changes:
            characters = model.context_length * train.batch_size
            changes["batch_size"] = max(1, characters // changes["context_length"])
        elif "batch_size" in changes and "steps" not in changes:
            changes["steps"] = max(1, train.steps * train.batch_size // changes["batch_size"])
        if "steps" in changes and train.evaluate_every == train.steps:  # once, at the end
            changes["evaluate_every"] = changes["steps"]
        of_model = {k: v for k, v in changes.items() if k in GPTConfig.__dataclass_fields__}
        of_train = {k: v for k, v in changes.items() if k in TrainConfig.__dataclass_fields__}
        model, train, share = (
            replace(model, **of_model),
            replace(train, **of_train),
            changes.get("data_share", 1.0),
        )
        return runs.RunSpec(self.name, recipe, arm, model, train, corpus.sha256, share)


def layers(n):
    return f"{n} layer" if n == 1 else f"{n} layers"


def times(factor):
    return lambda value: max(1, round(value * factor))


def resolved(value, own):
    return value(own) if callable(value) else value


CHOICES = (  # each asks about one setting; arms that a recipe has already are its reference
    Study("position", "How should the model know where a character stands?", {
        "no positions": {"position": "none"}, "learned positions": {"position": "learned"},
        "sinusoidal positions": {"position": "sinusoidal"}, "rotary positions": {"position": "rope"}}),
    Study("norm", "Which normalisation, and where?", {
        "LayerNorm before": {"norm": "layernorm", "norm_placement": "pre"}, "no norm": {"norm": "none"},
        "LayerNorm after": {"norm": "layernorm", "norm_placement": "post"},
        "RMSNorm before": {"norm": "rmsnorm", "norm_placement": "pre"}}),
    Study("activation", "Which bend in the feed-forward layer?", {
        "GELU": {"activation": "gelu"}, "ReLU": {"activation": "relu"}, "squared ReLU": {"activation": "relu2"},
        "SwiGLU": {"activation": "swiglu"}}),
    Study("heads", "How many heads?", {
        "1 head": {"n_heads": 1}, **{f"{n} heads": {"n_heads": n} for n in (2, 4, 8, 16)}}),
    Study("width", "How wide a feed-forward layer?", {
        f"feed-forward x {factor:g}": {"d_ff": times(factor)} for factor in (0.25, 0.5, 1, 2)}),
    Study("residual", "What does the residual stream do?", {
        "residuals": {"residual": True}, "no residuals": {"residual": False}}),
    Study("dropout", "How much should be dropped?", {
        f"dropout {share}": {"dropout": share} for share in (0.0, 0.1, 0.2, 0.3, 0.5)}),
    Study("tying", "One matrix to read and to write?", {
        "tied embeddings": {"tie_embeddings": True}, "two embeddings": {"tie_embeddings": False}}),
    Study("qk-norm", "Should queries and keys be of one size?", {
        "QK-norm": {"qk_norm": True}, "no QK-norm": {"qk_norm": False}}),
    Study("context", "How far back should it see?", {
        f"context {n}": {"context_length": n} for n in (32, 64, 128, 256, 512)}),
    Study("optimizer", "AdamW or Muon?", {
        "Muon": {"optimizer": "muon"},
        "AdamW": {"optimizer": "adamw", "learning_rate": lambda rate: min(rate, 2.4e-3)}}),
    Study("schedule", "How should the learning rate move?", {
        "constant rate": {"decay": 0.0}, "falling over the second half": {"decay": 0.5},
        "falling all the time": {"decay": 1.0}, "no warm-up": {"warmup_steps": 0}}),
    Study("batch", "Many small steps, or few large ones?", {
        f"batch x {factor:g}": {"batch_size": times(factor)} for factor in (0.5, 1, 2, 4)}),
)  # fmt: skip


def every_choice(base=()):
    """Arms for all of CHOICES at once: one change each from the recipe with the settings of base."""

    def arms(recipe, earlier):
        common = dict(base(earlier)) if base else {}
        model, train = named_recipe(recipe)
        own = vars(GPTConfig(**model)) | vars(replace(train, **common))
        found = {REFERENCE: common}
        for study in CHOICES:
            for arm, changes in study.arms.items():
                if any(resolved(value, own[name]) != own[name] for name, value in changes.items()):
                    found[arm] = common | changes
        return found | {f"{REFERENCE}, other seeds": common | {"seed": PAIRED}}

    return arms


def fair(depths, more="", **changes):
    """Arms of these depths, each at the learning rate that was best for it.

    changes: setting -> {depth: value}; more: what they add to an arm's name, as two studies may share a folder.
    """

    def arms(recipe, earlier):
        rates = best_rates(earlier)
        others = {n: {name: by[n] for name, by in changes.items()} for n in depths}
        return {
            layers(n) + more.format(**others[n]): {
                "n_layers": n,
                "learning_rate": rates[n],
                **others[n],
            }
            for n in depths
        }

    return arms


def shares(recipe, earlier):
    """Every depth and share of the training text; evaluated often, as a small text is soon known by heart."""
    rates = best_rates(earlier)
    return {
        f"{layers(n)}, {share:.0%} of the text": {
            "n_layers": n, "learning_rate": rates[n], "data_share": share, "evaluate_every": times(1 / 12)}
        for n in DEPTHS
        for share in (0.1, 0.2, 0.4, 0.7, 1.0)
    }  # fmt: skip


def sweep(depths, rates):
    return {
        f"{layers(n)}, rate {rate:g}": {"n_layers": n, "learning_rate": rate}
        for n in depths
        for rate in rates
    }


WIDTHS = {
    2: 440,
    4: 312,
    6: 256,
}  # which give 2, 4 and 6 layers about the same number of parameters
TIMES = {
    2: 3020,
    4: 1655,
    6: 1200,
}  # steps that took as long on an H100: 0.85, 1.55 and 2.14 ms each
CHOOSING = range(100, 102)  # seeds that choose, and report nothing
RATES = (3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3, 9.6e-3, 1.92e-2)

STUDIES = {
    study.name: study
    for study in (
        Study("depth", "What do 2, 4 and 6 layers buy?", {layers(n): {"n_layers": n} for n in DEPTHS}, "baseline"),
        Study("rates", "Which learning rate suits which depth?", sweep(ALL_DEPTHS, RATES), "fair", CHOOSING),
        Study("depth-fair", "And at a learning rate that suits each depth, from 1 to 12 layers?",
              fair(ALL_DEPTHS), "fair", after="rates"),
        Study("depth-parameters", "And with equally many parameters?", fair(
              DEPTHS, ", width {d_model}", d_model=WIDTHS, d_ff={n: 4 * width for n, width in WIDTHS.items()}),
              "fair", after="rates"),
        Study("depth-time", "And in the same time?",
              fair(DEPTHS, ", {steps} steps", steps=TIMES), "fair", after="rates"),
        Study("rates-stopping", "Which rate suits which depth in the assignment's own protocol?", sweep(
              DEPTHS, RATES[:-2]), "baseline", CHOOSING),
        Study("depth-stopping", "Does the answer of that protocol survive a fair rate?",
              fair(DEPTHS), "baseline", after="rates-stopping"),
        Study("choices-fair", "What does every other choice do to the baseline's model?",
              every_choice(lambda earlier: {"learning_rate": best_rates(earlier)[6]}), "fair", after="rates"),
        Study("choices-modern", "And to the modern one?", every_choice(), "modern-short"),
        Study("data", "When does depth need data?", shares, "fair", after="rates"),
        *CHOICES,
    )
}  # fmt: skip
RECORDED = [name for name, study in STUDIES.items() if study.recipe]


def records(study, corpus, seeds=None):
    """A study's runs at this machine's size: the reader's own, else the published, else made now.

    seeds: how many; as many as the profile asks for where nothing is said. -> list of runs.RunRecord
    """
    profile, device = profiles.current(), profiles.device()
    specs = study.specs(profile.recipe, range(seeds or profile.seeds), corpus)
    return [runs.find_or_train(spec, corpus, device) for spec in specs]
