"""The gate on scores made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.class_gate import gated
from tests.golden_files import golden

# Pixel 0: all kept logits are negative.  Pixel 1: the removed class is the largest.
LOGITS = jnp.array([[-1.0, -2.0, 3.0], [0.5, 2.0, 4.0]])
KEPT = jnp.array([True, True, False])


def test_where_all_kept_logits_are_negative_the_rules_differ():
  chosen = {rule: gated(LOGITS, KEPT, rule).argmax(-1) for rule in ("softmax_zero", "logit_zero")}
  np.testing.assert_array_equal(chosen["softmax_zero"], [0, 1])
  np.testing.assert_array_equal(chosen["logit_zero"], [2, 1])  # 0 is more than -1
  np.testing.assert_array_equal(gated(LOGITS, KEPT, "logit_zero"), [[-1, -2, 0], [0.5, 2, 0]])


def test_softmax_zero_is_the_largest_of_probabilities_after_zeros():
  rng = np.random.default_rng(0)
  for kept in ((1, 1, 0, 0), (0, 1, 0, 1), (1, 0, 0, 0), (1, 1, 1, 1)):
    logits = rng.normal(scale=3, size=(5, 6, 4)).astype(np.float32)
    p = np.array(jax.nn.softmax(logits))
    expected = (p * kept).argmax(-1)
    for scores in (logits, p):
      found = gated(jnp.asarray(scores), jnp.asarray(kept, bool), "softmax_zero").argmax(-1)
      np.testing.assert_array_equal(found, expected)


def test_a_picture_without_any_class():
  """One rule lets it be, the other makes it the first class, as published."""
  none = jnp.zeros(3, bool)
  np.testing.assert_array_equal(gated(LOGITS, none, "softmax_zero"), LOGITS)
  np.testing.assert_array_equal(gated(LOGITS, none, "logit_zero").argmax(-1), [0, 0])


def test_published_fusion():
  g = golden("s4gan_losses")
  logits, kept = jnp.moveaxis(g["pred_unl"], 1, -1), jnp.asarray(g["mlmt_keep"]) > 0
  np.testing.assert_array_equal(logits.argmax(-1), g["mlmt_argmax_before"])
  # As shipped: classes are moved by one over the whole table, not within a picture.
  np.testing.assert_array_equal(np.roll(g["mlmt_raw"], 1), g["mlmt_rolled"])
  np.testing.assert_array_equal(g["mlmt_rolled"] >= 0.2, kept)
  fused = jax.vmap(lambda x, k: gated(x, k, "logit_zero"))(logits, kept).argmax(-1)
  np.testing.assert_array_equal(fused, g["mlmt_argmax_fused"])
  assert (g["mlmt_argmax_fused"] != g["mlmt_argmax_before"]).any()


def test_another_rule_is_refused():
  with pytest.raises(ValueError, match="'logits': softmax_zero, logit_zero"):
    gated(LOGITS, KEPT, "logits")
