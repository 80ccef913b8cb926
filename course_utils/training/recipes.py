"""The recipes: a model and how it is trained, chosen once and named.

baseline      the assignment's model and training, to the letter
nanogpt       nanoGPT's model for this text, but for the cosine in its schedule: to compare with
nanogpt-cpu   and the one that it proposes for a CPU
laptop        for two cores, a minute and a half: the lessons' and the study's on a laptop
laptop-long   what two cores learn most with in ten minutes
sprint        for a GPU: past nanoGPT's 1.4697 in seconds
modern        for a GPU: the lowest loss at the baseline's size
record        and at nanoGPT's
sprint-256    past 1.4697 at nanoGPT's context too: a longer one is another task
modern-256    the lowest loss there at the baseline's size
laptop-256    what two cores learn there in ten minutes
laptop-short  and in about the time of laptop
fair          the baseline's model for a fixed number of steps, with a warm-up and a falling rate
modern-short  a third of modern's steps; the recorded study changes these two, a thing at a time
smoke         seconds, to see that everything runs
"""

from course_utils.lessons.train import TrainConfig
from course_utils.messages import _

MODEL_SETTINGS = (
    "context_length",
    "n_layers",
    "n_heads",
    "d_model",
    "d_ff",
    "dropout",
    "position",
    "qk_norm",
)
MODELS = {
    #              context  layers  heads  width  d_ff  dropout   position  qk_norm
    "baseline":     (  256,     6,     8,    256, 1024,    0.1, "learned",  False),
    "nanogpt":      (  256,     6,     6,    384, 1536,    0.2, "learned",  False),
    "nanogpt-cpu":  (   64,     4,     4,    128,  512,    0.0, "learned",  False),
    "laptop":       (  128,     4,     2,    128,  512,    0.0, "rope",     True),
    "laptop-long":  (  512,     4,     3,    192,  768,    0.0, "rope",     True),
    "sprint":       ( 1024,     4,     3,    192,  768,    0.0, "rope",     True),
    "modern":       ( 1024,     6,     4,    256, 1024,    0.2, "rope",     True),
    "record":       ( 1024,     6,     6,    384, 1536,    0.3, "rope",     True),
    "sprint-256":   (  256,     4,     4,    256, 1024,    0.0, "rope",     True),
    "modern-256":   (  256,     6,     4,    256, 1024,    0.3, "rope",     True),
    "laptop-256":   (  256,     4,     3,    192,  768,    0.0, "rope",     True),
    "laptop-short": (  256,     3,     2,    128,  512,    0.0, "rope",     True),
    "fair":         (  256,     6,     8,    256, 1024,    0.1, "learned",  False),
    "modern-short": ( 1024,     6,     4,    256, 1024,    0.2, "rope",     True),
    "smoke":        (   32,     4,     2,     32,   64,    0.0, "rope",     True),
}  # fmt: skip

TRAIN_SETTINGS = (
    "steps",
    "batch_size",
    "optimizer",
    "learning_rate",
    "muon_learning_rate",
    "muon_momentum",
    "muon_iterations",
    "weight_decay",
    "warmup_steps",
    "decay",
    "evaluate_every",
    "patience",
)
TRAININGS = {  # where Muon trains the blocks' matrices, AdamW trains the rest
    #                              AdamW's  Muon's          weight warm-      evaluate
    #               steps batch       rate rate mom. iter.   decay   up decay   every patience
    "baseline":     (20000,  32, "adamw", 1e-4, 0.02, 0.95, 5,  0.01,   0, 0.00,     0,    5),
    "nanogpt":      ( 5000,  64, "adamw", 1e-3, 0.02, 0.95, 5,  0.10, 100, 0.98,   250,    0),
    "nanogpt-cpu":  ( 2000,  12, "adamw", 1e-3, 0.02, 0.95, 5,  0.10, 100, 0.95,   500,    0),
    "laptop":       ( 1255,   8, "muon",  8e-3, 0.02, 0.90, 3,  0.03,  20, 0.70,  1255,    0),
    "laptop-long":  ( 1920,   4, "muon",  5e-3, 0.02, 0.90, 3,  0.10,  20, 0.70,   640,    0),
    "sprint":       ( 1050,   8, "muon",  3e-3, 0.03, 0.95, 3,  0.10,  20, 0.50,  1050,    0),
    "modern":       ( 2400,   8, "muon",  3e-3, 0.02, 0.95, 5,  0.10,  50, 0.50,   800,    0),
    "record":       ( 2400,   8, "muon",  3e-3, 0.03, 0.95, 5,  0.10,  50, 0.50,   800,    0),
    "sprint-256":   ( 1000,  24, "muon",  3e-3, 0.04, 0.95, 3,  0.20,  20, 0.50,  1000,    0),
    "modern-256":   ( 4000,  32, "muon",  3e-3, 0.02, 0.95, 5,  0.10,  50, 0.50,  1000,    0),
    "laptop-256":   ( 3430,   4, "muon",  5e-3, 0.02, 0.90, 3,  0.10,  20, 0.90,   980,    0),
    "laptop-short": ( 1800,   4, "muon",  6e-3, 0.025, 0.90, 3, 0.05,  20, 0.90,  1800,    0),
    "fair":         ( 1200,  32, "adamw", 1e-3, 0.02, 0.95, 5,  0.01, 100, 0.50,  1200,    0),
    "modern-short": (  800,   8, "muon",  3e-3, 0.02, 0.95, 5,  0.10,  50, 0.50,   800,    0),
    "smoke":        (   20,   8, "muon",  3e-3, 0.02, 0.95, 5,  0.10,   5, 0.50,    10,    0),
}  # fmt: skip

RECIPES = {
    name: (
        dict(zip(MODEL_SETTINGS, MODELS[name], strict=True)),
        TrainConfig(**dict(zip(TRAIN_SETTINGS, TRAININGS[name], strict=True))),
    )
    for name in TRAININGS
}


def named_recipe(name):
    """-> (settings of GPTConfig, TrainConfig)"""
    if name not in RECIPES:
        raise ValueError(
            _(
                "unknown recipe {name!r} (choose from {recipes})",
                name=name,
                recipes=", ".join(RECIPES),
            )
        )
    return RECIPES[name]


def layers(n):
    """The name of an arm with so many layers."""
    return f"{n} layer" if n == 1 else f"{n} layers"
