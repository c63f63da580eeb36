"""The embedded data set is made once, whoever comes second uses it."""

import multiprocessing

import jax
import pytest
from jax.experimental import multihost_utils

from data_prep.toy_city import city
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.training import prepare
from tests import small_city


def _config(root):
  c = small_city.config(root)
  c.data.prepare = "toy_city"
  return c


@pytest.fixture
def made(monkeypatch):
  """The roots that were really made, by a small toy city."""
  roots, make = [], city.prepare

  def small(root):
    roots.append(root)
    make(root, train=2, val=1, size=(32, 32))

  monkeypatch.setattr(city, "prepare", small)
  return roots


def test_a_missing_one_is_made_once_and_said(tmp_path, made, capsys):
  config = _config(tmp_path / "city")
  prepare.prepare(config)
  assert f"Making the toy city at {tmp_path / 'city'}" in capsys.readouterr().out
  prepare.prepare(config)
  assert len(made) == 1 and capsys.readouterr().out == ""


def test_own_data_are_left_alone(tmp_path, made):
  config = _config(tmp_path / "city")
  config.data.prepare = ""
  prepare.prepare(config)
  assert made == []
  config.data.prepare = "city"
  with pytest.raises(ConfigError, match="data.prepare='city'"):
    prepare.prepare(config)


def _race(root, barrier):
  make = city.prepare

  def together(root):
    barrier.wait(60)
    make(root, train=2, val=1, size=(32, 32))

  city.prepare = together
  prepare.prepare(_config(root))
  assert len(Dataset.open(root)) == 3


@pytest.mark.slow
def test_two_starts_at_once_both_go_on(tmp_path):
  context = multiprocessing.get_context("spawn")
  barrier = context.Barrier(2)
  starts = [context.Process(target=_race, args=(tmp_path / "city", barrier)) for _ in range(2)]
  for start in starts:
    start.start()
  for start in starts:
    start.join(120)
  assert [start.exitcode for start in starts] == [0, 0]
  assert [path.name for path in tmp_path.iterdir()] == ["city"]


def test_the_loser_uses_the_finished_folder(tmp_path, monkeypatch, capsys):
  def beaten(root):
    small_city.write(root)
    raise DataError("appeared while it was being prepared")

  monkeypatch.setattr(city, "prepare", beaten)
  prepare.prepare(_config(tmp_path / "city"))
  assert "Another process made" in capsys.readouterr().out


def test_other_troubles_are_told(tmp_path, monkeypatch):
  def broken(root):
    raise DataError("the disk is full")

  monkeypatch.setattr(city, "prepare", broken)
  with pytest.raises(DataError, match="the disk is full"):
    prepare.prepare(_config(tmp_path / "city"))


@pytest.mark.parametrize("process, before", [(0, 1), (1, 0)])
def test_of_several_processes_the_first_one_makes_it(tmp_path, made, monkeypatch, process, before):
  """`before`: how many this process has made when it comes to wait."""
  waits = []

  def wait(name):
    waits.append(len(made))
    if not made:  # meanwhile the first one does it
      small_city.write(tmp_path / "city")

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(jax, "process_index", lambda: process)
  monkeypatch.setattr(multihost_utils, "sync_global_devices", wait)
  prepare.prepare(_config(tmp_path / "city"))
  assert waits == [before] and len(made) == before


def test_without_a_shared_disk_each_host_makes_its_own(tmp_path, made, monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  monkeypatch.setattr(multihost_utils, "sync_global_devices", lambda name: None)
  prepare.prepare(_config(tmp_path / "city"))
  assert len(made) == 1 and len(Dataset.open(tmp_path / "city")) == 3
