"""Cross Pseudo Supervision (Chen, Yuan, Zeng, Wang, CVPR 2021, arXiv 2106.01226), for N networks.

    P_k = f(x; theta_k)              logits of network k
    Y_k = argmax P_k                 its hard pseudo labels, no gradient, no threshold
    L_s   = sum_k CE(P_k^l, y)
    L_cps = 1/(N-1) sum_k sum_{j != k} CE(P_k, Y_j)
    L     = L_s + lambda L_cps

Without CutMix the pixels of L_cps are those of the labeled and the unlabeled pictures together, one
mean over both.  With CutMix they are those of mixed unlabeled pictures x_A (1-M) + x_B M, whose
pseudo labels are mixed with the same mask from passes on x_A and x_B without gradient; the labeled
pictures then take no part.  N = 2 is the published method.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax import stacks
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import MakeStack, Method, Metrics, Stream
from semiseg_jax.methods.health import pseudo_label_health
from semiseg_jax.methods.inputs import (
  cutmix_masks,
  images_of,
  loss_groups,
  loss_options,
  upsampled_logits,
)
from semiseg_jax.ops.losses import cross_entropy_sums, supervised_loss
from semiseg_jax.ops.preprocess import valid_mask
from semiseg_jax.stacks import Stack

Tree = Any
READS = ("unlabeled",)
COMPAT = ("pseudo_label_padding",)  # pseudo labels on padding too
Pool = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Options(shared.CutMix, shared.PseudoLabelBN, shared.Weighted, shared.Supervised):
  """It reads these keys of the block `method`, and has none of its own."""


def rules(config: Any) -> list[str]:
  """Returns what CPS cannot run with."""
  m, t = config.method, config.train
  faults = []
  if m.networks < 2:
    faults.append(f"method.networks={m.networks}: CPS needs at least 2 networks.")
  k, parts = m.loss_group, t.accumulate
  groups = t.batch_labeled // parts // k if k else 0
  if groups and not t.batch_labeled // parts % k and t.batch_unlabeled // parts % groups:
    faults.append(
      f"method.loss_group={k}: the {t.batch_unlabeled} unlabeled pictures of a batch fall into as "
      f"many groups as the {t.batch_labeled} labeled ones: {groups} (in each part of it, where "
      "train.accumulate cuts it)."
    )
  return faults


def pseudo_labels(logits: jax.Array) -> jax.Array:
  """Returns Y [N,B,H,W] uint8 of P [N,B,H,W,C]: the first class of the largest logit."""
  return jnp.argmax(jax.lax.stop_gradient(logits), axis=-1).astype(jnp.uint8)


def cross_pseudo_pool(logits: jax.Array, pseudo: jax.Array, groups: int = 1) -> Pool:
  """Returns the sums and pixel counts [N-1,N,G] of CE(P_k, Y_j) over j != k, before the division.

  Args:
    logits: P, [N,B,H,W,C].
    pseudo: Y, int [N,B,H,W], IGNORE left out.
    groups: G, into which the batch is cut.
  """
  rolled = (jnp.roll(pseudo, -j, axis=0) for j in range(1, len(pseudo)))
  sums, counts = zip(*(cross_entropy_sums(logits, Y, groups) for Y in rolled))
  return jnp.stack(sums), jnp.stack(counts)


def cps_loss(pools: list[Pool]) -> jax.Array:
  """Returns sum_k sum_{j != k} CE(P_k, Y_j).

  Each is the mean over the pixels of all pools in a group, then over the groups.
  """
  total, count = (sum(parts) for parts in zip(*pools))
  return (total / jnp.maximum(count, 1)).mean(-1).sum()


def build(config: Any, make_stack: MakeStack) -> Method:
  """Returns the method for `config.method`: networks (N), weight (lambda), cutmix, ...

  Raises:
    ValueError: fewer than two networks.
  """
  m = config.method
  if m.networks < 2:
    raise ValueError(f"method.networks={m.networks}: CPS needs at least 2 networks.")
  stack = make_stack("networks", m.networks)
  loss = (_cutmix_loss if m.cutmix else _plain_loss)(config, stack)
  partner = {"different_image": "unlabeled_mix", "same_image": "unlabeled"}
  if m.cutmix_partner not in partner:
    raise ValueError(
      f"method.cutmix_partner={m.cutmix_partner!r} is unknown: {' or '.join(partner)}."
    )
  streams = [
    Stream("labeled", "labeled", config.train.batch_labeled, order="labeled"),
    Stream("unlabeled", "unlabeled", config.train.batch_unlabeled, order="unlabeled"),
  ]
  if m.cutmix:
    order = partner[m.cutmix_partner]
    streams.append(Stream("unlabeled_mix", "unlabeled", config.train.batch_unlabeled, order=order))
  return Method(
    streams=tuple(streams),
    stacks={"networks": stack},
    trained=("networks",),
    evaluated="networks",
    loss=loss,
    show=_show(config, stack),
  )


def _weight(config: Any, step: jax.Array) -> jax.Array:
  """lambda at this step: ramped up linearly over `weight_ramp_steps`, 0 = constant as published."""
  m = config.method
  if not m.weight_ramp_steps:
    return jnp.float32(m.weight)
  return m.weight * jnp.minimum(step / m.weight_ramp_steps, 1)


def _masked(config: Any, pseudo: jax.Array, inside: jax.Array) -> jax.Array:
  """Takes the pseudo labels of padding away, unless the published behaviour is asked for."""
  if "pseudo_label_padding" in config.method.compat:
    return pseudo
  return jnp.where(inside[None], pseudo, jnp.uint8(IGNORE))


def _plain_loss(config: Any, stack: Stack):
  options = loss_options(config)

  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    names = ("labeled", "unlabeled")
    x = {name: images_of(config, batch[name]) for name in names}
    y = batch["labeled"]["label"]
    outputs, stats = stacks.apply(
      stack, params["networks"], state["batch_stats"]["networks"], x, bn="train"
    )
    P = {name: upsampled_logits(stack, outputs[name], x[name].shape[1:3]) for name in names}
    Y = {
      name: _masked(
        config, pseudo_labels(P[name]), valid_mask(batch[name]["valid"], *x[name].shape[1:3])
      )
      for name in names
    }
    supervised, pixels = supervised_loss(P["labeled"], y, **options)
    groups = loss_groups(config, y)
    cps = cps_loss([cross_pseudo_pool(P[name], Y[name], groups) for name in names])
    state = {**state, "batch_stats": {"networks": stats}}
    truth = batch["unlabeled"]["label"]
    share = (pixels.sum(), float(stack.n * y.size))
    return _total(config, stack, supervised, share, cps, step, state, Y["unlabeled"], truth)

  return loss


def _cutmix_loss(config: Any, stack: Stack):
  options = loss_options(config)

  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    theta, y = params["networks"], batch["labeled"]["label"]
    bn = config.method.pseudo_label_bn
    x_mix, Y, M, stats = _mixed(config, stack, params, state, batch, key, bn)

    x_l = images_of(config, batch["labeled"])
    outputs, stats = stacks.apply(stack, theta, stats, {"mix": x_mix, "labeled": x_l}, bn="train")
    P_mix = upsampled_logits(stack, outputs["mix"], x_mix.shape[1:3])
    P_l = upsampled_logits(stack, outputs["labeled"], x_l.shape[1:3])

    supervised, pixels = supervised_loss(P_l, y, **options)
    cps = cps_loss([cross_pseudo_pool(P_mix, Y, loss_groups(config, y))])
    state = {**state, "batch_stats": {"networks": stats}}
    truth = jnp.where(M, batch["unlabeled_mix"]["label"], batch["unlabeled"]["label"])
    share = (pixels.sum(), float(stack.n * y.size))
    return _total(config, stack, supervised, share, cps, step, state, Y, truth)

  return loss


def _mixed(
  config: Any, stack: Stack, params: Tree, state: Tree, batch: Tree, key: jax.Array, bn: str
) -> tuple[jax.Array, jax.Array, jax.Array, Tree]:
  """Returns the mixed pictures [B,H,W,C], their pseudo labels Y [N,B,H,W], the masks M, the state.

  Mixing the arg maxima equals the arg maximum of the mixed logits.
  """
  A, B = batch["unlabeled"], batch["unlabeled_mix"]
  x_A, x_B = images_of(config, A), images_of(config, B)
  size = x_A.shape[1:3]
  M = cutmix_masks(config, batch, key, size)
  stats = state["batch_stats"]["networks"]
  halves = {"A": x_A, "B": x_B}
  teacher, stats = stacks.apply(stack, params["networks"], stats, halves, bn=bn, grad=False)
  Y_A, Y_B = (
    _masked(
      config,
      pseudo_labels(upsampled_logits(stack, teacher[name], size)),
      valid_mask(half["valid"], *size),
    )
    for name, half in (("A", A), ("B", B))
  )
  return jnp.where(M[..., None], x_B, x_A), jnp.where(M[None], Y_B, Y_A), M, stats


def _show(config: Any, stack: Stack):
  """What a picture of the first batch has beside the streams themselves."""

  def show(params: Tree, state: Tree, batch: Tree, key: jax.Array) -> dict[str, jax.Array]:
    if config.method.cutmix:
      x, Y, M, _ = _mixed(config, stack, params, state, batch, key, "batch")
      return {"mask": M, "mixed": x, **{f"pseudo {k}": Y[k] for k in range(stack.n)}}
    x = {"unlabeled": images_of(config, batch["unlabeled"])}
    stats = state["batch_stats"]["networks"]
    outputs, _ = stacks.apply(stack, params["networks"], stats, x, bn="batch", grad=False)
    Y = pseudo_labels(upsampled_logits(stack, outputs["unlabeled"], x["unlabeled"].shape[1:3]))
    return {f"pseudo {k}": Y[k] for k in range(stack.n)}

  return show


def _total(
  config: Any,
  stack: Stack,
  supervised: jax.Array,
  share: Pool,
  cps: jax.Array,
  step: jax.Array,
  state: Tree,
  pseudo: jax.Array,
  truth: jax.Array,
) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
  weight = _weight(config, step)
  weighted = weight * cps / (stack.n - 1)
  metrics: Metrics = {f"supervised_{k}": (supervised[k], 1.0) for k in range(stack.n)}
  metrics["supervised_pixels"] = share
  metrics["cps"] = (cps / (stack.n - 1), 1.0)
  metrics["cps_weighted"] = (weighted, 1.0)
  metrics.update(pseudo_label_health(pseudo, truth, stack.network.num_classes))
  return supervised.sum() + weighted, (state, None, metrics)
