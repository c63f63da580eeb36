import numpy as np
import pytest
from PIL import Image

from data_prep.sources.folder_pairs import Folders, find_pairs

PHOTO = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
MASK = PHOTO[..., 0] % 4
RGB_MASK = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [9, 9, 9]], np.uint8)[MASK]


def _wrong(root, files, **options):
  for name, pixels in files.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / name)
  wrong = []
  find_pairs(Folders(str(root / "d"), None, **options), wrong, lambda text: None)
  return wrong


@pytest.mark.parametrize("mask", [MASK, RGB_MASK])
@pytest.mark.parametrize("names", ["1.png 2.png", "x1.png y2.png"])
def test_a_folder_of_masks_under_any_name_is_no_folder_of_pictures(tmp_path, mask, names):
  files = {f"d/x/{name}": PHOTO for name in ("1.png", "2.jpg")}
  files |= {f"d/y/{name}": mask for name in names.split()}
  (line,) = _wrong(tmp_path, files)
  assert "2 pictures in " in line and "d/y look like masks" in line and "--labels" in line
  assert _wrong(tmp_path, files, all_pictures=True) == []


def test_masks_of_a_second_hand_beside_their_pictures(tmp_path):
  files = {f"d/{name}.png": PHOTO for name in ("01L", "01R")}
  files |= {f"d/{name}_2ndHO.png": MASK for name in ("01L", "01R")}
  (line,) = _wrong(tmp_path, files)
  assert "2 pictures in " in line and "--label_suffix=_2ndHO, or move them away" in line
  assert _wrong(tmp_path, files, all_pictures=True) == []


def test_masks_of_one_name_in_the_folders_of_their_pictures(tmp_path):
  files = {f"d/{scene}/rgb.png": PHOTO for scene in "abc"}
  files |= {f"d/{scene}/ids.png": MASK for scene in "abc"}
  (line,) = _wrong(tmp_path, files)
  assert (
    "3 pictures look like masks, called 'ids', the first is " in line
    and "--label_suffix=ids" in line
  )
  assert _wrong(tmp_path, files, all_pictures=True) == []


@pytest.mark.parametrize(
  "files",
  [
    {f"d/{scene}/{name}.png": PHOTO for scene in "ab" for name in ("rgb", "ir")},
    {"d/1.png": PHOTO, "d/2.png": PHOTO, "d/1_1.png": MASK, "d/2_1.png": MASK},  # frames
    {f"d/{name}.png": PHOTO for name in ("1", "2", "1_ir", "2_ir")},
    {"d/x/1.png": PHOTO, "d/y/2.png": PHOTO},
    {f"d/{name}.png": MASK for name in ("x/1", "x/2", "y/3", "y/4")},  # drawings
    {"d/x/1.png": PHOTO, "d/y/2.png": MASK},  # one alone says little
    {"d/x/1.png": PHOTO, "d/x/2.png": MASK, "d/y/3.png": PHOTO},
    {"d/1.png": PHOTO, "d/2.png": MASK},
  ],
)
def test_pictures_that_may_be_ones(tmp_path, files):
  assert _wrong(tmp_path, files) == []
