"""Supervised training on the labeled pictures alone: the baseline of every comparison."""

import dataclasses
from typing import Any

import jax

from semiseg_jax import stacks
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import MakeStack, Method, Metrics, Stream
from semiseg_jax.methods.inputs import images_of, loss_options, upsampled_logits
from semiseg_jax.ops.losses import supervised_loss

Tree = Any
READS = ()  # labeled pictures only


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """It reads these keys of the block `method`, and has none of its own."""


def build(config: Any, make_stack: MakeStack) -> Method:
  """Returns the method: one network."""
  stack = make_stack("networks", config.method.networks)
  options = loss_options(config)

  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    x, y = images_of(config, batch["labeled"]), batch["labeled"]["label"]
    outputs, stats = stacks.apply(
      stack, params["networks"], state["batch_stats"]["networks"], {"labeled": x}, bn="train"
    )
    P = upsampled_logits(stack, outputs["labeled"], y.shape[1:])
    supervised, pixels = supervised_loss(P, y, **options)
    state = {**state, "batch_stats": {"networks": stats}}
    metrics: Metrics = {f"supervised_{k}": (supervised[k], 1.0) for k in range(stack.n)}
    metrics["supervised_pixels"] = (pixels.sum(), float(stack.n * y.size))
    return supervised.sum(), (state, None, metrics)

  return Method(
    streams=(Stream("labeled", "labeled", config.train.batch_labeled, order="labeled"),),
    stacks={"networks": stack},
    trained=("networks",),
    evaluated="networks",
    loss=loss,
  )
