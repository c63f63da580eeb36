"""Sums and counts of metrics: packed into one vector, added in float64, divided once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import sharding
from semiseg_jax.training.metrics import Averages, pack
from semiseg_jax.training.train_step import is_finite


def _metrics(loss, share, histogram):
  return {
    "loss": (jnp.float32(loss), 1.0),
    "histogram": (jnp.asarray(histogram, jnp.float32), jnp.float32(sum(histogram))),
    "share": (jnp.float32(share[0]), share[1]),
  }


def test_pack_is_one_float32_vector_by_name():
  packed = pack(_metrics(5.0, (3, 4), [1, 0, 2]))
  assert packed.dtype == jnp.float32
  assert packed.tolist() == [1, 0, 2, 3, 5, 1, 3, 4]  # histogram and count, loss, share


def test_means_divide_the_sums_once():
  steps = [_metrics(5.0, (3, 4), [1, 0, 2]), _metrics(7.0, (0, 12), [1, 1, 0])]
  averages, shapes = Averages(), jax.eval_shape(lambda: steps[0])
  first = averages.add(np.asarray(pack(steps[0])), shapes)
  assert first == {"loss": 5, "share": 0.75}  # scalars only
  averages.add(np.asarray(pack(steps[1])), shapes)
  means = averages.means()
  assert means["loss"] == 6 and means["share"] == 3 / 16  # not the mean of 3/4 and 0
  np.testing.assert_allclose(means["histogram"], [0.4, 0.2, 0.4])


def test_reset_forgets():
  averages = Averages()
  for loss in (100.0, 2.0):
    averages.reset()
    averages.add(np.asarray(pack(_metrics(loss, (1, 1), [1]))), _metrics(loss, (1, 1), [1]))
  assert averages.means()["loss"] == 2


def test_what_nothing_was_counted_for_is_left_out():
  averages, step = Averages(), _metrics(1.0, (0, 0), [0, 0])
  now = averages.add(np.asarray(pack(step)), step)
  assert np.isnan(now["share"]) and now["loss"] == 1
  assert set(averages.means()) == {"loss"}


def test_small_parts_are_not_lost_in_a_large_sum():
  averages = Averages()
  for value in (2.0**24, *[1.0] * 8):  # float32 would stay at 2^24
    averages.add(np.asarray(pack({"x": (jnp.float32(value), 0.125)})), {"x": (0.0, 1.0)})
  assert averages.means()["x"] == (2**24 + 8) / (9 / 8)


def test_steps_of_two_phases_keep_their_names():
  """'added' comes before 'finite' in the second phase, so every later number has another place."""
  first = {"finite": (jnp.float32(1), 1.0), "loss": (jnp.float32(8), 1.0)}
  second = {"added": (jnp.float32([3, 5]), 2.0), "finite": (jnp.float32(0), 1.0)}
  second |= {"loss": (jnp.float32(2), 1.0)}
  averages = Averages()
  assert averages.add(np.asarray(pack(first)), first) == {"finite": 1, "loss": 8}
  assert averages.add(np.asarray(pack(second)), second) == {"finite": 0, "loss": 2}
  means = averages.means()
  assert means["loss"] == 5 and means["finite"] == 0.5 and means["added"].tolist() == [1.5, 2.5]
  with pytest.raises(ValueError, match="not the metrics"):
    averages.add(np.asarray(pack(second)), first)


@pytest.mark.parametrize("on_devices", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_noticed(monkeypatch, on_devices, bad):
  if on_devices:
    monkeypatch.setattr(sharding, "in_host_memory", lambda tree: False)
  good = {"a": jnp.full((2, 3), 3e38), "b": jnp.zeros(4, jnp.bfloat16), "c": jnp.arange(3)}
  assert is_finite(good)
  assert not is_finite({**good, "b": good["b"].at[2].set(bad)})
