"""What a run says of its length."""

import types

import pytest

from semiseg_jax.config import schema
from semiseg_jax.training import estimate


def _config(steps, method="cps", crop=(256, 256)):
  c = schema.default()
  c.train.steps, c.method.name, c.data.crop = steps, method, crop
  return c


@pytest.mark.parametrize(
  "seconds,said",
  [
    (42, "42 s"),
    (89, "89 s"),
    (90, "1.5 min"),
    (1500, "25 min"),
    (9000, "2.5 h"),
    (2e5, "2.3 days"),
  ],
)
def test_lengths_are_spoken_in_two_digits(seconds, said):
  assert estimate.spoken(seconds) == said


def test_smaller_choices_are_named_with_their_time():
  said = "\n".join(estimate.lines(_config(1000), 3.6, 900))
  assert "3.60 s a step at first: 900 steps to go take about 54 min" in said
  assert "--config.train.steps=500: 30 min in all" in said
  # 192 of 256 on each side: 9 of 16 pixels.
  assert '--config.data.crop="(192, 192)": 34 min' in said
  assert "method=supervised" in said
  alone = "\n".join(estimate.lines(_config(1000, "supervised", (32, 32)), 3.6, 900))
  assert "method=supervised" not in alone and "data.crop" not in alone


def test_five_steps_of_one_program_are_timed_and_said_once(monkeypatch, capsys):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(estimate.time, "monotonic", lambda: clock.now)
  timed = estimate.Estimate(_config(100), start=10)
  for t in range(10, 60):
    # The first step compiles; so does the third, where a second program begins.
    clock.now += {10: 60.0, 12: 40.0}.get(t, 2.0)
    timed.take(t, frozenset() if t < 12 else frozenset({"late"}), None)
  said = capsys.readouterr().out
  assert said.count("a step at first") == 1
  assert "2.00 s a step at first: 81 steps to go take about 2.7 min" in said


def test_short_runs_say_nothing(capsys):
  timed = estimate.Estimate(_config(20), start=1)
  for t in range(1, 20):
    timed.take(t, frozenset(), None)
  assert not capsys.readouterr().out
