"""The training loop of lesson 4 with its practical side: best weights, early stopping, costs, clear failures."""

import math
import sys
import time
from dataclasses import dataclass, field

import torch

from course_utils import engine
from course_utils.lessons.model import GPT
from course_utils.lessons.train import EarlyStopping, evaluate

REPORTS = 50  # of the training loss, in a run of full length


class TrainingError(ValueError):
    """Training can't begin or can't go on; the message says what to change."""


@dataclass
class Training:
    """What one training run found."""

    history: list = field(default_factory=list)  # a dict a report: step, losses, seconds; some hold no validation loss
    best_step: int = 0
    validation_loss: float = math.inf  # nats/character over the whole validation split, at best_step
    training_loss: float = math.inf  # nats/character, mean over the batches since the report before
    stopped: str = ""  # why it ended
    regime: str = ""  # how the steps were made
    setup_s: float = 0.0  # compiling and capturing, before the first step
    elapsed_s: float = 0.0  # training and evaluations
    evaluating_s: float = 0.0  # of that, evaluations
    characters_per_s: float = 0.0  # seen in training, evaluations not counted
    peak_memory_mb: float = math.nan  # of the GPU, else of the whole process


def new_model(model_config, train_config, device="cpu"):
    """A fresh model whose weights are drawn from the run's seed (on the CPU, so the same on every device)."""
    torch.manual_seed(train_config.seed)
    return GPT(model_config).to(device)


def train(model, train_ids, validation_ids, config, on_step=None, allow=None):
    """Train in place, keep the weights of the best evaluation, and say what happened.

    train_ids, validation_ids: (N,) int64 on any device. on_step(): called after each step. allow: as make_engine's.
    -> Training
    """
    T, device = model.config.context_length, next(model.parameters()).device
    if min(len(train_ids), len(validation_ids) + T - 1) <= T:
        raise TrainingError(
            f"the text is too short: a context of {T} characters needs a training split of at least {T + 1} "
            f"characters (here {len(train_ids)}) and a validation split of 2 (here {len(validation_ids)})"
        )
    train_ids, validation_ids = train_ids.to(device), validation_ids.to(device)
    characters = config.batch_size * T
    evaluate_every = config.evaluate_every or max(1, len(train_ids) // characters)
    report_every = max(1, config.steps // REPORTS)
    stopping, result = EarlyStopping(config.patience), Training()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model.train()
    begin = time.perf_counter()
    steps = engine.make_engine(model, train_ids, config, allow)
    synchronize(device)
    result.regime, result.setup_s, begin = steps.regime, time.perf_counter() - begin, time.perf_counter()
    torch.manual_seed(config.seed + 1)  # dropout
    for step in range(1, config.steps + 1):
        steps.step()
        if on_step:
            on_step()
        evaluates = step % evaluate_every == 0 or step == config.steps
        if step % report_every and not evaluates:
            continue
        since = step - (result.history[-1]["step"] if result.history else 0)
        row = {"step": step, "characters": step * characters, "training_loss": steps.mean_loss(since)}
        if not math.isfinite(row["training_loss"]):
            raise TrainingError(f"the loss is no longer a number by step {step}: try a lower learning rate")
        paused = time.perf_counter()
        if evaluates:
            row["validation_loss"] = evaluate(model, validation_ids)
            result.evaluating_s += time.perf_counter() - paused
        row["elapsed_s"] = time.perf_counter() - begin
        result.history.append(row)
        if evaluates and stopping.update(row["validation_loss"]):
            best = {name: weight.clone() for name, weight in model.state_dict().items()}
            result.best_step, result.validation_loss = row["step"], row["validation_loss"]
            result.training_loss = row["training_loss"]
        if stopping.should_stop:
            break
    model.load_state_dict(best)
    result.stopped = f"no improvement in {config.patience} evaluations" if stopping.should_stop else "all steps done"
    result.elapsed_s = result.history[-1]["elapsed_s"]
    result.characters_per_s = result.history[-1]["characters"] / (result.elapsed_s - result.evaluating_s)
    result.peak_memory_mb = peak_memory_mb(device)
    return result


def synchronize(device):
    """Wait until a GPU has done what it was asked to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def peak_memory_mb(device):
    """The most memory held so far: by tensors on a GPU, by the whole process on a CPU (unknown on Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
