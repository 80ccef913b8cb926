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
    optimizer: str = "adamw"  # adamw | muon, for the blocks' matrices
    learning_rate: float = 1e-4  # the peak, of AdamW
    muon_learning_rate: float = 0.02  # the peak, of Muon
    muon_momentum: float = 0.95  # the share of its last direction that Muon keeps
    muon_iterations: int = 5  # 1 … 5: fewer are faster, and make its steps less equal
    weight_decay: float = 0.01  # of matrices
    warmup_steps: int = 0  # over which the rate climbs to its peak
    decay: float = 0.0  # the last share of the steps, over which the rate falls to 0
    clip_norm: float = 1.0  # the longest gradient that is let through
    evaluate_every: int = 0  # steps; 0 is once an epoch, all text once
    patience: int = 5  # evaluations without a new best before it stops; 0 never
    seed: int = 0  # of weights, batches and dropout

    def __post_init__(self):
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if min(self.learning_rate, self.muon_learning_rate, self.clip_norm) <= 0:
            raise ValueError("learning rates and clip_norm must be above 0")
        if not 0 <= self.decay <= 1 or not 0 <= self.muon_momentum < 1:
            raise ValueError("decay must lie in [0, 1], muon_momentum in [0, 1)")
        if min(self.steps, self.batch_size) < 1 or self.muon_iterations not in range(1, 6):
            raise ValueError("steps, batch_size: at least 1; muon_iterations: 1 … 5")
        if min(self.weight_decay, self.warmup_steps, self.evaluate_every, self.patience) < 0:
            raise ValueError("weight_decay, warmup, evaluate_every, patience: 0 or more")


def learning_rate_at(step, config):
    """The share of the peak rate at a step: up in a line, flat, down in a line.

    step: 0 … config.steps - 1 -> a number in (0, 1].
    """
    up = (step + 1) / max(1, config.warmup_steps)
    down = (config.steps - step) / max(1, config.decay * config.steps)
    return min(1.0, up, down)


@torch.no_grad()
def token_losses(model, ids):
    """The loss at each token but the first: (N,) int64 -> (N - 1,) float64, CPU, nats.

    Dropout is off. Read in windows of the context length that don't overlap; the last may
    be shorter. A few at a time stay in a CPU's cache; a GPU wants many.
    """
    if len(ids) < 2:
        raise ValueError("evaluation needs at least 2 tokens: to read and to predict")
    T, N, was_training = model.config.context_length, len(ids) - 1, model.training
    at_once = max(1, (2**16 if ids.is_cuda else 2**10) // T)
    model.eval()
    losses, start = [], 0
    while start < N:
        left = N - start
        windows = min(at_once, left // T)  # whole ones first
        stop = start + (windows * T or left)  # no whole one left: the short rest
        logits = model(ids[start:stop].view(-1, min(T, left))).flatten(0, 1)
        targets = ids[start + 1 : stop + 1]
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        start = stop
    model.train(was_training)
    return torch.cat(losses).cpu().double()


def evaluate(model, ids):
    """The exact loss over all of ids: the mean token loss, in nats/character."""
    return token_losses(model, ids).mean().item()


class EarlyStopping:
    """Stop after `patience` evaluations in a row without a new best loss; 0 never stops."""

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


POLYNOMIALS = (  # a, b, c of each iteration: Amsel et al. (2025), Polar Express
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
    (1.9178, -1.2968, 0.3797),
)


def orthogonalise(updates, iterations=5):
    """Push every singular value of each matrix towards 1: (N, R, C) -> (N, R, C).

    Jordan et al. (2024), Muon, with the first `iterations` of POLYNOMIALS.
    """
    x = updates.bfloat16() if updates.is_cuda else updates
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # below 1
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.mT
        mixed = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b s + c s²
        x = torch.baddbmm(x, mixed, x, beta=a)  # a x + (b s + c s²) x
    return (x.mT if tall else x).to(updates.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal: all directions move alike. Jordan et al. (2024)."""

    def __init__(self, matrices, lr, weight_decay=0.0, momentum=0.95, iterations=5):
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": same} for same in shapes.values()]
        settings = dict(lr=lr, weight_decay=weight_decay, momentum=momentum)
        super().__init__(groups, settings | {"iterations": iterations})
        self.orthogonalise = orthogonalise  # a faster one may take its place
        # The matrices of one shape become slices of one tensor, to be treated at once.
        self.weights = [torch.stack([p.data for p in same]) for same in shapes.values()]
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            for p, weight in zip(group["params"], weights, strict=True):
                p.data = weight

    @torch.no_grad()
    def step(self):
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            gradients = torch.stack([p.grad for p in group["params"]])
            state = self.state[group["params"][0]]
            velocity = state.setdefault("momentum_buffer", torch.zeros_like(gradients))
            velocity.lerp_(gradients, 1 - group["momentum"])  # a share of the way
            ahead = gradients.lerp(velocity, group["momentum"])  # Nesterov's: one step ahead
            update = self.orthogonalise(ahead, group["iterations"])
            rows, columns = update.shape[1:]
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(update * (group["lr"] * max(1.0, rows / columns) ** 0.5))


def make_optimizers(model, config):
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Only matrices decay. Each group remembers its peak rate as group["peak"]. -> a list
    """
    by_muon = []
    if config.optimizer == "muon":
        by_muon = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is q for q in by_muon)]
    matrices, gains = [p for p in rest if p.ndim == 2], [p for p in rest if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    kernel = {"fused": device in ("cpu", "cuda"), "capturable": device == "cuda"}
    rate, betas = config.learning_rate, (0.9, 0.95)  # how slowly the two means fade
    optimizers = [torch.optim.AdamW(groups, lr=rate, betas=betas, **kernel)]
    if by_muon:
        settings = (config.weight_decay, config.muon_momentum, config.muon_iterations)
        optimizers.append(Muon(by_muon, config.muon_learning_rate, *settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def next_character_loss(model, tokens, targets):
    """The mean token loss, in nats/character. tokens, targets: (B, T) int64 -> ()."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def training_step(
    model, optimizers, tokens, targets, rate, clip_norm=1.0, loss_of=None, micro_batches=1
):
    """Predict, measure, differentiate, clip, move. -> the batch's loss before the move

    rate: the share of the peak rates, a number or a tensor of shape (). loss_of: where it
    is not next_character_loss. micro_batches: read the batch in so many pieces, where the
    whole does not fit in memory; their gradients add up to the same.
    """
    loss_of, losses = loss_of or next_character_loss, []
    pieces = zip(tokens.chunk(micro_batches), targets.chunk(micro_batches), strict=True)
    for some, theirs in pieces:
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
