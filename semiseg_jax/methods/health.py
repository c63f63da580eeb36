"""How good the pseudo labels are: numbers that a user watches during a run."""

from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE

Metrics = dict[str, tuple[Any, Any]]


def pseudo_label_health(pseudo: jax.Array, truth: jax.Array, num_classes: int) -> Metrics:
  """Returns metrics (sum, count) of the pseudo labels of N networks.

  pseudo/kept: share of pixels with a pseudo label; pseudo/agreement: share of those where all
  networks agree; pseudo/accuracy_k: share right where a hidden true label exists; pseudo/histogram:
  share of each class [C], over all networks.

  Args:
    pseudo: int [N,B,H,W], IGNORE where there is none.
    truth: int [B,H,W], hidden labels, IGNORE where there are none.
    num_classes: C.
  """

  def total(x: jax.Array) -> jax.Array:
    return x.sum(dtype=jnp.float32)

  has = pseudo != IGNORE
  everywhere = has.all(0)
  known = truth != IGNORE
  counts = jnp.stack([total(pseudo == c) for c in range(num_classes)])
  metrics = {
    "pseudo/kept": (total(has), jnp.float32(has.size)),
    "pseudo/agreement": (total((pseudo == pseudo[:1]).all(0) & everywhere), total(everywhere)),
    "pseudo/histogram": (counts, total(has)),
  }
  for k in range(pseudo.shape[0]):
    judged = has[k] & known
    metrics[f"pseudo/accuracy_{k}"] = (total((pseudo[k] == truth) & judged), total(judged))
  return metrics
