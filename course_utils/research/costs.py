"""What each arm costs here and now: the time of a step, the speed of writing, the memory.

Arms take turns, round after round, so that all meet the same moods of the machine.
"""

import statistics
import time
from dataclasses import replace

import pandas as pd
import torch

from course_utils.generation.writer import generate
from course_utils.lessons.data import CharTokenizer, get_batch
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig, next_character_loss
from course_utils.training import engine, runs, trainer
from course_utils.training.turns import in_turn

STEPS = 5  # timed of each arm; the fastest counts, which other programs have lengthened least
TEXTS = 3  # written by each arm; the median counts


def of_arms(models, records, corpus, characters):
    """A row an arm: what its training and its writing cost on the device of its model.

    models: arm -> model, one seed of each. step_s, step_high_s: the fastest and the slowest step.
    generation_characters_per_s, generation_low, generation_high: new characters a second, of one
    text of so many. model_mb: the weights. training_mb: what a plain step in fp32 holds.
    """
    device = next(iter(models.values())).embedding.weight.device
    tokenizer = CharTokenizer(corpus.text)
    ids = torch.tensor(tokenizer.encode(corpus.text), device=device)
    prompt = ids.new_tensor([tokenizer.encode(corpus.fitting_prompt())])
    engines = {r.arm: fresh_engine(r, ids) for r in records if r.arm in models}
    steps = seconds_in_turn({arm: step_of(one) for arm, one in engines.items()}, STEPS)
    texts = seconds_in_turn(
        {arm: text_of(m, prompt, characters) for arm, m in models.items()}, TEXTS
    )

    rows = []
    for arm, model in models.items():
        speeds = [characters / seconds for seconds in texts[arm]]
        row = {
            "arm": arm,
            "step_s": min(steps[arm]),
            "step_high_s": max(steps[arm]),
            "generation_characters_per_s": statistics.median(speeds),
            "generation_low": min(speeds),
            "generation_high": max(speeds),
            "generation_device": runs.environment(device)["device"],
            "generation_threads": torch.get_num_threads(),
            "model_mb": sum(w.nbytes for w in model.parameters()) / 1e6,
            "training_mb": held_in_training(engines[arm]) / 1e6,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def seconds_in_turn(functions, rounds):
    """Seconds of each call, all functions in turn; call 0 warms up. -> {name: [seconds, …]}

    functions: name -> function(number of the call)
    """
    seconds = {name: [] for name in functions}
    for number, name, function in in_turn(functions, rounds):
        begin = time.perf_counter()
        function(number)
        seconds[name].append(time.perf_counter() - begin)
    return {name: of[1:] for name, of in seconds.items()}


def fresh_engine(record, ids):
    """The engine of a run like this one, before its first step; not compiled, which takes long."""
    config = replace(TrainConfig(**record.train), steps=STEPS + 1)
    model = trainer.new_model(GPTConfig(**record.model), config, ids.device).train()
    pieces = [piece for piece in engine.PIECES if piece != "compiled" and piece in record.regime]
    return engine.make_engine(model, ids, config, pieces)


def step_of(one):
    def step(number):
        one.step()
        trainer.synchronize(one.ids.device)

    return step


def text_of(model, prompt, characters):
    def write(number):
        length = characters if number else min(characters, 20)
        generator = torch.Generator(prompt.device).manual_seed(number)
        generate(model, prompt, length, generator=generator).sum().item()  # waits for a GPU

    return write


def held_in_training(one):
    """Bytes of weights, gradients, the optimisers' memory, and what the way back needs.

    one: an engine after its first step
    """
    weights = sum(weight.nbytes for weight in one.model.parameters())
    tensors = one.state().items()
    kept = sum(t.nbytes for name, t in tensors if name.startswith(("model/", "optimizer/")))
    size, context = one.config.batch_size, one.model.config.context_length
    batch = get_batch(one.ids, size, context, torch.Generator().manual_seed(0))
    return kept + weights + kept_for_backward(one.model, *batch)


def kept_for_backward(model, tokens, targets):
    """Bytes of the activations that a forward pass keeps for the backward pass, each once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = next_character_loss(model, tokens, targets)  # while it lives, so do they
    del loss
    return sum(kept.values())
