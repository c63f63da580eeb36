"""The few lines that methods share: pictures in, full-size logits out, masks, options."""

from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.ops.cutmix import draw_box_masks
from semiseg_jax.ops.keys import example_keys
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.stacks import Stack


def images_of(config: Any, stream: dict[str, jax.Array]) -> jax.Array:
  """Returns the normalised pictures [B,H,W,C] of one stream of the batch."""
  return normalize(
    stream["image"],
    stream["valid"] if config.data.padding == "mean" else None,
    tuple(config.data.mean),
    tuple(config.data.std),
    jnp.result_type(float),
  )


def upsampled_logits(
  stack: Stack, outputs: dict[str, jax.Array], size: tuple[int, int]
) -> jax.Array:
  """Returns the logits [N,B,H,W,C] of one stream at `size`, by the network's own resize rule."""
  return resize_bilinear(outputs["logits"], size, align_corners=stack.network.align_corners)


def loss_options(config: Any) -> dict[str, Any]:
  """Returns the keyword arguments of `supervised_loss` that the config selects."""
  m = config.method
  return {
    "kind": m.supervised_loss,
    "group": m.loss_group,
    "ohem_threshold": m.ohem_threshold,
    "ohem_kept_fraction": m.ohem_kept_fraction,
  }


def loss_groups(config: Any, labels: jax.Array) -> int:
  """Returns into how many groups that share a mean a batch with these labels [B,H,W] falls."""
  return len(labels) // config.method.loss_group if config.method.loss_group else 1


def cutmix_masks(config: Any, batch: Any, key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """M, bool [B,H,W]: drawn for each row, or handed in as batch['masks'] (comparisons)."""
  if "masks" in batch:
    return batch["masks"]
  return draw_box_masks(
    example_keys(key, "cutmix", batch["unlabeled"]["row"]),
    height=size[0],
    width=size[1],
    boxes=config.method.cutmix_boxes,
    area_range=tuple(config.method.cutmix_area),
  )
