"""Entropy minimisation (Grandvalet and Bengio, 2004): sure predictions on unlabeled pictures.

L = CE(P^l, y) + lambda mean_pixels( -sum_c p_c log p_c ),    p = softmax P^u
"""

import dataclasses

import jax
import jax.numpy as jnp
from semiseg_jax.methods.inputs import images_of, loss_options, upsampled_logits

from semiseg_jax import stacks
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Method, Stream
from semiseg_jax.ops.losses import supervised_loss

READS = ("unlabeled",)


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """It reads these keys."""


def build(config, make_stack):
  stack = make_stack("networks", config.method.networks)
  rows = {"labeled": config.train.batch_labeled, "unlabeled": config.train.batch_unlabeled}

  def loss(params, state, batch, key, step, phase):
    x = {name: images_of(config, batch[name]) for name in rows}
    stats = state["batch_stats"]["networks"]
    outputs, stats = stacks.apply(stack, params["networks"], stats, x, bn="train")
    P = {name: upsampled_logits(stack, outputs[name], x[name].shape[1:3]) for name in rows}
    supervised, _ = supervised_loss(P["labeled"], batch["labeled"]["label"], **loss_options(config))
    log_p = jax.nn.log_softmax(P["unlabeled"])
    entropy = -(jnp.exp(log_p) * log_p).sum(-1).mean()
    metrics = {"supervised": (supervised.sum(), 1.0), "entropy": (entropy, 1.0)}
    state = {**state, "batch_stats": {"networks": stats}}
    return supervised.sum() + config.method.weight * entropy, (state, None, metrics)

  return Method(
    streams=tuple(Stream(name, name, rows[name], order=name) for name in rows),
    stacks={"networks": stack},
    trained=("networks",),
    evaluated="networks",
    loss=loss,
  )
