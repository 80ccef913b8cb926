"""Hugging Face's GPT-2 as its users run it, to be timed beside ours; an extra, `bench`, has it."""

import torch
from torch.nn import functional as F

from course_utils.lessons.data import get_batch
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import make_optimizers, training_step
from course_utils.messages import _


class PeerError(ValueError):
    """There is nothing to compare with; the message says why."""


def is_gpt2(config):
    """Whether a GPTConfig has no switch that GPT-2 does not have (rotary positions, …)."""
    shape = ("vocab_size", "context_length", "n_layers", "n_heads", "d_model", "d_ff", "dropout")
    return config == GPTConfig(**{name: getattr(config, name) for name in shape})


def gpt2(config):
    """Their GPT-2 of a GPTConfig's shape; None where that is no GPT-2."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        raise PeerError(
            _("the comparison needs the library transformers: pip install 'transformers>=5'")
        ) from None
    if not is_gpt2(config):
        return None
    settings = GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.context_length,
        n_embd=config.d_model,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        n_inner=config.d_ff,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(settings)


def training(model_config, train_config, ids):
    """A function that makes one training step: batches, optimiser and clipping as ours.

    None where there is no such peer.
    """
    model = gpt2(model_config) if train_config.optimizer == "adamw" else None
    if model is None:
        return None
    model.to(ids.device).train()
    optimizers = make_optimizers(model, train_config)
    batch_generator = torch.Generator().manual_seed(train_config.seed)
    in_bf16 = ids.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)

    def loss_of(model, tokens, targets):
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=in_bf16):
            logits = model(tokens, use_cache=False).logits
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def step():
        size, context = train_config.batch_size, model_config.context_length
        tokens, targets = get_batch(ids, size, context, batch_generator)
        training_step(model, optimizers, tokens, targets, 1.0, train_config.clip_norm, loss_of)

    return step


def writing(model_config, tokens, n):
    """A function that continues tokens (B, T) by n characters, with their cache; None as above."""
    model = gpt2(model_config)
    if model is None:
        return None
    model.to(tokens.device).eval()

    def write():
        return model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=n,
            min_new_tokens=n,
            do_sample=True,
            top_k=0,
            pad_token_id=0,
        )

    return write
