"""Hugging Face's GPT-2 as its users run it, to be timed beside ours. Its library is an extra: `bench`."""

import torch
from torch.nn import functional as F

from course_utils.lessons.data import get_batch
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import make_optimizers, training_step


class PeerError(ValueError):
    """There is nothing to compare with; the message says why."""


def gpt2(config):
    """Their GPT-2 of the shape of a GPTConfig, or None where that is no GPT-2 (rotary positions, RMSNorm, …)."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        raise PeerError(
            "the comparison needs the library transformers: pip install 'transformers>=5'"
        ) from None
    theirs = GPTConfig(
        config.vocab_size, config.context_length, config.n_layers, config.n_heads, config.d_model, config.d_ff,
        config.dropout,
    )  # fmt: skip
    if config != theirs:  # a switch that GPT-2 does not have
        return None
    settings = GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.context_length, n_embd=config.d_model,
        n_layer=config.n_layers, n_head=config.n_heads, n_inner=config.d_ff, resid_pdrop=config.dropout,
        embd_pdrop=config.dropout, attn_pdrop=config.dropout, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(settings)


def training(model_config, train_config, ids):
    """A function that makes one training step: the same batches, optimiser and clipping as ours. None: no such peer."""
    if train_config.optimizer != "adamw" or (model := gpt2(model_config)) is None:
        return None
    model, batch_generator = (
        model.to(ids.device).train(),
        torch.Generator().manual_seed(train_config.seed),
    )
    optimizers = make_optimizers(model, train_config)
    in_bf16 = ids.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)

    def loss_of(model, tokens, targets):
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=in_bf16):
            return F.cross_entropy(
                model(tokens, use_cache=False).logits.flatten(0, 1), targets.flatten()
            )

    def step():
        tokens, targets = get_batch(
            ids, train_config.batch_size, model_config.context_length, batch_generator
        )
        training_step(model, optimizers, tokens, targets, 1.0, train_config.clip_norm, loss_of)

    return step


def writing(model_config, tokens, n):
    """A function that continues tokens (B, T) by n characters, with their cache. None: no such peer."""
    if (model := gpt2(model_config)) is None:
        return None
    model.to(tokens.device).eval()
    settings = {
        "max_new_tokens": n,
        "min_new_tokens": n,
        "do_sample": True,
        "top_k": 0,
        "pad_token_id": 0,
    }
    settings["attention_mask"] = torch.ones_like(tokens)
    return lambda: model.generate(tokens, **settings)
