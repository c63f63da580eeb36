"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017) for segmentation, with CutMix if asked for.

    L = CE(S(x_l), y) + lambda r(t) mean_pixels |softmax S(x_u) - softmax T(x_u)|^2
    theta' <- a(t) theta' + (1 - a(t)) theta        after the optimizer's step, no gradient

r(t) ramps up over `weight_ramp_steps`, a(t) = min(1 - 1/(t+1), decay).  PixelSSL compares logits;
the baseline of the CPS authors probabilities of labeled and unlabeled pictures, lambda = 100.

With CutMix this is CutMix-Seg (French et al., BMVC 2020): the student sees x_A (1-M) + x_B M, its
target are the teacher's logits of x_A and x_B mixed with the same M, and the share of pixels of
which the teacher is sure multiplies the distance.
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
from semiseg_jax.methods.inputs import cutmix_masks, images_of, loss_options, upsampled_logits
from semiseg_jax.ops.consistency import KINDS, ema, ema_decay, pixel_distance, ramp_up
from semiseg_jax.ops.losses import pixel_cross_entropy, supervised_loss
from semiseg_jax.ops.preprocess import valid_mask
from semiseg_jax.options import key
from semiseg_jax.stacks import Stack

Tree = Any
READS = ("unlabeled",)
COMPAT = ("consistency_padding",)  # padding is compared like any pixel
TEACHER_BN = {"own_batch": "train", "ema_buffers": "eval"}
ON, CE_MEANS = ("unlabeled", "all"), ("valid_pixels", "all_pixels")


@dataclasses.dataclass(frozen=True)
class Options(shared.CutMix, shared.Weighted, shared.Supervised):
  """The config block `method.mean_teacher`."""

  decay: float = key(0.99, "of the average, at most; 1 - 1/(t+1) before", at_least=0, below=1)
  consistency: str = key(
    "prob_mse", "what is compared: 'logit_mse' PixelSSL, 'prob_sse' CutMix-Seg", one_of=KINDS
  )
  on: str = key(
    "unlabeled", "'all': labeled pictures too, one mean; the CPS authors' baseline", one_of=ON
  )
  teacher_bn: str = key(
    "own_batch",
    "the teacher normalizes with its batch; 'ema_buffers': with averages of the student's running "
    "statistics",
    one_of=TEACHER_BN,
  )
  ce_mean: str = key(
    "valid_pixels",
    "'all_pixels': ignored ones count 0 but stay in the mean (PixelSSL)",
    one_of=CE_MEANS,
  )
  threshold: float = key(
    0.0,
    "the share of pixels whose largest probability is at least this multiplies the distance; 0.97: "
    "CutMix-Seg; 0 = 1",
    at_least=0,
    below=1,
  )


def rules(config: Any) -> list[str]:
  """Returns the choices that exclude each other."""
  m, o = config.method, config.method.mean_teacher
  faults = []
  if m.cutmix and o.on == "all":
    faults.append(
      "method.mean_teacher.on='all' with method.cutmix=True: only unlabeled pictures are mixed; "
      "use 'unlabeled'."
    )
  if o.ce_mean == "all_pixels" and m.supervised_loss != "ce":
    faults.append("method.mean_teacher.ce_mean='all_pixels' needs method.supervised_loss='ce'.")
  return faults


def build(config: Any, make_stack: MakeStack) -> Method:
  """Returns the method: `networks` students, each with its teacher.

  Raises:
    ValueError: an unknown choice, or choices that exclude each other.
  """
  m, o = config.method, Options(**config.method.mean_teacher)
  _check(config, o)
  sources = {"labeled": "labeled", "unlabeled": "unlabeled"}
  batches = {"labeled": config.train.batch_labeled, "unlabeled": config.train.batch_unlabeled}
  streams = [Stream(s, s, batches[s], order=s) for s in sources]
  if m.cutmix:
    order = {"different_image": "unlabeled_mix", "same_image": "unlabeled"}[m.cutmix_partner]
    streams.append(Stream("unlabeled_mix", "unlabeled", config.train.batch_unlabeled, order=order))
  student, teacher = (make_stack(name, m.networks) for name in ("networks", "teacher"))
  return Method(
    streams=tuple(streams),
    stacks={"networks": student, "teacher": teacher},
    trained=("networks",),
    evaluated="networks",
    loss=_loss(config, o, student, teacher),
    after_update=_after_update(o),
    start=_start,
    show=_show(config, o, teacher),
  )


def _check(config: Any, o: Options) -> None:
  for option, possible in (
    ("consistency", KINDS),
    ("on", ("unlabeled", "all")),
    ("teacher_bn", TEACHER_BN),
    ("ce_mean", ("valid_pixels", "all_pixels")),
  ):
    if getattr(o, option) not in possible:
      raise ValueError(
        f"method.mean_teacher.{option}={getattr(o, option)!r} is unknown: {', '.join(possible)}."
      )
  if not 0 <= o.decay < 1 or not 0 <= o.threshold < 1:
    raise ValueError(
      f"method.mean_teacher.decay={o.decay}, threshold={o.threshold}: from 0 to below 1."
    )
  if config.method.cutmix and o.on == "all":
    raise ValueError(
      "method.mean_teacher.on='all' with method.cutmix=True: only unlabeled pictures are mixed; "
      "use 'unlabeled'."
    )
  if o.ce_mean == "all_pixels" and config.method.supervised_loss != "ce":
    raise ValueError("method.mean_teacher.ce_mean='all_pixels' needs method.supervised_loss='ce'.")


def _start(params: Tree, stats: Tree) -> tuple[Tree, Tree]:
  """The teacher is a copy: of other buffers, as the state is donated."""
  copied = lambda tree: {**tree, "teacher": jax.tree.map(lambda x: x.copy(), tree["networks"])}
  return copied(params), copied(stats)


def _after_update(o: Options):
  def after_update(params: Tree, state: Tree, aux: Tree, step: jax.Array) -> tuple[Tree, Tree]:
    follow = lambda tree: {
      **tree,
      "teacher": ema(tree["teacher"], tree["networks"], ema_decay(step, o.decay)),
    }
    if o.teacher_bn == "ema_buffers":
      state = {**state, "batch_stats": follow(state["batch_stats"])}
    return follow(params), state

  return after_update


def _loss(config: Any, o: Options, student: Stack, teacher: Stack):
  m = config.method

  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    stats, y = state["batch_stats"], batch["labeled"]["label"]
    x, T, inside, truth, teacher_stats = _taught(config, o, teacher, params, stats, batch, key)
    outputs, student_stats = stacks.apply(
      student, params["networks"], stats["networks"], x, bn="train"
    )
    S = {name: upsampled_logits(student, outputs[name], x[name].shape[1:3]) for name in x}
    supervised, pixels = _supervised(config, o, S["labeled"], y)
    parts = [_compared(S[name], T[name], inside[name], o) for name in T]
    total, count, sure = (sum(part) for part in zip(*parts))
    consistency = total / jnp.maximum(count, 1)
    if o.threshold:
      consistency = consistency * sure / jnp.maximum(count, 1)
    weight = m.weight * ramp_up(step, m.weight_ramp_steps)

    metrics: Metrics = {f"supervised_{k}": (supervised[k], 1.0) for k in range(student.n)}
    metrics["supervised_pixels"] = (pixels.sum(), float(student.n * y.size))
    metrics["consistency"] = (consistency.sum(), float(student.n))
    metrics["consistency_weight"] = (weight, 1.0)
    labels = jnp.where(inside["unlabeled"][None], T["unlabeled"].argmax(-1), IGNORE)
    metrics.update(pseudo_label_health(labels, truth, student.network.num_classes))
    state = {**state, "batch_stats": {"networks": student_stats, "teacher": teacher_stats}}
    return supervised.sum() + weight * consistency.sum(), (state, None, metrics)

  return loss


def _taught(
  config: Any, o: Options, teacher: Stack, params: Tree, stats: Tree, batch: Tree, key: jax.Array
) -> tuple[Tree, Tree, Tree, jax.Array, Tree]:
  """Returns the student's pictures and the teacher's logits T on them, by stream.

  Then by stream what is compared, bool [B,H,W]; the hidden labels of 'unlabeled'; the teacher's new
  statistics.
  """
  mixed = config.method.cutmix
  names = ("labeled", "unlabeled", "unlabeled_mix") if mixed else ("labeled", "unlabeled")
  x = {name: images_of(config, batch[name]) for name in names}
  size = x["unlabeled"].shape[1:3]
  inside = {name: _inside(config, batch[name], x[name].shape[1:3]) for name in names}
  truth = batch["unlabeled"]["label"]
  seen = {name: x[name] for name in (names if o.on == "all" else names[1:])}
  outputs, stats = stacks.apply(
    teacher, params["teacher"], stats["teacher"], seen, bn=TEACHER_BN[o.teacher_bn], grad=False
  )
  T = {name: upsampled_logits(teacher, outputs[name], seen[name].shape[1:3]) for name in seen}
  if mixed:
    M = cutmix_masks(config, batch, key, size)
    T["unlabeled"] = jnp.where(M[None, ..., None], T.pop("unlabeled_mix"), T["unlabeled"])
    x["unlabeled"] = jnp.where(M[..., None], x.pop("unlabeled_mix"), x["unlabeled"])
    inside["unlabeled"] = jnp.where(M, inside["unlabeled_mix"], inside["unlabeled"])
    truth = jnp.where(M, batch["unlabeled_mix"]["label"], truth)
  return x, T, inside, truth, stats


def _show(config: Any, o: Options, teacher: Stack):
  """What a picture of the first batch has beside the streams themselves."""

  def show(params: Tree, state: Tree, batch: Tree, key: jax.Array) -> dict[str, jax.Array]:
    x, T, *_ = _taught(config, o, teacher, params, state["batch_stats"], batch, key)
    found = {f"teacher {k}": T["unlabeled"][k].argmax(-1) for k in range(teacher.n)}
    if not config.method.cutmix:
      return found
    mask = cutmix_masks(config, batch, key, x["unlabeled"].shape[1:3])
    return {"mask": mask, "mixed": x["unlabeled"], **found}

  return show


def _inside(config: Any, stream: Tree, size: tuple[int, int]) -> jax.Array:
  """Bool [B,H,W]: the pixels that are compared."""
  if "consistency_padding" in config.method.compat:
    return jnp.ones(stream["image"].shape[:3], bool)
  return valid_mask(stream["valid"], *size)


def _supervised(config: Any, o: Options, S: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  supervised, pixels = supervised_loss(S, y, **loss_options(config))
  if o.ce_mean == "all_pixels":
    labels = jnp.broadcast_to(y[None], S.shape[:-1])
    supervised = pixel_cross_entropy(S, labels).mean((1, 2, 3))
  return supervised, pixels


def _compared(
  S: jax.Array, T: jax.Array, inside: jax.Array, o: Options
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the summed distance [N], the number of its pixels and of those T is sure of [N]."""
  distance = jnp.where(inside[None], pixel_distance(S, T, o.consistency), 0).sum((1, 2, 3))
  sure = (jax.nn.softmax(T, axis=-1).max(-1) >= o.threshold) & inside[None]
  return distance, inside.sum(), sure.sum((1, 2, 3))
