import dataclasses
import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_prep.toy_city import city
from data_prep.toy_city.canvas import BUILDING, CAR, CLASSES, COLORS, SKY, VEGETATION, Canvas
from data_prep.toy_city.scene import render_scene
from data_prep.toy_city.street import Camera
from data_prep.toy_city.weather import TIMES, WEATHERS, sample_conditions
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.labels import IGNORE

REPOSITORY = pathlib.Path(__file__).parents[3]
HASHES = """
import hashlib
from data_prep.toy_city.scene import render_scene
for seed, index in ((0, 3), (0, 17), (5, 3)):
  scene = b"".join(a.tobytes() for a in render_scene(seed, index, 96, 128))
  print(hashlib.sha256(scene).hexdigest())
"""


@pytest.fixture(scope="module")
def scenes():
  """The scenes of the smallest labeled list of the default city."""
  return [render_scene(0, int(i), 96, 128) for i in city.labeled_lists(0, 480)["labeled_1_16"]]


def test_equal_in_fresh_processes():
  runs = [
    subprocess.run(
      [sys.executable, "-c", HASHES], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split()
    for _ in range(2)
  ]
  here = [
    hashlib.sha256(b"".join(a.tobytes() for a in render_scene(*scene, 96, 128))).hexdigest()
    for scene in ((5, 3), (0, 17), (0, 3))
  ][::-1]
  assert runs[0] == runs[1] == here
  assert len(set(here)) == 3


def test_seed_stream_and_index_each_make_another_scene():
  pictures = [
    render_scene(0, 0, 96, 128)[0],
    render_scene(1, 0, 96, 128)[0],
    render_scene(0, 1, 96, 128)[0],
    render_scene(0, 0, 96, 128, stream=1)[0],
  ]
  for i, first in enumerate(pictures):
    for second in pictures[i + 1 :]:
      assert np.abs(first.astype(int) - second).mean() > 10


@pytest.mark.parametrize("size", [(96, 128), (64, 64), (75, 101), (128, 256)])
def test_shapes_and_ids(size):
  for index in range(4):
    image, label = render_scene(2, index, *size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert label.shape == size and label.dtype == np.uint8
    assert set(np.unique(label)) <= {*range(len(CLASSES)), IGNORE}


def test_flat_picture_shows_the_label():
  palette = {color: i for i, color in enumerate(COLORS)} | {(0, 0, 0): IGNORE}
  exact = 0
  for index in range(12):
    image, label = render_scene(0, index, 96, 128, flat=True)
    assert np.array_equal(label, render_scene(0, index, 96, 128)[1])
    for color, class_id in palette.items():
      pure = (image == color).all(-1)
      assert (label[pure] == class_id).all()
      exact += pure.sum()
  assert exact > 0.8 * 12 * label.size  # the rest are edges, whose colors are mixed


def test_edges_of_the_picture_lie_on_edges_of_the_label(scenes):
  """The contrast across the label's edges is largest where the label is not moved."""
  reach = range(-2, 3)
  for axis in (0, 1):
    contrast = dict.fromkeys(reach, 0.0)
    for image, label in scenes:
      steps = np.abs(np.diff(image.astype(float).mean(-1), axis=axis))
      edges = np.diff(label.astype(int), axis=axis) != 0
      for shift in reach:
        contrast[shift] += steps[np.roll(edges, shift, axis)].mean()
    assert max(contrast, key=contrast.get) == 0
    assert contrast[0] > 1.3 * max(contrast[-2], contrast[2])


def test_canvas_paints_picture_and_label_alike():
  canvas = Canvas(8, 8)
  canvas.polygon(np.array([[4, 4], [11, 4], [11, 11], [4, 11]]), np.ones(3), CAR)
  image, label = canvas.finish()
  inside = np.zeros((8, 8), bool)
  inside[2:6, 2:6] = True
  assert np.array_equal(label == CAR, inside)
  assert np.array_equal(image, np.repeat(inside[..., None], 3, -1))


def test_the_class_of_most_samples_wins():
  canvas = Canvas(1, 4)
  canvas.label[:] = [[0, 1, 2, 3, 4, 5, 6, 6], [1, 1, 3, 3, 4, 4, 6, 7]]
  assert canvas.finish()[1].tolist() == [[1, 3, 4, 6]]


def test_canvas_paints_what_lies_partly_outside():
  canvas = Canvas(4, 6)
  corners = np.array([[-5.0, -5.0], [3.0, -5.0], [3.0, 3.0], [-5.0, 3.0]])
  canvas.quad(corners, np.ones((4, 4, 3), np.float32), BUILDING)
  canvas.quad(corners + 1000, np.ones((4, 4, 3), np.float32), CAR)
  canvas.sprite(
    (8.0, 4.0, 20.0, 12.0),
    np.ones((4, 4, 3), np.float32),
    np.ones((4, 4), np.uint8),
    VEGETATION,
  )
  _, label = canvas.finish()
  assert label[0, 0] == BUILDING and label[3, 5] == VEGETATION
  assert label[3, 0] == label[0, 5] == SKY
  assert not (label == CAR).any()


def test_camera_finds_the_ground_again():
  camera = dataclasses.replace(
    Camera.sample(np.random.default_rng(0), 192, 256, 2.0), roll=0.06, bend=0.004
  )
  lateral, depth = camera.unproject_ground(slice(140, 192))
  for row, column in ((0, 0), (20, 255), (51, 100)):
    point = lateral[row, column], 0.0, depth[row, column]
    np.testing.assert_allclose(camera.project(point)[0], (column, 140 + row), atol=0.05)
  high, low = camera.project((0.0, 1.8, 20.0), (0.0, 0.0, 20.0))
  assert np.linalg.norm(high - low) == pytest.approx(camera.focal * 1.8 / 20)
  assert high[1] < low[1]


def test_every_class_is_shown_often(scenes):
  counts = np.array([np.bincount(label.reshape(-1), minlength=256) for _, label in scenes])
  share = counts.sum(0) / counts.sum()
  shown = (counts > 20).mean(0)
  for class_id, name in enumerate(CLASSES):
    assert share[class_id] > 0.004, name
    assert shown[class_id] > 0.5, name
  assert share[: len(CLASSES)].max() < 0.45
  assert share[IGNORE] < 0.08


def test_a_class_looks_different_from_scene_to_scene(scenes):
  for class_id, name in enumerate(CLASSES):
    means = [
      image[label == class_id].mean() for image, label in scenes if (label == class_id).sum() > 20
    ]
    assert np.std(means) > 15, name


def test_few_labels_show_few_of_the_modes():
  def mode(index):
    conditions = sample_conditions(np.random.Generator(np.random.PCG64([0, 0, index])))
    return conditions.time, conditions.weather, conditions.season

  lists = city.labeled_lists(0, 480)
  everything = {mode(i) for i in range(480)}
  labeled = {mode(int(i)) for i in lists["labeled_1_16"]}
  assert {m[:2] for m in everything} == {(t, w) for t in TIMES for w in WEATHERS}
  assert len(labeled) < 0.6 * len(everything)


def test_lists_are_nested():
  lists = city.labeled_lists(0, 480)
  assert [len(lists[f"labeled_1_{k}"]) for k in (2, 4, 8, 16)] == [240, 120, 60, 30]
  for wide, narrow in ((2, 4), (4, 8), (8, 16)):
    assert set(lists[f"labeled_1_{narrow}"]) < set(lists[f"labeled_1_{wide}"])
  assert not np.array_equal(lists["labeled_1_16"], city.labeled_lists(1, 480)["labeled_1_16"])


@pytest.mark.slow
def test_prepare(tmp_path):
  city.main(["--out", str(tmp_path / "a"), "--train", "16", "--val", "3", "--size", "48", "64"])
  city.prepare(tmp_path / "b", train=16, val=3, size=(48, 64))
  city.prepare(tmp_path / "c", train=16, val=3, size=(48, 64), seed=1)
  a, b, c = (Dataset.open(tmp_path / name) for name in "abc")
  assert a.info.fingerprint == b.info.fingerprint != c.info.fingerprint
  assert a.info.classes == CLASSES and a.info.colors == COLORS and all(a.info.labeled)
  assert set(a.info.lists) == {"train", "val", *(f"labeled_1_{k}" for k in (2, 4, 8, 16))}
  lists = {name: set(ids) for name, ids in a.info.lists.items()}
  assert len(lists["train"]) == 16 and len(lists["val"]) == 3
  assert not lists["train"] & lists["val"]
  assert lists["labeled_1_16"] < lists["labeled_1_8"] < lists["labeled_1_4"] < lists["labeled_1_2"]
  assert lists["labeled_1_2"] < lists["train"]
  for id_, arguments in (("train_0007", dict(index=7)), ("val_0002", dict(index=2, stream=1))):
    example = a.read(a.index(id_))
    image, label = render_scene(0, height=48, width=64, **arguments)
    assert np.array_equal(example.image, image) and np.array_equal(example.label, label)


def test_prepare_leaves_nothing_half_written(tmp_path, monkeypatch):
  def fails_at_third(seed, index, *size, **kwargs):
    if index == 2:
      raise KeyboardInterrupt
    return render_scene(seed, index, *size, **kwargs)

  monkeypatch.setattr(city, "render_scene", fails_at_third)
  with pytest.raises(KeyboardInterrupt):
    city.prepare(tmp_path / "city", train=4, val=1, size=(48, 64))
  assert list(tmp_path.iterdir()) == []


def test_prepare_replaces_only_when_asked(tmp_path):
  small = dict(train=1, val=1, size=(48, 64))
  city.prepare(tmp_path / "city", **small)
  before = Dataset.open(tmp_path / "city").info.fingerprint
  with pytest.raises(DataError, match="city"):
    city.prepare(tmp_path / "city", seed=1, **small)
  assert Dataset.open(tmp_path / "city").info.fingerprint == before
  city.prepare(tmp_path / "city", seed=1, overwrite=True, **small)
  assert Dataset.open(tmp_path / "city").info.fingerprint != before


def test_an_absent_class_is_named(tmp_path, monkeypatch, capsys):
  def only_road(seed, index, height, width, **kwargs):
    return np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)

  monkeypatch.setattr(city, "render_scene", only_road)
  city.prepare(tmp_path / "city", train=2, val=1, size=(48, 64))
  warning = next(line for line in capsys.readouterr().out.splitlines() if "labeled_1_16" in line)
  assert "pavement" in warning and "car" in warning and "road" not in warning


@pytest.mark.parametrize("wrong", [dict(train=0), dict(val=0), dict(size=(16, 128))])
def test_prepare_refuses(tmp_path, wrong):
  with pytest.raises(ConfigError, match="at least"):
    city.prepare(tmp_path / "city", **wrong)


def test_a_town_is_a_city_of_large_things(tmp_path):
  info = city.prepare(tmp_path / "town", train=16, val=1, large=True)
  town = Dataset.open(tmp_path / "town")
  named = ("road", "pavement", "building", "vegetation", "sky", "car")
  assert info.name == "toy_town" and tuple(info.classes) == named
  assert [COLORS[CLASSES.index(name)] for name in named] == [tuple(c) for c in info.colors]
  assert [len(info.lists[f"labeled_1_{k}"]) for k in (2, 4, 8, 16, 32)] == [8, 4, 2, 1, 1]
  image, drawn = render_scene(0, 3, 96, 128, large=True)  # twice the size
  stored = town.read(town.index("train_0003"))
  assert stored.image.shape == (48, 64, 3)
  means = image.reshape(48, 2, 64, 2, 3).mean((1, 3))
  assert np.abs(stored.image - means).max() <= 0.5
  of = np.array([*CLASSES, "ignored"])[np.minimum(drawn, len(CLASSES))]
  assert not set(np.unique(of)) & {"fence", "pole", "sign", "person"}
  of = np.where(of == "terrain", "pavement", of)
  blocks = of.reshape(48, 2, 64, 2).swapaxes(1, 2).reshape(48, 64, 4)
  uniform = (blocks == blocks[..., :1]).all(-1)
  shown = np.array([*named, "ignored"])[np.minimum(stored.label, len(named))]
  assert 0.6 < uniform.mean() < 1
  np.testing.assert_array_equal(shown[uniform], blocks[uniform][:, 0])
