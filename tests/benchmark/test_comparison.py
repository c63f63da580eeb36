"""What a comparison prints, from made-up rounds; a side that does not start."""

import json
import sys

import pytest

from semiseg_jax.benchmark import comparison
from semiseg_jax.benchmark.compile import table as compile_table
from semiseg_jax.benchmark.memory import Usage, fits
from semiseg_jax.benchmark.memory import table as memory_table
from semiseg_jax.errors import UserError

RECIPE = {
  "backbone": "ResNet", "networks": 2, "crop": (129, 129), "labeled": 2, "unlabeled": 2,
  "cutmix": {"boxes": 3}, "dtype": "float32",
}  # fmt: skip
ABOUT = {
  "jax": {"device": "cpu", "version": "1"},
  "torch": {"device": "cpu", "version": "2", "mode": "eager"},
}


def _round(seconds, peak):
  return {"seconds": seconds, "processor": 2 * seconds, "peak": peak}


def test_the_ratio_is_the_median_within_rounds():
  found = {
    "jax": [_round(1.0, 10**9), _round(10.0, 2 * 10**9), _round(1.0, 10**9)],
    "torch": [_round(1.5, 10**9), _round(20.0, 10**9), _round(1.0, 10**9)],
  }
  *lines, last = comparison.report(found, ABOUT, RECIPE, {"eager": 1.5}, threads=2)
  assert "6 pictures of 129x129" in lines[0] and "2 threads" in lines[0]
  assert "1000.0 ms (least 1000.0)" in lines[2] and "2.00 GB" in lines[2]
  assert "1500.0 ms (least 1000.0)" in lines[3] and "1.00 GB" in lines[3]
  assert lines[-1].startswith("torch / ours: 1.50 x the time, 1.50 x the processor time, 0.50 x")
  assert json.loads(last)["ratio"] == {"seconds": 1.5, "processor": 1.5, "peak": 0.5}


def test_torch_that_is_absent_is_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(UserError, match="pip install torch$"):
    comparison.measure([], 1, 1)


def test_cards_on_which_a_step_fits():
  one = Usage(arguments=2 * 10**9, outputs=2 * 10**9, aliased=10**9, temporaries=12 * 10**9)
  assert one.peak == 15 * 10**9
  assert [fits(one, card) for card in (16, 24)] == [False, True]  # the last tenth is not its own
  header, row, units, said = memory_table([("cps", one)], "cpu", estimated=True)
  assert row.split() == ["cps", "2.00", "12.00", "15.00", "-", "fits", "fits", "fits", "fits"]
  assert header.split()[-2:] == ["141", "GB"] and said.startswith("An ESTIMATE")
  assert len(memory_table([("cps", one)], "H200", estimated=False)) == 3


def test_starts_stand_side_by_side():
  names = ["import and config", "state and batch", "trace", "lower", "compile", "first run"]
  cold = {name: [1.0, 0.5] for name in (*names, "cache read, in compile", "whole process")}
  lines = compile_table({"cold": cold, "warm": {**cold, "compile": [0.25, 0.125]}})
  assert lines[5].split("  ")[0] == "compile" and "0.25 s (0.12)" in lines[5]
  assert json.loads(lines[-1])["warm"]["compile"] == [0.25, 0.125]
