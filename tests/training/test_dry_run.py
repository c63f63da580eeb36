"""A dry run compiles, says what the run would cost, draws the first batch, and trains nothing."""

import re

import numpy as np
import pytest
from PIL import Image

from semiseg_jax import train
from semiseg_jax.data import pipeline
from semiseg_jax.errors import ConfigError
from semiseg_jax.training import dry_run
from semiseg_jax.training import run as runs
from tests import small_city

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


def test_it_prints_the_run_and_draws_a_batch(root, tmp_path, capsys):
  config = small_city.config(root, "ratio=1_4,method=cps_cutmix")
  dry_run.dry_run(train.build(config), str(tmp_path))
  said = capsys.readouterr().out
  assert "labeled: an epoch is 2.0 steps, the run 2.0 epochs" in said  # 4 pictures, batch 2
  assert "unlabeled: an epoch is 6.0 steps, the run 0.7 epochs" in said  # 12 pictures
  assert "image uint8[2, 32, 32, 3]" in said and "Nothing was trained." in said
  # Two networks and their momentum, three scalars apart.
  total, params = map(float, re.search(r"state +([\d.]+) MB, of them ([\d.]+) MB", said).groups())
  assert params < total < 3 * params
  assert [p.name for p in tmp_path.iterdir()] == ["first_batch.png"]
  with Image.open(tmp_path / "first_batch.png") as picture:
    assert picture.width == 10 * (192 + 6) + 6  # 3 streams of 2, mask, mixed, 2 pseudo labels


def test_a_sheet_has_a_column_for_each_view():
  views = {
    "image": np.full((2, 4, 4, 3), 7, np.uint8),
    "label": np.ones((2, 4, 4), np.uint8),
    "mask": np.zeros((2, 4, 4), bool),
  }
  found = dry_run.sheet(views, [(9, 9, 9), (200, 100, 50)])
  middles = [found[18 + 96, 6 + i * 198 + 96].tolist() for i in range(3)]
  assert middles == [[7, 7, 7], [200, 100, 50], [0, 0, 0]]


def test_what_cannot_run_is_said_before_anything_compiles(root, tmp_path):
  with pytest.raises(ConfigError, match="train.accumulate=3"):
    dry_run.dry_run(train.build(small_city.config(root, train__accumulate=3)), str(tmp_path))
  assert list(tmp_path.iterdir()) == []


def test_the_loop_refuses_a_batch_that_is_not_on_the_devices(root, tmp_path, monkeypatch):
  def _host(run, start):
    source = pipeline.make_batches(
      run.pool,
      runs._stream_specs(run),
      seed=0,
      start_step=start,
      rows=lambda n: slice(0, n),
      workers=0,
    )
    yield next(source)

  class Host:
    wait_s = 0.0

    def __init__(self, run, start):
      self._source = _host(run, start)

    def __next__(self):
      return next(self._source)

    def close(self):
      self._source.close()

  monkeypatch.setattr(runs, "device_batches", Host)
  with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
    train.train(small_city.config(root, "ratio=1_4,method=supervised"), str(tmp_path))


def test_chosen_steps_are_profiled(root, tmp_path):
  config = small_city.config(root, "ratio=1_4,method=supervised", profile_steps=(1, 2))
  train.train(config, str(tmp_path))
  assert list((tmp_path / "profile").glob("**/*.xplane.pb"))
  assert "networks/encoder/stem/conv/kernel" in (tmp_path / "parameters.txt").read_text()
