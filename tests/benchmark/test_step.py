"""The step's table from made-up times, and a whole measurement of a small method."""

import json

import pytest

from semiseg_jax import sharding
from semiseg_jax.benchmark import step
from semiseg_jax.models.network import Network
from tests import small_network
from tests.methods import cases

pytestmark = pytest.mark.slow


def test_parts_add_up_to_the_whole_step():
  times = {
    "whole step": [0.2, 0.1, 9.0],
    "forward": [0.03, 0.03, 0.03],
    "both": [0.09, 0.09, 0.09],
    "both, running statistics": [0.08, 0.08, 0.08],
    "upsampling": [0.02, 0.02, 0.02],
    "loss": [0.01, 0.01, 0.01],
  }
  first, *rows = step.table(times, pictures=12)
  assert first.startswith("60.00 images/s, 200.0 ms per step (200.0 100.0 9000.0)")
  found = {row[:30].strip(): float(row[30:].split()[0]) for row in rows}
  assert found == {
    "forward": 30, "backward": 60, "batch statistics, in both": 10,
    "upsampling and its gradient": 20, "loss and its gradient": 10, "all else": 80,
  }  # fmt: skip
  assert sum(ms for name, ms in found.items() if "statistics" not in name) == 200
  assert rows[0].endswith("15.0 %")


def test_a_method_is_measured():
  config = cases.config("cps")
  config.data.crop = (32, 32)
  method, _, _ = cases.build("cps", sharding.make_mesh())
  assert {"labeled", "unlabeled"} == {s.name for s in method.streams}
  first, compiled, rate, *rows = step.measure(config, method, cases.CLASSES, steps=1, rounds=1)
  assert "cps" in first and "8 pictures of 32x32" in first
  assert compiled.startswith("compiled in") and "images/s" in rate and len(rows) == 8
  assert "GFLOP per step" in rows[-2] and json.loads(rows[-1])["flops"] > 0


def test_a_method_that_learns_from_stored_labels_is_measured():
  config = cases.config("supervised")
  config.data.crop, config.method.name = (32, 32), "self_training"
  config.data.strong.update(jitter_p=0.0, blur_p=0.0)  # they compile for long
  method = small_network.method(config, classes=cases.CLASSES)
  batch = step.noise(config, method, cases.CLASSES)
  assert batch["unlabeled"]["target"].max() == cases.CLASSES - 1
  assert batch["unlabeled"]["confidence"].shape == (cases.ROWS, 32, 32)
  first, *_ = step.measure(config, method, cases.CLASSES, steps=1, rounds=1)
  assert "self_training" in first


def test_a_method_on_pairs_of_crops_has_a_batch():
  config = cases.config("cac")
  config.data.crop = (32, 32)
  pairs = step.noise(config, small_network.method(config, projection=8), cases.CLASSES)["unlabeled"]
  assert pairs["image_2"].shape == (cases.ROWS, 32, 32, 3)
  assert pairs["geometry"].tolist() == [[0, 0, 32, 32, 0, 0]] * cases.ROWS


def test_nothing_has_to_be_there(monkeypatch, capsys):
  """Neither a data set nor weights: the configs name both."""
  seen = {}
  monkeypatch.setattr(step, "measure", lambda config, method, *rest: seen.update(m=method) or ["-"])
  step.main(["--config=configs/cps_voc.py", "--config.data.crop=(64, 64)", "--classes=5"])
  network = seen["m"].stacks["networks"].network
  assert isinstance(network, Network) and network.num_classes == 5
  assert "1 x cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
  "argv, said",
  [
    ([], "--config=FILE.py is missing"),
    (["--config=configs/absent.py"], "absent"),
    (["--config=configs/cps_toy.py", "--rounds=0"], "rounds"),
    (["--config=configs/cps_toy.py", "--classes=256"], "classes"),
    (["--config=configs/cps_toy.py", "--config.data.crops=(3, 3)"], "crops"),
    (["--config=configs/cps_toy.py", "--config.model.backbone=resnet5"], "resnet50_v1s"),
  ],
)
def test_wrong_flags_end_with_one_line(argv, said):
  with pytest.raises(SystemExit) as error:
    step.main(argv)
  assert said in str(error.value) and str(error.value).startswith("benchmark: ")
