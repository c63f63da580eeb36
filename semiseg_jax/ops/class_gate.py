"""Classes that a picture does not have are taken from its segmentation (MLMT, TPAMI 2021)."""

import jax
import jax.numpy as jnp

RULES = ("softmax_zero", "logit_zero")


def gated(scores: jax.Array, kept: jax.Array, rule: str) -> jax.Array:
  """Returns scores [...,C] whose largest is that of a class that may be there.

  Args:
    scores: logits, or probabilities.
    kept: bool [C], classes that may be there.
    rule: 'softmax_zero': the probability of every other class becomes 0, so that a kept one is the
      largest wherever there is one; here -inf, which is right for logits too.  A picture of which
      no class is kept stays as it is.  'logit_zero', as published: the logit of every other class
      is multiplied by 0, and is the largest where all kept ones are negative.

  Raises:
    ValueError: another rule.
  """
  kept = kept.reshape((1,) * (scores.ndim - 1) + (-1,))
  if rule == "softmax_zero":
    return jnp.where(kept | ~kept.any(), scores, -jnp.inf)
  if rule == "logit_zero":
    return scores * kept
  raise ValueError(f"A gate of rule {rule!r}: {', '.join(RULES)}.")
