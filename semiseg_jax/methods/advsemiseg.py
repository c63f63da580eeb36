"""AdvSemiSeg (Hung, Tsai, Liou, Lin, Yang, BMVC 2018, arXiv 1802.07934).

A discriminator D judges every region of a class map: ground truth (1) or prediction (0).  With
p = softmax S(x), d(.) the map of D at full size and BCE(z, t) = softplus(z) - t z:

    L_S = CE(p_l, y) + l_lab BCE(d(p_l), 1) + l_unl BCE(d(p_u), 1)
          + l_semi CE(p_u, argmax p_u) where sigmoid(d(p_u)) >= T
    L_D = 1/2 BCE(d(p_l) and d(p_u), 0) + 1/2 BCE(d(onehot y), 1)

Both are minimised in one step: S against the D of before, D on predictions without gradient.  S
sees the unlabeled pictures first.  Ignored pixels of labels take part nowhere.
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
from semiseg_jax.methods.inputs import images_of, loss_options, upsampled_logits
from semiseg_jax.models.critics.discriminators import PixelDiscriminator
from semiseg_jax.models.critics.single import Single
from semiseg_jax.ops.adversarial import mean_bce, one_hot_map
from semiseg_jax.ops.losses import cross_entropy, supervised_loss
from semiseg_jax.ops.preprocess import valid_mask
from semiseg_jax.options import key
from semiseg_jax.stacks import Stack
from semiseg_jax.training import optimizers

Tree = Any
READS = ("unlabeled",)
# 'drop_adversarial': where D keeps no pixel, the term l_unl is dropped as well.
# 'unlabeled_padding': padding of unlabeled pictures takes part like any pixel.
COMPAT = ("drop_adversarial", "unlabeled_padding")


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """The config block `method.advsemiseg`."""

  weight_labeled: float = key(0.01, "l_lab: of fooling D, on labeled pictures", at_least=0)
  weight_unlabeled: float = key(0.001, "l_unl: the same on unlabeled pictures", at_least=0)
  weight_semi: float = key(0.1, "l_semi: of self-training; 0 = none", at_least=0)
  threshold: float = key(0.2, "T: of D's probability, for self-training", at_least=0, below=1)
  adversarial_start: int = key(0, "first step of l_unl", at_least=0)
  semi_start: int = key(
    5000, "first step of l_semi; before both no unlabeled picture is seen", at_least=0
  )
  judge_unlabeled: bool = key(True, "D is trained on predictions of unlabeled pictures too")
  widths: tuple[int, ...] = key((64, 128, 256, 512), "channels of D's layers but the last", above=0)
  learning_rate: float = key(1e-4, "of D's Adam, under the schedule of the networks", above=0)
  betas: tuple[float, float] = key((0.9, 0.99), "of D's Adam", at_least=0, below=1, length=(2,))


def build(config: Any, make_stack: MakeStack) -> Method:
  """Returns the method: `networks` segmentation networks, each with its discriminator.

  Raises:
    ValueError: an option out of its range.
  """
  o = Options(**config.method.advsemiseg)
  _check(o)
  networks = make_stack("networks", config.method.networks)
  S = networks.network
  D = Single(PixelDiscriminator(tuple(o.widths)), S.num_classes, S.dtype)
  discriminator = make_stack("discriminator", config.method.networks, D)
  labeled, unlabeled = config.train.batch_labeled, config.train.batch_unlabeled
  adam = optimizers.adam(
    learning_rate=o.learning_rate,
    power=config.optimizer.power,
    steps=config.train.steps,
    betas=tuple(o.betas),
    epsilon=1e-8,
  )
  return Method(
    streams=(
      Stream("labeled", "labeled", labeled, order="labeled"),
      Stream("unlabeled", "unlabeled", unlabeled, order="unlabeled"),
      Stream("ground_truth", "labeled", labeled, order="ground_truth", view="filled"),
    ),
    stacks={"networks": networks, "discriminator": discriminator},
    trained=("networks", "discriminator"),
    evaluated="networks",
    loss=_loss(config, o, networks, discriminator),
    phase=lambda step: _phase(o, step),
    optimizers={"discriminator": adam},
    show=_show(config, o, networks, discriminator),
  )


def _check(o: Options) -> None:
  weights = (o.weight_labeled, o.weight_unlabeled, o.weight_semi)
  starts = (o.adversarial_start, o.semi_start)
  for ok, what in (
    (min(weights) >= 0, f"the weights {weights}: 0 or more"),
    (0 <= o.threshold < 1, f"threshold={o.threshold}: from 0 to below 1"),
    (min(starts) >= 0, f"adversarial_start, semi_start = {starts}: 0 or more"),
    (len(o.widths) > 0 and min(o.widths) > 0, f"widths={o.widths}: one or more, above 0"),
    (o.learning_rate > 0, f"learning_rate={o.learning_rate}: above 0"),
    (len(o.betas) == 2 and all(0 <= b < 1 for b in o.betas), f"betas={o.betas}: two below 1"),
  ):
    if not ok:
      raise ValueError(f"method.advsemiseg: {what}.")


def _phase(o: Options, step: int) -> int:
  """1 = adversarial term on unlabeled pictures, 2 = self-training, 3 = both, 0 = neither."""
  return int(step >= o.adversarial_start) + 2 * int(step >= o.semi_start and o.weight_semi > 0)


def _judged(
  discriminator: Stack, params: Tree, stats: Tree, maps: Tree, frozen: bool
) -> dict[str, jax.Array]:
  """d of class maps [(N,)B,H,W,C] by stream: [N,B,H,W]."""
  D = "discriminator"
  found, _ = stacks.apply(discriminator, params[D], stats[D], maps, bn="eval", frozen=frozen)
  size = lambda x: x.shape[-3:-1]
  return {k: upsampled_logits(discriminator, found[k], size(maps[k]))[..., 0] for k in maps}


def _loss(config: Any, o: Options, networks: Stack, discriminator: Stack):
  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    y, stats = batch["labeled"]["label"], state["batch_stats"]
    names = ("unlabeled", "labeled") if phase else ("labeled",)
    x = {name: images_of(config, batch[name]) for name in names}
    outputs, moved = stacks.apply(networks, params["networks"], stats["networks"], x, bn="train")
    P = {name: upsampled_logits(networks, outputs[name], x[name].shape[1:3]) for name in names}
    p = {name: jax.nn.softmax(P[name], axis=-1) for name in names}
    d = _judged(discriminator, params, stats, p, frozen=True)

    valid = {"labeled": y != IGNORE}
    supervised, pixels = supervised_loss(P["labeled"], y, **loss_options(config))
    adversarial = mean_bce([(d["labeled"], valid["labeled"])], 1)
    total = supervised + o.weight_labeled * adversarial
    metrics: Metrics = {f"supervised_{k}": (supervised[k], 1.0) for k in range(networks.n)}
    metrics["supervised_pixels"] = (pixels.sum(), float(networks.n * y.size))
    metrics["adversarial_labeled"] = (adversarial.sum(), float(networks.n))
    if phase:
      valid["unlabeled"] = _inside(config, batch["unlabeled"])
      terms, found = _unlabeled_terms(
        config, o, P["unlabeled"], d["unlabeled"], valid["unlabeled"], batch, phase
      )
      total, metrics = total + terms, {**metrics, **found}

    fakes = names if o.judge_unlabeled else ("labeled",)
    maps = {name: jax.lax.stop_gradient(p[name]) for name in fakes}
    truth = batch["ground_truth"]["label"]
    maps["ground_truth"] = one_hot_map(truth, networks.network.num_classes, P["labeled"].dtype)
    d = _judged(discriminator, params, stats, maps, frozen=False)
    fake = mean_bce([(d[name], valid[name]) for name in fakes], 0)
    real = mean_bce([(d["ground_truth"], truth != IGNORE)], 1)
    metrics["discriminator"] = ((fake + real).sum() / 2, float(networks.n))
    state = {**state, "batch_stats": {**stats, "networks": moved}}
    return (total + (fake + real) / 2).sum(), (state, None, metrics)

  return loss


def _inside(config: Any, stream: Tree) -> jax.Array:
  """Bool [B,H,W]: the pixels of an unlabeled picture that take part."""
  shape = stream["image"].shape[:3]
  if "unlabeled_padding" in config.method.compat:
    return jnp.ones(shape, bool)
  return valid_mask(stream["valid"], *shape[1:])


def _kept(o: Options, d: jax.Array, inside: jax.Array) -> jax.Array:
  """Bool [N,B,H,W]: the pixels whose own arg maximum is learnt."""
  return (jax.nn.sigmoid(jax.lax.stop_gradient(d)) >= o.threshold) & inside[None]


def _show(config: Any, o: Options, networks: Stack, discriminator: Stack):
  """What a picture of the first batch has beside the streams themselves."""

  def show(params: Tree, state: Tree, batch: Tree, key: jax.Array) -> dict[str, jax.Array]:
    stats, stream = state["batch_stats"], batch["unlabeled"]
    x = {"unlabeled": images_of(config, stream)}
    outputs, _ = stacks.apply(
      networks, params["networks"], stats["networks"], x, bn="batch", grad=False
    )
    P = upsampled_logits(networks, outputs["unlabeled"], x["unlabeled"].shape[1:3])
    p = {"unlabeled": jax.nn.softmax(P, axis=-1)}
    d = _judged(discriminator, params, stats, p, frozen=True)["unlabeled"]
    kept = _kept(o, d, _inside(config, stream))
    found = {f"kept {k}": kept[k] for k in range(networks.n)}
    return found | {f"pseudo {k}": P[k].argmax(-1) for k in range(networks.n)}

  return show


def _unlabeled_terms(
  config: Any,
  o: Options,
  P: jax.Array,
  d: jax.Array,
  inside: jax.Array,
  batch: Tree,
  phase: int,
) -> tuple[jax.Array, Metrics]:
  """Returns the weighted terms of the unlabeled pictures [N] and their metrics."""
  n = float(len(P))
  kept = _kept(o, d, inside)
  terms, metrics = jnp.zeros(len(P), P.dtype), {}
  if phase & 1:
    adversarial = mean_bce([(d, inside)], 1)
    metrics["adversarial_unlabeled"] = (adversarial.sum(), n)
    if phase & 2 and "drop_adversarial" in config.method.compat:
      adversarial = jnp.where(kept.any((1, 2, 3)), adversarial, 0)
    terms += o.weight_unlabeled * adversarial
  if phase & 2:
    Y = jnp.where(kept, P.argmax(-1), IGNORE).astype(jnp.uint8)
    semi, _ = cross_entropy(P, Y)
    metrics["semi"] = (semi.sum(), n)
    terms += o.weight_semi * semi
    classes, truth = P.shape[-1], batch["unlabeled"]["label"]
    metrics.update(pseudo_label_health(Y, truth, classes))
  return terms, metrics
