"""Several views of a picture, and the mean of what is said of them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from semiseg_jax.ops.resize import resize_bilinear


def mean_of_views(
  score: Callable[[jax.Array], jax.Array], x: jax.Array, scales: Sequence[float], flip: bool
) -> jax.Array:
  """Returns the mean of the scores of views, [B,H,W,K].

  A view has the sides int(side * scale); pictures and scores are resized bilinearly with aligned
  corners.  Source: the labels of ST++ (Yang et al., CVPR 2022), whose sum this is, divided
  by the number of views.

  Args:
    score: pictures [B,h,w,C] -> [B,h,w,K], probabilities or logits.
    x: normalized pictures [B,H,W,C].
    scales: of the views.
    flip: every view is seen mirrored, too.
  """
  size, found = x.shape[1:3], []
  for scale in scales:
    sides = tuple(max(int(side * scale), 1) for side in size)
    view = resize_bilinear(x, sides, align_corners=True)
    seen = [score(view)]
    if flip:
      seen.append(jnp.flip(score(jnp.flip(view, 2)), 2))
    found += [resize_bilinear(p, size, align_corners=True) for p in seen]
  return sum(found) / len(found)
