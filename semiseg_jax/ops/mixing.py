"""Pictures mixed with the next one of the batch: ClassMix, and CutMix with half of the picture.

Sources: ClassMix (Olsson et al., WACV 2021); the boxes of ReCo, which U2PL took over.
"""

import jax
import jax.numpy as jnp

from semiseg_jax.ops.boxes import inside_boxes

KINDS = ("none", "cutout", "cutmix", "classmix")


def half_boxes(u: jax.Array, height: int, width: int) -> jax.Array:
  """Returns masks of one box of half the picture, bool [B,H,W], true inside.

  Its width is uniform among W // 2 + 1 .. W - 1, its height round(H W / 2 / width), its position
  uniform.

  Args:
    u: uniform in [0,1), [B,3]: width, y, x.
    height: H.
    width: W, 3 at least.
  """
  narrowest = width // 2 + 1
  w = jnp.minimum(narrowest + jnp.floor(u[:, 0] * (width - narrowest)), width - 1)
  h = jnp.minimum(jnp.round(height * width / 2 / w), height)
  y0, x0 = (jnp.floor(u[:, k] * (side - s + 1)) for k, side, s in ((1, height, h), (2, width, w)))
  return inside_boxes(jnp.stack([y0, x0, y0 + h, x0 + w], -1), height, width)


def class_masks(labels: jax.Array, u: jax.Array) -> jax.Array:
  """Returns bool [...,H,W]: pixels of a random half, rounded down, of the classes of a picture.

  Args:
    labels: int [...,H,W]; what is no class is never taken.
    u: uniform in [0,1), [...,C]: ranks the classes that are present; the first half is taken.
  """
  classes = jnp.arange(u.shape[-1], dtype=jnp.int32).reshape((1,) * labels.ndim + (-1,))
  hit = labels[..., None].astype(jnp.int32) == classes
  present = hit.any((-3, -2))
  order = jnp.argsort(jnp.argsort(jnp.where(present, u, 2), axis=-1), axis=-1)
  taken = order < present.sum(-1, keepdims=True) // 2
  return (hit & taken[..., None, None, :]).any(-1)


def masks(kind: str, labels: jax.Array, u_box: jax.Array, u_class: jax.Array) -> jax.Array:
  """Returns which pixels a picture loses, bool [N,B,H,W].

  Args:
    kind: of KINDS: 'cutmix' and 'cutout' lose a half box, 'classmix' all but half of the classes.
    labels: pseudo labels of N networks [N,B,H,W].
    u_box: uniform in [0,1), [B,3].
    u_class: the same, [N,B,C].

  Raises:
    ValueError: another kind.
  """
  if kind == "none":
    return jnp.zeros(labels.shape, bool)
  if kind == "classmix":
    return ~class_masks(labels, u_class)
  if kind not in KINDS:
    raise ValueError(f"mixing by {kind!r}: {', '.join(KINDS)}.")
  return jnp.broadcast_to(half_boxes(u_box, *labels.shape[2:])[None], labels.shape)


def mixed(kind: str, M: jax.Array, x: jax.Array, nothing: jax.Array | int) -> jax.Array:
  """Returns x [N,B,H,W] or [N,B,H,W,C] with the next picture's pixels where M is true.

  The last picture takes those of the first.  'cutout' puts `nothing` there.
  """
  if x.ndim > M.ndim:
    M = M[..., None]
  return jnp.where(M, nothing if kind == "cutout" else jnp.roll(x, -1, 1), x)
