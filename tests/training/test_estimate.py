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
    (0.2, "less than 1 s"),
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
  config = _config(1000)
  config.derived = ("name='x': said",)
  said = "\n".join(estimate.lines(config, 3.6, 100))
  assert "54 min to go on this machine: 900 steps of 3.6 s" in said
  assert "--config.train.steps=500: 30 min in all" in said
  # 192 of 256 on each side: 9 of 16 pixels.
  assert '--config.data.crop="(192, 192)": 34 min' in said
  assert "method=supervised" in said and "WARNING" not in said
  config.method.name, config.data.crop = "supervised", (32, 32)
  alone = "\n".join(estimate.lines(config, 3.6, 100))
  assert "method=supervised" not in alone and "data.crop" not in alone


def test_evaluations_are_counted_in():
  config = _config(1000)
  config.eval.every = 300  # after 300, 600, 900 and 1000 steps
  (line,) = estimate.lines(config, 2.0, 400, evaluation=30.0)
  # 600 steps of 2 s and three evaluations of 60 s.
  assert "23 min to go" in line and "and 3 evaluations of 60 s" in line


def test_a_run_of_more_than_half_a_day_names_a_command_of_half_a_day(monkeypatch):
  argv = ["/x/semiseg_jax/main.py", "--config=configs/own.py:root=my data", "--workdir", "runs/a"]
  monkeypatch.setattr(estimate.sys, "argv", [*argv, "--config.train.steps=20000"])
  said = "\n".join(estimate.lines(_config(20_000), 10.0, 0))
  assert "WARNING    this run takes about 2.3 days on this machine" in said
  # 9 of 16 pixels: 5.625 s a step, 7680 of which take 12 h.
  assert (
    "python -m semiseg_jax.main '--config=configs/own.py:root=my data' --workdir=runs/a_shorter "
    "--config.train.steps=7680 '--config.data.crop=(192,192)'"
  ) in said
  assert "shorter" not in "\n".join(estimate.lines(_config(4000), 10.0, 0))


def test_from_python_the_keys_are_named():
  assert estimate.command(["notebook.py"], {"config.train.steps": "7"}) == "train.steps=7"


@pytest.mark.parametrize("side, smaller", [(321, 225), (512, 352), (32, 32), (40, 40)])
def test_smaller_crops_stay_what_they_are_beside_multiples_of_32(side, smaller):
  assert estimate.smaller_crop((side, side))[0] == (smaller, smaller)


@pytest.mark.parametrize("mode, seen", [("whole", 2 * 40 * 70), ("slide", 2 * 2 * 3 * 32 * 32)])
def test_an_evaluation_costs_what_its_networks_see(mode, seen):
  config = _config(100, crop=(32, 32))
  config.method.networks, config.eval.network = 2, "mean"
  config.eval.mode, config.eval.window, config.eval.stride = mode, (32, 32), (22, 22)
  stacks = {"student": types.SimpleNamespace(n=2)}
  streams = [types.SimpleNamespace(batch=4), types.SimpleNamespace(batch=4)]
  method = types.SimpleNamespace(stacks=stacks, streams=streams, stacks_of=lambda role: ["student"])
  info = types.SimpleNamespace(ids=("a", "b"), sizes=((40, 70), (40, 70)))
  cost = estimate.evaluation_cost(
    config, method, types.SimpleNamespace(info=info), types.SimpleNamespace(ids=("a", "b"))
  )
  # Both networks: of a step each sees 8 crops forward and, twice as dear, back.
  assert cost == pytest.approx(seen / (3 * 8 * 32 * 32))


def test_the_first_steps_of_a_program_are_timed_and_said_once(monkeypatch, capsys):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(estimate.time, "monotonic", lambda: clock.now)
  timed, said = estimate.Estimate(_config(100), start=10), {}
  for t in range(10, 60):
    # The first step compiles; so does the third, where a second program begins.
    clock.now += {10: 60.0, 12: 40.0}.get(t, 2.0)
    timed.take(t, frozenset() if t < 12 else frozenset({"late"}), None)
    said[t] = capsys.readouterr().out
  assert [t for t, text in said.items() if text] == [14]
  assert "2.8 min to go on this machine: 85 steps of 2 s" in said[14]


def test_short_runs_say_nothing(capsys):
  timed = estimate.Estimate(_config(20), start=1)
  for t in range(1, 20):
    timed.take(t, frozenset(), None)
  assert not capsys.readouterr().out
