"""4 · Training: from noise to verse.

GENERATED from notebooks/04_train.py by tools/export.py: change it there.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The defaults are the `baseline` protocol."""

    steps: int = 20_000  # at most; early stopping may end it before
    batch_size: int = 32  # B, windows a step
    optimizer: str = "adamw"  # adamw | muon (the blocks' matrices by Muon, the rest by AdamW)
    learning_rate: float = 1e-4  # the peak, of AdamW
    muon_learning_rate: float = 0.02  # the peak, of Muon
    muon_momentum: float = 0.95  # the share of its last direction that Muon keeps
    muon_iterations: int = 5  # 1 … 5: fewer are faster, and make its steps less equal
    weight_decay: float = 0.01  # of matrices
    warmup_steps: int = 0  # over which the rate climbs to its peak
    decay: float = 0.0  # the last share of the steps, over which the rate falls to 0
    clip_norm: float = 1.0  # the longest gradient that is let through
    evaluate_every: int = (
        0  # steps; 0 is once an epoch: as many characters as the training split holds
    )
    patience: int = 5  # evaluations without improvement before training stops; 0 never stops
    seed: int = 0  # of weights, batches and dropout

    def __post_init__(self):
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch_size must be at least 1")
        if (
            min(self.learning_rate, self.muon_learning_rate, self.clip_norm) <= 0
            or not 0 <= self.decay <= 1
        ):
            raise ValueError(
                "learning rates and clip_norm must be above 0, and decay a share from 0 to 1"
            )
        if not 0 <= self.muon_momentum < 1 or self.muon_iterations not in range(1, 6):
            raise ValueError(
                "muon_momentum must lie in [0, 1), muon_iterations be a whole number from 1 to 5"
            )
        if min(self.weight_decay, self.warmup_steps, self.evaluate_every, self.patience) < 0:
            raise ValueError(
                "weight_decay, warmup_steps, evaluate_every and patience must not be negative"
            )


def next_character_loss(model, tokens, targets):
    """Mean surprise at the next token, in nats/character. tokens, targets: (B, T) int64 -> ()."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def training_step(
    model,
    optimizers,
    tokens,
    targets,
    rate,
    clip_norm=1.0,
    loss_of=next_character_loss,
    micro_batches=1,
):
    """Predict, measure, differentiate, clip, move. -> the batch's loss before the move, nats/character

    rate: the share of the peak learning rates, a number or a tensor of shape (). micro_batches: read the batch in
    so many pieces, where the whole does not fit in memory; their gradients add up to the same.
    """
    losses = []
    for some, theirs in zip(tokens.chunk(micro_batches), targets.chunk(micro_batches), strict=True):
        loss = loss_of(model, some, theirs) * (len(some) / len(tokens))
        loss.backward()
        losses.append(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        optimizer.step()
        optimizer.zero_grad()
    return sum(losses)


POLYNOMIALS = (  # a, b, c of each iteration; by the method of Amsel et al. (2025), The Polar Express
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
    (1.9178, -1.2968, 0.3797),
)


def orthogonalise(updates, iterations=5):
    """Push every singular value of each matrix towards 1: (N, rows, columns) -> the same shape.

    Jordan et al. (2024), Muon, with the first `iterations` of POLYNOMIALS.
    """
    x = updates.bfloat16() if updates.is_cuda else updates
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # below 1, however bfloat16 rounds
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(updates.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, so that every direction of a matrix moves equally far.

    matrices: 2-D parameters; those of one shape are slices of one tensor, treated at once. Jordan et al. (2024).
    """

    def __init__(self, matrices, lr, weight_decay=0.0, momentum=0.95, iterations=5):
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": same} for same in shapes.values()]
        defaults = dict(lr=lr, weight_decay=weight_decay, momentum=momentum, iterations=iterations)
        super().__init__(groups, defaults)
        self.orthogonalise = orthogonalise  # a faster twin may take its place
        self.weights = [torch.stack([p.data for p in same]) for same in shapes.values()]
        for same, weights in zip(shapes.values(), self.weights, strict=True):
            for p, weight in zip(same, weights, strict=True):
                p.data = weight

    @torch.no_grad()
    def step(self):
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            gradients = torch.stack([p.grad for p in group["params"]])
            velocity = self.state[group["params"][0]].setdefault(
                "momentum_buffer", torch.zeros_like(gradients)
            )
            velocity.lerp_(gradients, 1 - group["momentum"])
            ahead = gradients.lerp(velocity, group["momentum"])  # Nesterov: look one step ahead
            update = self.orthogonalise(ahead, group["iterations"])
            rows, columns = update.shape[1:]
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(update * (group["lr"] * max(1.0, rows / columns) ** 0.5))


def make_optimizers(model, config):
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Only matrices decay. Each group remembers its peak rate as group["peak"]. -> a list of optimisers
    """
    inner = [
        p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks.")
    ]
    by_muon = inner if config.optimizer == "muon" else []
    rest = [p for p in model.parameters() if not any(p is q for q in by_muon)]
    groups = [
        {"params": [p for p in rest if p.ndim == 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    kernel = {
        "fused": device in ("cpu", "cuda"),
        "capturable": device == "cuda",
    }  # one call for all weights
    optimizers = [torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), **kernel)]
    if by_muon:
        settings = (config.weight_decay, config.muon_momentum, config.muon_iterations)
        optimizers.append(Muon(by_muon, config.muon_learning_rate, *settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def learning_rate_at(step, config):
    """The share of the peak rate at a step: up in a line, flat, down in a line.

    step: 0 … config.steps - 1 -> a number in (0, 1].
    """
    up = (step + 1) / max(1, config.warmup_steps)
    down = (config.steps - step) / max(1, config.decay * config.steps)
    return min(1.0, up, down)


@torch.no_grad()
def evaluate(model, ids):
    """The exact loss over all of ids, in nats/character: every token but the first is predicted once.

    ids: (N,) int64, N >= 2, read in windows of the context length that don't overlap; dropout is off. A few
    windows at a time stay in a CPU's cache; a GPU wants many.
    """
    if len(ids) < 2:
        raise ValueError("evaluation needs at least 2 tokens: one to read and one to predict")
    T, was_training, sums = model.config.context_length, model.training, []
    model.eval()
    whole, at_once = (len(ids) - 1) // T * T, max(1, (2**16 if ids.is_cuda else 2**10) // T) * T
    pieces = [(start, min(start + at_once, whole), T) for start in range(0, whole, at_once)]
    if whole < len(ids) - 1:  # the last window is shorter
        pieces.append((whole, len(ids) - 1, len(ids) - 1 - whole))
    for start, stop, length in pieces:
        tokens, targets = (
            ids[start:stop].view(-1, length),
            ids[start + 1 : stop + 1].view(-1, length),
        )
        sums.append(next_character_loss(model, tokens, targets) * (stop - start))
    model.train(was_training)
    return sum(torch.stack(sums).tolist()) / (len(ids) - 1)  # a GPU is waited for once


class EarlyStopping:
    """Stop after `patience` evaluations in a row without a new best loss; patience 0 never stops."""

    def __init__(self, patience):
        self.patience, self.best, self.waited = patience, math.inf, 0

    def update(self, loss):
        """Take in one evaluation. -> whether it is the best so far"""
        improved = loss < self.best
        self.best = min(self.best, loss)
        self.waited = 0 if improved else self.waited + 1
        return improved

    @property
    def should_stop(self):
        return 0 < self.patience <= self.waited
