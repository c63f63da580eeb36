"""Complete runs that are started again, with the same number of steps and with more."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from semiseg_jax import continuing, segments, train
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods.contract import Stage
from semiseg_jax.methods.step import Step
from semiseg_jax.training import optimizers
from semiseg_jax.workdir import checkpoints
from tests import small_city


def _options(schedule="poly", **values):
  return optimizers.Options(learning_rate=1.0, schedule=schedule, power=1.0, **values)


@pytest.mark.parametrize(
  "text,expected",
  [
    # Written out by hand: a line down to 0 over the first four steps, then four more.
    ("4=restart*1", [1, 0.75, 0.5, 0.25, 1, 0.75, 0.5, 0.25]),
    ("4=constant*0.1", [1, 0.75, 0.5, 0.25, 0.1, 0.1, 0.1, 0.1]),
    ("4=cosine*0.5", [1, 0.75, 0.5, 0.25, 0.5, 0.25 + 0.125 * 2**0.5, 0.25, 0.25 - 0.125 * 2**0.5]),
  ],
)
def test_the_rate_goes_on_as_named(text, expected):
  o = _options(continued=(text,))
  np.testing.assert_allclose([optimizers.rate(o, 8, t) for t in range(8)], expected, atol=1e-12)
  course = optimizers.schedule(o, 1.0, "poly", 8)
  np.testing.assert_allclose([float(course(t)) for t in range(8)], expected, atol=1e-6)


def test_a_second_raise_follows_the_first():
  o = _options(continued=("2=constant*0.5", "4=restart*1"), warmup_steps=1)
  # The warm-up step of each pass of the schedule has the peak; then a line over what is left.
  expected = [1, 1, 0.5, 0.5, 1, 1, 2 / 3, 1 / 3]
  np.testing.assert_allclose([optimizers.rate(o, 8, t) for t in range(8)], expected)
  course = optimizers.schedule(o, 1.0, "poly", 8)
  np.testing.assert_allclose([float(course(t)) for t in range(8)], expected, atol=1e-6)


@pytest.mark.parametrize(
  "continued,said",
  [
    (("4=poly*1",), "write END=KIND"),
    (("4=cosine*0",), "write END=KIND"),
    (("4=cosine*1.5",), "write END=KIND"),
    (("8=cosine*1",), "ends that rise, each below train.steps=8"),
    (("4=cosine*1", "4=cosine*1"), "ends that rise"),
  ],
)
def test_texts_that_cannot_be_are_refused(continued, said):
  with pytest.raises(ConfigError, match=said):
    segments.of(continued, 8)


def _config(steps, **changes):
  c = schema.default()
  c.data.root, c.data.labeled, c.train.steps = "data", "labeled", steps
  c.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return c


def _extended(monkeypatch, saved, step, now):
  meta = {"config": json.loads(saved.to_json())}
  monkeypatch.setattr(checkpoints, "newest", lambda workdir: (step, meta))
  return continuing.extended(now, "runs/x").optimizer.continued


def test_a_raise_is_written_down_once(monkeypatch):
  more = _config(9, optimizer__continuation="cosine", optimizer__continuation_share=0.25)
  assert _extended(monkeypatch, _config(4), 4, more) == ("4=cosine*0.25",)
  begun = _config(9, optimizer__continued=("4=cosine*0.25",))
  # Killed after the raise: the same command, also one that says nothing of the course any more.
  assert _extended(monkeypatch, begun, 6, more) == ("4=cosine*0.25",)
  assert _extended(monkeypatch, begun, 6, _config(9)) == ("4=cosine*0.25",)
  again = _config(20, optimizer__continuation="constant")
  assert _extended(monkeypatch, begun, 9, again) == ("4=cosine*0.25", "9=constant*0.1")
  constant = {"optimizer__schedule": "constant"}
  found = _extended(monkeypatch, _config(4, **constant), 4, _config(9, **constant))
  assert found == ("4=restart*1",)


@pytest.mark.parametrize(
  "step,steps,said",
  [(3, 9, "is at step 3 of 4.*--config.train.steps=4"), (4, 9, "continuation=restart.*cosine")],
)
def test_a_raise_that_could_mean_several_things_is_refused(monkeypatch, step, steps, said):
  with pytest.raises(ConfigError, match=said):
    _extended(monkeypatch, _config(4), step, _config(steps))


def test_fewer_steps_are_another_run(monkeypatch):
  assert _extended(monkeypatch, _config(4), 4, _config(3)) == ()
  assert (
    _extended(monkeypatch, _config(9, optimizer__continued=("4=restart*1",)), 9, _config(4)) == ()
  )


@pytest.mark.parametrize(
  "continued,steps,same",
  [(("4=cosine*1",), 9, True), (("5=cosine*1",), 9, False), ((), 9, False), ((), 4, True)],
)
def test_a_saved_run_is_the_beginning_of_one_that_was_raised_at_its_end(continued, steps, same):
  saved, now = (c.to_dict() for c in (_config(4), _config(steps, optimizer__continued=continued)))
  assert (continuing.as_now(saved, now) == now) is same


@pytest.mark.parametrize(
  "step, planned, steps, kept",
  [
    (4, 4, 9, {"train.steps": 4}),
    (4, 4, 4, {"train.steps": 4}),  # nothing was raised
    (2, 4, 9, {"train.steps": 9}),  # not complete: told by name when it is trained
    (9, 9, 4, {"train.steps": 4}),  # fewer steps are another run
  ],
)
def test_complete_stages_before_the_last_keep_their_steps(
  monkeypatch, capsys, step, planned, steps, kept
):
  meta = {"config": {"train": {"steps": planned}}}
  monkeypatch.setattr(
    checkpoints, "newest", lambda workdir: (step, meta) if workdir.endswith("/a") else None
  )
  of_run = {"train.steps": steps}
  parts = [Stage("a", of_run, follows=True), Stage("b", of_run, follows=True), Stage("last", {})]
  first, *others = continuing.keep_stages(parts, steps, "runs/x")
  assert first.changes == kept and others == parts[1:]
  assert ("a keeps its 4 steps" in capsys.readouterr().out) == (kept != of_run)
  given = [Stage("a", of_run), parts[2]]  # by a key of its own
  assert continuing.keep_stages(given, steps, "runs/x") == given


def test_rules_know_the_texts():
  assert any(
    "ends that rise" in x for x in rules.faults(_config(3, optimizer__continued=("4=cosine*1",)))
  )


def test_what_is_spread_over_a_run_ends_where_it_first_ended():
  step = object.__new__(Step)
  for t, continued, share in [
    (3, (), 0.375),
    (3, ("4=restart*1",), 0.75),
    (6, ("4=restart*1",), 1),
  ]:
    step.c, step.t = _config(8, optimizer__continued=continued), np.int32(t)
    assert float(step.course()) == share


def _arrays(workdir, step):
  folder = workdir / "checkpoints" / str(step)
  return [ocp.PyTreeCheckpointer().restore(folder / item) for item in ("model", "train")]


@pytest.mark.slow
def test_two_commands_have_the_bits_of_one_and_a_third_returns_at_once(
  tmp_path, monkeypatch, capsys
):
  root, parts, whole = (tmp_path / name for name in ("data", "parts", "whole"))
  small_city.write(root)
  config = lambda **changes: small_city.config(
    root, "ratio=1_4,method=supervised", checkpoint__every=0, **changes
  )
  train.train(config(train__steps=2), str(parts))
  raised = {"train__steps": 4, "optimizer__continuation": "cosine"}
  train.train(config(**raised), str(parts))
  train.train(config(train__steps=4, optimizer__continued=("2=cosine*0.1",)), str(whole))
  for a, b in zip(*(jax.tree.leaves(_arrays(w, 4)) for w in (parts, whole)), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

  def never(*args, **values):
    pytest.fail("it is built again")

  capsys.readouterr()
  with monkeypatch.context() as patch:
    patch.setattr(train.experiment, "initial_state", never)
    train.train(config(**raised), str(parts))
    said = capsys.readouterr().out
    assert "4 steps are done" in said and "val_step_4" in said
    with pytest.raises(ConfigError, match="optimizer.learning_rate: 0.1 then, 0.5 now"):
      train.train(config(**raised, optimizer__learning_rate=0.5), str(parts))

  step, meta = checkpoints.newest(str(parts))
  other = {**meta, "checksums": {**meta["checksums"], "networks": 1}}
  assert step == 4 and checkpoints.is_whole(parts, 4, meta)
  assert not checkpoints.is_whole(parts, 4, other) and not checkpoints.is_whole(parts, 3, meta)
