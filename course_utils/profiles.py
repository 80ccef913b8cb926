"""How much work a lesson or command does: smoke (tests), laptop (two cores), gpu."""

import os
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

import torch

from course_utils.messages import _

VARIABLE = "COURSE_PROFILE"  # of the environment, which names a profile
WRONG_STEP = 0.1  # of its own length; rounding in single precision makes some 1e-4


@dataclass(frozen=True)
class Profile:
    """Sizes that depend on the machine, so that no cell has to ask what it runs on."""

    name: str
    recipe: str  # of the lessons' runs: a name in recipes.RECIPES
    study_recipe: str  # of `course run`, `train` and `ablate`
    seeds: int  # paired seeds a depth
    loop_steps: int  # steps of lesson 4's own loop
    demo_steps: int  # steps of the small models that show one point
    demo_windows: int  # of held-out text, for a glance at their loss
    sample_characters: int  # length of each sample whose quality is measured
    threads: int | None  # of PyTorch's in a lesson; None: as many as it takes by itself


SMOKE = Profile(
    name="smoke",
    recipe="smoke",
    study_recipe="smoke",
    seeds=2,
    loop_steps=20,
    demo_steps=5,
    demo_windows=32,
    sample_characters=60,
    threads=1,
)
LAPTOP = Profile(
    name="laptop",
    recipe="laptop",
    study_recipe="laptop",
    seeds=2,
    loop_steps=200,
    demo_steps=100,
    demo_windows=512,
    sample_characters=1000,
    threads=1,
)
GPU = Profile(
    name="gpu",
    recipe="laptop",
    study_recipe="baseline",
    seeds=6,
    loop_steps=1000,
    demo_steps=300,
    demo_windows=512,
    sample_characters=1000,
    threads=None,
)
PROFILES = {profile.name: profile for profile in (SMOKE, LAPTOP, GPU)}


def device():
    """The device that models run on: a CUDA GPU, Apple's if it trains rightly, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    apples = torch.device("mps")
    if torch.backends.mps.is_available() and step_error(apples) <= WRONG_STEP:
        return apples
    return torch.device("cpu")


def named_device(name=None):
    """The device of this name, or the one that models run on by themselves."""
    fastest = device()
    there = {"cpu": torch.device("cpu"), fastest.type: fastest}
    if name is not None and name not in there:
        names = ", ".join(there)
        raise ValueError(_("there is no device {name!r} here, but {names}", name=name, names=names))
    return there.get(name, fastest)


@lru_cache
def step_error(device):
    """How far two training steps there end from the same two in double precision on the CPU.

    On Apple's GPUs models of this kind have been seen to train wrongly without an error.
    -> the largest distance over the weight tensors, each in the length of its own way; infinite
    where something is no number
    """
    from course_utils.lessons.model import GPT, GPTConfig
    from course_utils.lessons.train import TrainConfig, make_optimizers, training_step

    with torch.random.fork_rng(devices=[]):  # whoever asks draws on as if nothing had been
        torch.manual_seed(0)
        model = GPT(GPTConfig(7, 16, n_layers=2, n_heads=2, d_model=32, d_ff=64, dropout=0.0))
        tokens = torch.randint(7, (2, 8, 17))

    def trained(where, dtype):
        copy = deepcopy(model).to(where, dtype)
        optimizers = make_optimizers(copy, TrainConfig(learning_rate=1e-3))
        for batch in tokens.to(where):
            training_step(copy, optimizers, batch[:, :-1], batch[:, 1:], 1.0)
        return [p.detach().to("cpu", torch.float64) for p in copy.parameters()]

    exact = trained("cpu", torch.float64)
    there = trained(device, torch.float32)
    ways = [(a - p.detach()).norm() for a, p in zip(exact, model.parameters(), strict=True)]
    errors = [(a - b).norm() / w for a, b, w in zip(exact, there, ways, strict=True)]
    return torch.stack(errors).nan_to_num(torch.inf).max().item()


def named(name=None):
    """The profile named here or by COURSE_PROFILE, else the one that fits the device."""
    fitting = "gpu" if device().type == "cuda" else "laptop"
    name = name or os.environ.get(VARIABLE) or fitting
    if name not in PROFILES:
        raise ValueError(
            _(
                "unknown profile {name!r}; allowed are {profiles}",
                name=name,
                profiles=", ".join(PROFILES),
            )
        )
    return PROFILES[name]


def current():
    """The profile of a lesson; from here on PyTorch has the threads that serve its models.

    Without a GPU that is one. The steps of models of some ten thousand weights are too short to be
    shared: two threads spend them waiting for each other, and where another program wants the cores
    as well, lesson 2 takes ten times as long (book/log.md has the numbers). Who sets
    OMP_NUM_THREADS has chosen.
    """
    profile = named()
    if profile.threads and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(profile.threads)
    return profile


def parallel_runs(device):
    """How many runs can go on at once, each undisturbed: one a GPU, or one a core."""
    if device.type == "cuda":
        return torch.cuda.device_count()
    return cores() if device.type == "cpu" else 1


def cores():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
