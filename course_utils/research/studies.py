"""The experiments as data: what is asked, which arms answer, over which seeds."""

from dataclasses import dataclass, field

from course_utils import profiles
from course_utils.corpus import Draw
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.messages import N_, _
from course_utils.messages.names import translated
from course_utils.research import recorded
from course_utils.research.comparisons import CONTROL, PAIRED, REFERENCE
from course_utils.research.tables import rate_table
from course_utils.training import runs
from course_utils.training.recipes import layers, named_recipe

# --- how an arm's settings are written -----------------------------------------------------------
# A setting is given as it is, or as one of these, which depend on the recipe that the arm changes.


@dataclass(frozen=True)
class Times:
    """The recipe's own number, so many times."""

    factor: float

    def of(self, own):
        return max(1, round(own * self.factor))


@dataclass(frozen=True)
class Plus:
    """The recipe's own number, and so much more."""

    more: int

    def of(self, own):
        return own + self.more


@dataclass(frozen=True)
class AtMost:
    """The recipe's own number, where it isn't larger."""

    limit: float

    def of(self, own):
        return min(own, self.limit)


OF_THE_RUN = {"data_share": 1.0, "plays": None, "weights_offset": 0}  # runs.RunSpec's own settings
SETTINGS = {
    *GPTConfig.__dataclass_fields__,
    *TrainConfig.__dataclass_fields__,
    *OF_THE_RUN,
}
BEST_RATE = "best rate"  # the learning rate that suits the arm's depth, as `Study.after` found it


@dataclass(frozen=True)
class Study:
    """One question: arms that differ from one recipe in a few settings, over paired seeds.

    Another context or batch keeps the recipe's characters: a step's with the context, the whole
    run's with the batch.
    """

    name: str
    asks: str  # its question, in English
    arms: dict  # arm -> {setting: value}
    recipe: str = ""  # what the published study changes; a quick profile changes its own
    seeds: range = range(6)  # of the published study
    after: str = ""  # the study that finds BEST_RATE
    common: dict = field(default_factory=dict)  # what all arms change
    reference: str = ""  # the arm to measure against; arms that come out the same are left out

    def __post_init__(self):
        for arm, changes in self.arms.items():
            if unknown := changes.keys() - SETTINGS:
                raise ValueError(f"arm {arm!r} changes {', '.join(unknown)}, which is no setting")

    @property
    def question(self):
        """What it asks, in the reader's language."""
        return translated(_(self.asks))

    def specs(self, recipe, seeds, corpus, earlier=()):
        """All runs, seed by seed. earlier: records of `after`. -> list of runs.RunSpec"""
        rates = best_rates(earlier) if self.after else {}
        vocab_size = len(set(corpus.text))
        specs = []
        for seed in seeds:
            base = self.base(recipe, seed, vocab_size, rates)
            arms = {arm: changed(base, changes, rates) for arm, changes in self.arms.items()}
            for arm, settings in arms.items():
                if arm == self.reference or not self.reference or settings != base:
                    specs.append(self.spec(recipe, arm, settings, corpus))
        return specs

    def base(self, recipe, seed, vocab_size, rates):
        """All settings before an arm changes some. rates: {n_layers: BEST_RATE}"""
        model, train = named_recipe(recipe)
        own = vars(GPTConfig(**{"vocab_size": vocab_size, **model})) | vars(train)
        return changed(own | OF_THE_RUN | {"seed": seed}, self.common, rates)

    def spec(self, recipe, arm, settings, corpus):
        model = GPTConfig(**{name: settings[name] for name in GPTConfig.__dataclass_fields__})
        train = TrainConfig(**{name: settings[name] for name in TrainConfig.__dataclass_fields__})
        more = {name: settings[name] for name in OF_THE_RUN}
        return runs.RunSpec(self.name, recipe, arm, model, train, corpus.sha256, **more)


def changed(own, changes, rates):
    """All settings of a recipe's own, with an arm's changes and with what follows from them."""
    new = own | changes
    for name, value in changes.items():
        if hasattr(value, "of"):
            new[name] = value.of(own[name])
        elif value == BEST_RATE:
            new[name] = rates[new["n_layers"]]

    if "context_length" in changes and "batch_size" not in changes:
        characters = own["context_length"] * own["batch_size"]
        new["batch_size"] = max(1, characters // new["context_length"])
    elif "batch_size" in changes and "steps" not in changes:
        new["steps"] = max(1, own["steps"] * own["batch_size"] // new["batch_size"])
    if own["evaluate_every"] == own["steps"] and "evaluate_every" not in changes:
        new["evaluate_every"] = new["steps"]  # once, at the end
    return new


def best_rates(records):
    """The learning rate that suits each depth: {n_layers: rate}."""
    if not records:
        raise ValueError(
            _("learning rates are chosen by a study of their own: run `course ablate rates` first")
        )
    best = rate_table(records).query("best")
    return dict(zip(best["n_layers"], best["learning_rate"], strict=True))


def planned(study, profile, corpus, folder, recipe="", seeds=0, first_seed=None):
    """The runs of a study on this machine: the published ones on a GPU, else the profile's.

    recipe, seeds, first_seed: what somebody asked for instead, where it isn't empty.
    """
    published = profile.name == "gpu" and study.recipe
    recipe = recipe or (study.recipe if published else profile.study_recipe)
    count = seeds or (len(study.seeds) if published else profile.seeds)
    first = study.seeds.start if first_seed is None else first_seed

    earlier = []
    if study.after:  # one's own choice of rates, else the published one
        mine = runs.load_all(folder, corpus)
        earlier = [r for r in mine if (r.study, r.recipe) == (study.after, recipe)]
        earlier = earlier or recorded.load(study.after, corpus=corpus)
    return study.specs(recipe, range(first, first + count), corpus, earlier)


def records(study, corpus, seeds=None):
    """A study's runs at this machine's size: the reader's own, else the published, else made now.

    seeds: how many; as many as the profile asks for where nothing is said. -> list of RunRecord
    """
    profile = profiles.current()
    specs = study.specs(profile.recipe, range(seeds or profile.seeds), corpus)
    return [runs.find_or_train(spec, corpus, profiles.device()) for spec in specs]


# --- the studies ---------------------------------------------------------------------------------
DEPTHS = (2, 4, 6)
ALL_DEPTHS = (1, 2, 4, 6, 8, 12)
CHOOSING = range(100, 102)  # seeds that choose, and report nothing
RATES = (3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3, 9.6e-3, 1.92e-2)
MUON_RATES = (0.005, 0.01, 0.02, 0.04, 0.08)
WIDTHS = {2: 440, 4: 312, 6: 256}  # with which these depths have about equally many parameters
TIMES = {2: 3020, 4: 1655, 6: 1200}  # steps that took as long on an H100: 0.85, 1.55, 2.14 ms each
SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)  # of the training text
BUDGETS = (300, 600, 1200, 2400)  # steps
UNTOUCHED = (  # whole plays, named before any loss on them was seen; opened for what is reported
    "as-you-like-it",
    "cymbeline",
    "hamlet",
    "henry-v",
    "julius-caesar",
    "macbeth",
    "the-merchant-of-venice",
    "twelfth-night",
)
OTHER = (  # plays that Tiny Shakespeare has no line of, and that may be learned from: the judge's
    "a-midsummer-night-s-dream",
    "all-s-well-that-ends-well",
    "antony-and-cleopatra",
    "henry-iv-part-1",
    "henry-iv-part-2",
    "henry-vi-part-1",
    "henry-vi-part-2",
    "henry-viii",
    "king-john",
    "king-lear",
    "love-s-labours-lost",
    "much-ado-about-nothing",
    "othello",
    "pericles",
    "the-comedy-of-errors",
    "the-merry-wives-of-windsor",
    "timon-of-athens",
    "titus-andronicus",
    "troilus-and-cressida",
    "two-gentlemen-of-verona",
)
SHARED = (  # plays that stand whole in its training split
    "a-winter-s-tale",
    "coriolanus",
    "henry-vi-part-3",
    "measure-for-measure",
    "richard-ii",
    "richard-iii",
    "romeo-and-juliet",
)
TO_DRAW = (*OTHER, *SHARED)
LUCK = {  # what of a seed is another than in the run that it is compared with
    "other weights": {"weights_offset": PAIRED},
    "other batches": {"seed": Plus(PAIRED), "weights_offset": -PAIRED},
}
DRAWS = {  # how much of them
    "1 million characters": Draw(1_000_000, TO_DRAW),
    "2 million characters": Draw(2_000_000, TO_DRAW),
    f"all {len(TO_DRAW)} plays": Draw(4_000_000, TO_DRAW),
}

CHOICES = (  # each asks about one setting
    Study(
        "position",
        N_("How should the model know where a character stands?"),
        {
            "no positions": {"position": "none"},
            "learned positions": {"position": "learned"},
            "sinusoidal positions": {"position": "sinusoidal"},
            "rotary positions": {"position": "rope"},
        },
    ),
    Study(
        "norm",
        N_("Which normalisation, and where?"),
        {
            "LayerNorm before": {"norm": "layernorm", "norm_placement": "pre"},
            "no norm": {"norm": "none"},
            "LayerNorm after": {"norm": "layernorm", "norm_placement": "post"},
            "RMSNorm before": {"norm": "rmsnorm", "norm_placement": "pre"},
        },
    ),
    Study(
        "activation",
        N_("Which activation in the feed-forward layer?"),
        {
            "GELU": {"activation": "gelu"},
            "ReLU": {"activation": "relu"},
            "squared ReLU": {"activation": "relu2"},
            "SwiGLU": {"activation": "swiglu"},
        },
    ),
    Study(
        "heads",
        N_("How many heads?"),
        {
            "1 head": {"n_heads": 1},
            "2 heads": {"n_heads": 2},
            "4 heads": {"n_heads": 4},
            "8 heads": {"n_heads": 8},
            "16 heads": {"n_heads": 16},
        },
    ),
    Study(
        "width",
        N_("How wide a feed-forward layer?"),
        {f"feed-forward x {factor:g}": {"d_ff": Times(factor)} for factor in (0.25, 0.5, 1, 2)},
    ),
    Study(
        "residual",
        N_("What does the residual stream do?"),
        {"residuals": {"residual": True}, "no residuals": {"residual": False}},
    ),
    Study(
        "dropout",
        N_("How much should be dropped?"),
        {f"dropout {share}": {"dropout": share} for share in (0.0, 0.1, 0.2, 0.3, 0.5)},
    ),
    Study(
        "tying",
        N_("One matrix to read and to write?"),
        {"tied embeddings": {"tie_embeddings": True}, "two embeddings": {"tie_embeddings": False}},
    ),
    Study(
        "qk-norm",
        N_("Should queries and keys be of one size?"),
        {"QK-norm": {"qk_norm": True}, "no QK-norm": {"qk_norm": False}},
    ),
    Study(
        "context",
        N_("How far back should it see?"),
        {f"context {n}": {"context_length": n} for n in (32, 64, 128, 256, 512)},
    ),
    Study(
        "optimizer",
        N_("AdamW or Muon?"),
        {
            "Muon": {"optimizer": "muon"},
            "AdamW": {"optimizer": "adamw", "learning_rate": AtMost(2.4e-3)},
        },
    ),
    Study(
        "schedule",
        N_("How should the learning rate move?"),
        {
            "constant rate": {"decay": 0.0},
            "falling over the second half": {"decay": 0.5},
            "falling all the time": {"decay": 1.0},
            "no warm-up": {"warmup_steps": 0},
        },
    ),
    Study(
        "batch",
        N_("Many small steps, or few large ones?"),
        {f"batch x {factor:g}": {"batch_size": Times(factor)} for factor in (0.5, 1, 2, 4)},
    ),
)
EVERY_CHOICE = {  # one change at a time, and none, twice
    REFERENCE: {},
    **{arm: changes for study in CHOICES for arm, changes in study.arms.items()},
    CONTROL: {"seed": Plus(PAIRED)},
}


def sweep(depths, rates):
    """Each depth at each learning rate."""
    return {
        f"{layers(n)}, rate {rate:g}": {"n_layers": n, "learning_rate": rate}
        for n in depths
        for rate in rates
    }


def at_best_rate(depths):
    """Each depth at the learning rate that suits it."""
    return {layers(n): {"n_layers": n, "learning_rate": BEST_RATE} for n in depths}


FAIR = at_best_rate(ALL_DEPTHS)


def for_steps(steps):
    """What all runs of so many steps have in common."""
    return {"steps": steps, "warmup_steps": steps // 12}


def of_budget(steps):
    """Two studies of runs of so many steps: which rate suits which depth, and what depth buys."""
    common = for_steps(steps)
    rates = Study(
        f"rates-{steps}",
        f"Which learning rate suits which depth in {steps:,} steps?",
        sweep(ALL_DEPTHS, RATES[1:-1]),
        recipe="fair",
        seeds=range(100, 104),
        common=common,
    )
    depth = Study(
        f"depth-{steps}",
        f"What does depth buy in {steps:,} steps, each depth at its own rate?",
        FAIR,
        recipe="fair",
        seeds=range(10, 18),  # that no study has seen
        after=rates.name,
        common=common,
    )
    return rates, depth


ALL = (
    Study(
        "depth",
        N_("What do 2, 4 and 6 layers buy?"),
        {layers(n): {"n_layers": n} for n in DEPTHS},
        recipe="baseline",
    ),
    Study(
        "rates",
        N_("Which learning rate suits which depth?"),
        sweep(ALL_DEPTHS, RATES),
        recipe="fair",
        seeds=CHOOSING,
    ),
    Study(
        "depth-fair",
        N_("And at a learning rate that suits each depth, from 1 to 12 layers?"),
        FAIR,
        recipe="fair",
        after="rates",
    ),
    Study(
        "depth-parameters",
        N_("And with equally many parameters?"),
        {
            f"{layers(n)}, width {width}": FAIR[layers(n)] | {"d_model": width, "d_ff": 4 * width}
            for n, width in WIDTHS.items()
        },
        recipe="fair",
        after="rates",
    ),
    Study(
        "depth-time",
        N_("And in the same time?"),
        {
            f"{layers(n)}, {steps} steps": FAIR[layers(n)] | {"steps": steps}
            for n, steps in TIMES.items()
        },
        recipe="fair",
        after="rates",
    ),
    Study(
        "rates-stopping",
        N_("Which rate suits which depth in the assignment's own protocol?"),
        sweep(DEPTHS, RATES[:-2]),
        recipe="baseline",
        seeds=CHOOSING,
    ),
    Study(
        "depth-stopping",
        N_("Does the answer of that protocol survive a fair rate?"),
        at_best_rate(DEPTHS),
        recipe="baseline",
        after="rates-stopping",
    ),
    Study(
        "choices-fair",
        N_("What does every other choice do to the baseline's model?"),
        EVERY_CHOICE,
        recipe="fair",
        after="rates",
        common={"learning_rate": BEST_RATE},
        reference=REFERENCE,
    ),
    Study(
        "choices-modern",
        N_("And to the modern one?"),
        EVERY_CHOICE,
        recipe="modern-short",
        reference=REFERENCE,
    ),
    Study(
        "data",
        N_("When does depth need data?"),
        {  # evaluated often, as a small text is soon known by heart
            f"{layers(n)}, {share:.0%} of the text": FAIR[layers(n)]
            | {"data_share": share, "evaluate_every": Times(1 / 12)}
            for n in DEPTHS
            for share in SHARES
        },
        recipe="fair",
        after="rates",
    ),
    *(study for steps in BUDGETS for study in of_budget(steps)),
    Study(
        "plays",
        N_("When does depth need data, drawn as whole plays at random?"),
        {
            f"{layers(n)}, {text}": FAIR[layers(n)] | {"plays": draw}
            for n in DEPTHS
            for text, draw in DRAWS.items()
        },
        recipe="fair",
        seeds=range(20, 25),  # that no study has seen
        after="rates-2400",
        common=for_steps(2400),
    ),
    Study(
        "luck",
        N_("What does a seed's luck change: its first weights alone, and all but these?"),
        {
            f"{layers(n)}, {words}": FAIR[layers(n)] | changes
            for n in DEPTHS
            for words, changes in LUCK.items()
        },
        recipe="fair",
        seeds=range(10, 18),  # of depth-1200, whose runs are the other half of each pair
        after="rates-1200",
        common=for_steps(1200),
    ),
    Study(
        "optimizers",
        N_("AdamW or Muon, each at a rate of its own?"),
        {
            **{
                f"AdamW, rate {rate:g}": {"optimizer": "adamw", "learning_rate": rate}
                for rate in RATES[1:-1]
            },
            **{f"Muon, rate {rate:g}": {"muon_learning_rate": rate} for rate in MUON_RATES},
        },
        recipe="modern-short",
        seeds=range(30, 36),  # that no study has seen
    ),
    *CHOICES,
)
STUDIES = {study.name: study for study in ALL}
RECORDED = [study.name for study in ALL if study.recipe]
