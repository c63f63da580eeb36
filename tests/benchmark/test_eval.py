"""The measured evaluation gives the labels of the plain loop, and says by how much it differs."""

import json

import numpy as np

from semiseg_jax.benchmark import eval as measured
from semiseg_jax.training import experiment
from tests import small_network


def test_windows_beside_the_plain_loop(capsys, monkeypatch):
  make = lambda config, mesh, classes, channels: small_network.method(config, classes=classes)
  monkeypatch.setattr(experiment, "make_method", make)
  options = "--size=40x52 --window=32 --rounds=1 --classes=3".split()
  measured.main([*options, "--config.eval.batch=2"])
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert found["labels_differ"] == 0 and found["difference"] < 1e-5
  assert found["ratio"] > 0 and found["protocol"]["stride"] == [22, 22]
  assert {"jax", "version", "commit", "device", "load"} <= found.keys()


def test_what_labels_differ_by_is_the_lead_of_the_best_class():
  scores = np.array([[3.0, 1.0, 2.5], [0.0, 4.0, 1.0]])
  assert measured._margin(scores, np.array([2, 1])) == 0.5
  assert measured._margin(scores[:0], np.array([], int)) == 0
