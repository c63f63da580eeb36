"""Own pictures whose files say more than their pixels: turned ones, GeoTIFFs, many bands."""

import json

import numpy as np
import pytest
from PIL import Image

from data_prep import folder
from semiseg_jax.data.dataset import Dataset
from tests.made_tiff import nodata, write

rng = np.random.default_rng(0)
BANDS = rng.integers(0, 1000, (5, 6, 8, 5)).astype(np.uint16)
IDS = rng.integers(0, 2, (5, 6, 8), dtype=np.uint8)
RANGES = (0, 1000, 0, 500, 0, 1000, 100, 200, 0, 1000)


def _prepare(root, *options):
  (root / "classes.txt").write_text("ground\ncat\n")
  folder.main(
    [
      *("--images", f"{root}/images", "--labels", f"{root}/labels", "--workers", "0"),
      *("--classes", f"{root}/classes.txt", "--out", f"{root}/out", *map(str, options)),
    ]
  )
  return Dataset.open(root / "out")


def _folders(root):
  for name in ("images", "labels"):
    (root / name).mkdir()


def _turned(root, tags, drawn):
  """Photos with orientation tags, and masks `drawn` on their 'stored' or 'shown' pixels."""
  _folders(root)
  for number, tag in enumerate(tags):
    exif = Image.Exif()
    exif[0x0112] = tag
    pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / f"images/p{number}.jpg", exif=exif, quality=95)
    ids = IDS[number] if drawn == "stored" or tag == 1 else np.rot90(IDS[number], -1)
    Image.fromarray(ids).save(root / f"labels/p{number}.png")


def test_turned_pictures_are_counted(tmp_path, capsys):
  _turned(tmp_path, (1, 6, 6), "shown")
  dataset = _prepare(tmp_path)
  assert "NOTE: 2 of 3 pictures with EXIF tags of orientation" in capsys.readouterr().out
  assert dataset.info.sizes == ((6, 8), (8, 6), (8, 6))
  assert dataset.info.facts == {"turned": 2}


def test_masks_of_unturned_pictures(tmp_path):
  _turned(tmp_path, (1, 6), "stored")
  with pytest.raises(SystemExit, match=r"p1.png: 8x6 .* 6x8 .*Orientation 6.*--exif ignore"):
    _prepare(tmp_path)
  dataset = _prepare(tmp_path, "--exif", "ignore")
  assert dataset.info.reading["exif"] == "ignore"
  example = dataset.read(1)
  np.testing.assert_array_equal(example.label, IDS[1])
  with Image.open(tmp_path / "images/p1.jpg") as photo:
    error = np.abs(example.image.astype(int) - np.asarray(photo, int))
  assert error.max() <= 2  # two decoders of JPEG


def _satellite(root, value, tags, count=3):
  """Pictures of five bands [H, W] each, of which the first row has no data; masks with tags."""
  _folders(root)
  for number in range(count):
    bands = BANDS[number].copy()
    bands[0] = 0
    pages = [(bands[..., k], nodata("0")) for k in range(5)]
    write(root / f"images/p{number}.tif", *pages)
    ids = IDS[number].astype(np.int16)
    ids[-1] = value
    write(root / f"labels/p{number}.tif", (ids, tags))


def test_bands_ranges_and_pixels_without_data(tmp_path, capsys):
  _satellite(tmp_path, -9999, nodata("-9999"))
  dataset = _prepare(tmp_path, "--value_range", *RANGES)
  assert "NOTE: 24 pixels of 3 pictures without data" in capsys.readouterr().out
  low, high = np.array(RANGES).reshape(-1, 2).T
  stored = []
  for number in range(3):
    example = dataset.read(number)
    expected = np.rint(255 * np.clip((BANDS[number] - low) / (high - low), 0, 1))
    np.testing.assert_allclose(example.image[1:], expected[1:], atol=0.5)
    ids = IDS[number].copy()
    ids[[0, -1]] = 255
    np.testing.assert_array_equal(example.label, ids)
    has_data = dataset.record(number).example().maps["has_data"].values
    np.testing.assert_array_equal(has_data, np.repeat([[0], [1]], [1, len(ids) - 1], 0) + 0 * ids)
    stored.append(example.image[1:])
  pixels = np.concatenate(stored).reshape(-1, 5) / 255  # without those that have no data
  np.testing.assert_allclose(dataset.info.mean, pixels.mean(0), atol=1e-6)
  np.testing.assert_allclose(dataset.info.std, pixels.std(0), atol=1e-6)
  kept = json.loads((tmp_path / "out/dataset.json").read_text())["reading"]
  values = "integers of more than 8 bits"
  expected = {"exif": "turn", "nodata": "ignore", "value_range": list(RANGES), "values": values}
  assert kept == expected


def test_a_class_with_the_value_of_no_data_is_asked_for(tmp_path):
  _satellite(tmp_path, 1, nodata("1"))
  options = ("--value_range", 0, 1000)
  with pytest.raises(SystemExit, match="nodata value 1, which is the class 'cat'; give --nodata"):
    _prepare(tmp_path, *options)
  ignored = _prepare(tmp_path, *options, "--nodata", "ignore").read(0).label
  assert set(ignored.ravel()) == {0, 255}
  kept = _prepare(tmp_path, *options, "--nodata", "keep", "--overwrite").read(0).label
  np.testing.assert_array_equal(kept[:-1], IDS[0][:-1])


def test_the_mean_is_that_of_the_training_list(tmp_path):
  _folders(tmp_path)
  for number in range(3):
    Image.fromarray(np.full((4, 4, 3), 50 * number, np.uint8)).save(
      tmp_path / f"images/p{number}.png"
    )
    Image.fromarray(IDS[number, :4, :4]).save(tmp_path / f"labels/p{number}.png")
  (tmp_path / "val.txt").write_text("p2\n")
  info = _prepare(tmp_path, "--list", f"val={tmp_path}/val.txt").info
  np.testing.assert_allclose(info.mean, [25 / 255] * 3, atol=1e-6)
  np.testing.assert_allclose(info.std, [25 / 255] * 3, atol=1e-6)
  (tmp_path / "train.txt").write_text("p1\n")
  lists = [f"--list={name}={tmp_path}/{name}.txt" for name in ("train", "val")]
  info = _prepare(tmp_path, *lists, "--overwrite").info
  np.testing.assert_allclose(info.mean, [50 / 255] * 3, atol=1e-6)


@pytest.mark.parametrize("limits", [(0,), (5, 5), (0, 1, 3), (0, 1, 2, 1)])
def test_ranges_that_cannot_be(tmp_path, limits):
  _satellite(tmp_path, 0, {}, count=1)
  with pytest.raises(SystemExit, match="--value_range"):
    _prepare(tmp_path, "--value_range", *limits)
