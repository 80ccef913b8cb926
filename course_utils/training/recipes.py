"""The recipes as data: a model and how it is trained, chosen once and named."""

from course_utils.lessons.train import TrainConfig

LAPTOP_MODEL = {
    "context_length": 128, "n_layers": 4, "n_heads": 2, "d_model": 128, "d_ff": 512, "dropout": 0.0,
    "position": "rope", "qk_norm": True,
}  # fmt: skip
LONG_MODEL = LAPTOP_MODEL | {"context_length": 512, "n_heads": 3, "d_model": 192, "d_ff": 768}
MODERN_MODEL = {
    "context_length": 1024,
    "n_heads": 4,
    "position": "rope",
    "qk_norm": True,
    "dropout": 0.2,
}
MUON = {
    "optimizer": "muon",
    "learning_rate": 3e-3,
    "weight_decay": 0.1,
    "decay": 0.5,
    "patience": 0,
}
LAPTOP = MUON | {"warmup_steps": 20, "decay": 0.7, "muon_momentum": 0.9, "muon_iterations": 3}
RECIPES = {
    # The assignment's model and training, to the letter. An evaluation is the exact loss on the whole validation
    # split; one comes after each epoch, which is as many characters as the training split holds.
    "baseline": ({}, TrainConfig()),
    # nanoGPT's two models for this text, for a GPU and for a CPU, but for the cosine in its schedule: to compare with.
    "nanogpt": ({"n_heads": 6, "d_model": 384, "d_ff": 1536, "dropout": 0.2}, TrainConfig(
        steps=5000, batch_size=64, learning_rate=1e-3, weight_decay=0.1, warmup_steps=100, decay=0.98,
        evaluate_every=250, patience=0)),
    "nanogpt-cpu": ({"context_length": 64, "n_layers": 4, "n_heads": 4, "d_model": 128, "d_ff": 512, "dropout": 0.0},
        TrainConfig(steps=2000, batch_size=12, learning_rate=1e-3, weight_decay=0.1, warmup_steps=100, decay=0.95,
        evaluate_every=500, patience=0)),
    # What two cores learn most with in a minute and a half, and in ten minutes.
    "laptop": (LAPTOP_MODEL, TrainConfig(**LAPTOP | {
        "steps": 1255, "batch_size": 8, "learning_rate": 8e-3, "weight_decay": 0.03, "evaluate_every": 1255})),
    "laptop-long": (LONG_MODEL, TrainConfig(**LAPTOP | {
        "steps": 1920, "batch_size": 4, "learning_rate": 5e-3, "evaluate_every": 640})),
    # For a GPU: past nanoGPT's 1.4697 in seconds; then the lowest loss at the baseline's size, and at nanoGPT's.
    "sprint": (LONG_MODEL | {"context_length": 1024}, TrainConfig(**MUON, steps=1050, batch_size=8, warmup_steps=20,
        evaluate_every=1050, muon_learning_rate=0.03, muon_iterations=3)),
    "modern": (MODERN_MODEL, TrainConfig(
        **MUON, steps=2400, batch_size=8, warmup_steps=50, evaluate_every=800)),
    "record": (MODERN_MODEL | {"d_model": 384, "d_ff": 1536, "n_heads": 6, "dropout": 0.3}, TrainConfig(
        **MUON, steps=2400, batch_size=8, warmup_steps=50, evaluate_every=800, muon_learning_rate=0.03)),
    # The baseline's model for a fixed number of steps, with a warm-up and a falling rate; and a third of modern's
    # steps: what the recorded study changes one thing at a time.
    "fair": ({}, TrainConfig(
        steps=1200, learning_rate=1e-3, warmup_steps=100, decay=0.5, evaluate_every=1200, patience=0)),
    "modern-short": (MODERN_MODEL, TrainConfig(
        **MUON, steps=800, batch_size=8, warmup_steps=50, evaluate_every=800)),
    # Seconds: to see that everything runs.
    "smoke": (LAPTOP_MODEL | {"context_length": 32, "d_model": 32, "d_ff": 64}, TrainConfig(
        **MUON, steps=20, batch_size=8, warmup_steps=5, evaluate_every=10)),
}  # fmt: skip


def named_recipe(name):
    """-> (settings of GPTConfig, TrainConfig)"""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r} (choose from {', '.join(RECIPES)})")
    return RECIPES[name]
