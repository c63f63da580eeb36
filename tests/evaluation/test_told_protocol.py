"""Protocols of result files of all versions."""

from semiseg_jax.evaluation import told_protocol
from semiseg_jax.reporting import results as pages
from semiseg_jax.sweeping import results as sweeps

OLD = {"mode": "slide", "window": [8, 8], "stride": [6, 6], "network": "0", "stack": ""}
NEW = {
  **OLD,
  **{"scales": [1.0], "flip": False, "whole": "as_is", "border": "shifted", "multiple": 0},
  **{"summed": "logits", "several_sizes": ""},
}


def result(**protocol):
  split, dataset = {"name": "val", "sha256": "a" * 64}, {"name": "city", "fingerprint": "b" * 64}
  fields = {"miou": 0.5, "split": split, "dataset": dataset, "trained_on": {}}
  return {**fields, "protocol": protocol}


def test_what_earlier_versions_left_out_had_its_default():
  assert told_protocol.completed(OLD) == NEW == told_protocol.completed(NEW)
  mean = told_protocol.completed({**OLD, "network": "mean", "border": "cut"})
  assert (mean["summed"], mean["border"]) == ("probabilities", "cut")
  picture = {"mode": "picture", "size": [8, 8], "network": "0"}
  assert told_protocol.completed(picture) == {**picture, "stack": ""}


def test_page_and_sweep_compare_old_and_new_files_as_equal():
  old, new, cut = result(**OLD), result(**NEW), result(**NEW | {"border": "cut"})
  ways = [pages.way(pages.Result(None, fields)) for fields in (old, new, cut)]
  assert ways[0] == ways[1] != ways[2]
  grounds = [sweeps.ground(fields) for fields in (old, new, cut)]
  assert grounds[0] == grounds[1] != grounds[2]


def test_a_sweep_ranks_networks_that_add_what_they_add_anyway():
  mean = NEW | {"network": "mean", "summed": "probabilities"}
  assert sweeps.ground(result(**mean)) == sweeps.ground(result(**NEW))
  assert sweeps.ground(result(**mean | {"summed": "logits"})) != sweeps.ground(result(**NEW))


def test_a_line_for_people_says_what_is_not_usual():
  assert told_protocol.unusual(NEW) == {k: v for k, v in OLD.items() if v}
  assert told_protocol.unusual(NEW | {"summed": "probabilities"})["summed"] == "probabilities"
