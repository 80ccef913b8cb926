"""How much work a lesson or command does: smoke (tests), laptop (two cores), gpu."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Profile:
    """Sizes that depend on the machine, so that no cell has to ask what it runs on."""

    name: str
    recipe: str  # of the lessons' runs: a name in recipes.RECIPES
    study_recipe: str  # of `course run`, `train` and `ablate`
    seeds: int  # paired seeds a depth
    loop_steps: int  # steps of lesson 4's own loop
    demo_steps: int  # steps of the small models that show one point
    sample_characters: int  # length of each sample whose quality is measured


SMOKE = Profile(
    name="smoke",
    recipe="smoke",
    study_recipe="smoke",
    seeds=2,
    loop_steps=20,
    demo_steps=5,
    sample_characters=200,
)
LAPTOP = Profile(
    name="laptop",
    recipe="laptop",
    study_recipe="laptop",
    seeds=2,
    loop_steps=200,
    demo_steps=100,
    sample_characters=1000,
)
GPU = Profile(
    name="gpu",
    recipe="laptop",
    study_recipe="baseline",
    seeds=6,
    loop_steps=1000,
    demo_steps=300,
    sample_characters=1000,
)
PROFILES = {profile.name: profile for profile in (SMOKE, LAPTOP, GPU)}


def device():
    """The device that models run on: a CUDA GPU, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def current(name=None):
    """The profile named here or by COURSE_PROFILE, else the one that fits the device."""
    fitting = "gpu" if device().type == "cuda" else "laptop"
    name = name or os.environ.get("COURSE_PROFILE") or fitting
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; allowed are {', '.join(PROFILES)}")
    return PROFILES[name]


def parallel_runs(device):
    """How many runs can go on at once, each undisturbed: one a GPU, or one a core."""
    if device.type == "cuda":
        return torch.cuda.device_count()
    return cores() if device.type == "cpu" else 1


def cores():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
