"""Rows of metrics: what they are means of, and that a restart does not show in them."""

import json
import types

import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.errors import NonFiniteError
from semiseg_jax.training import log as logs
from semiseg_jax.training import metrics

STEPS, EVERY, SAVES = 12, 4, (3, 8, 10)
NAMES = {False: ("finite", "loss"), True: ("finite", "loss", "share")}  # share begins with step 5
KEPT = [0.1 * t for t in range(STEPS)]


class _Rows(dict):
  def write_scalars(self, step, rows):
    assert step not in self
    self[step] = {k: v for k, v in rows.items() if not k.startswith(("speed/", "memory/"))}


def _packed(t):
  """Loss t, finite; from step 5 on the share of t + 1 things that is KEPT[t]."""
  late = t >= 5
  pairs = {"finite": (1.0, 1.0), "loss": (float(t), 1.0), "share": ((t + 1) * KEPT[t], t + 1.0)}
  return metrics.pack({name: pairs[name] for name in NAMES[late]}), frozenset(("late",) * late)


def _log(rows):
  quiet = types.SimpleNamespace(update=lambda *a, **k: None)
  shapes = lambda phase: {name: (np.zeros(()), np.zeros(())) for name in NAMES["late" in phase]}
  waited, clock = types.SimpleNamespace(wait_s=0.0), types.SimpleNamespace(seconds=0.0)
  config = schema.default()
  config.train.steps, config.train.log_every = STEPS, EVERY
  return logs.TrainingLog(config, rows, quiet, shapes, waited, 2, ["p"], ["a", "b"], clock)


def _train(rows, start=0, kept=None, stop=STEPS, packed=_packed):
  """What the loop does with a log from one step to another; returns what its last save keeps."""
  log = _log(rows)
  if kept is not None:
    log.recall(json.loads(json.dumps(kept)))
  for t in range(start, stop):
    values, phase = packed(t)
    log.take(t, phase, values, {})
    if t + 1 in SAVES or t + 1 == stop:
      log.catch_up()
    if (t + 1) % EVERY == 0 or t + 1 == STEPS:
      log.write(t + 1)
  return log.kept()


@pytest.fixture(scope="module")
def whole():
  rows = _Rows()
  _train(rows)
  return rows


def test_a_row_has_the_steps_since_the_last_one_its_own_too(whole):
  assert list(whole) == [4, 8, 12]
  assert [whole[step]["train/loss"] for step in whole] == [1.5, 5.5, 9.5]
  assert "train/share" not in whole[4]
  of_things = sum((t + 1) * KEPT[t] for t in (5, 6, 7)) / (6 + 7 + 8)
  assert whole[8]["train/share"] == pytest.approx(of_things, rel=1e-6)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_run_that_is_started_again_at_any_step_has_the_same_rows(whole, step):
  rows = _Rows()
  kept = _train(rows, stop=step)
  _train(rows, start=step, kept=kept)
  assert rows == whole


def test_a_row_waits_for_its_last_step_and_for_no_later_one():
  rows, log = _Rows(), None
  log = _log(rows)
  for t in range(EVERY):
    values, phase = _packed(t)
    log.take(t, phase, values, {})
  log.write(EVERY)
  assert rows == {}  # the last step may still run
  log.take(EVERY, frozenset(), _packed(EVERY)[0], {})
  assert list(rows) == [EVERY]


def test_a_step_of_a_later_phase_that_is_not_finite_is_noticed():
  def packed(t):
    pairs = {"finite": (float(t != 7), 1.0), "loss": (np.nan if t == 7 else 1.0, 1.0)}
    return metrics.pack({**pairs, **({"share": (1.0, 1.0)} if t >= 5 else {})}), _packed(t)[1]

  with pytest.raises(NonFiniteError, match="Step 7 gave a loss"):
    _train(_Rows(), packed=packed)
