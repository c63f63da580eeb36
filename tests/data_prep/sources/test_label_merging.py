import pathlib

import numpy as np
import pytest

from data_prep.sources.folder_pairs import Mask
from data_prep.sources.label_merging import class_of, merge_classes, merge_values
from semiseg_jax.errors import DataError

NAMES = ("background", "car", "traffic light", "car2")


@pytest.mark.parametrize(
  "about,expected",
  [
    ("_car", 1),
    ("_car_12", 1),
    ("-Car (3)", 1),
    ("_traffic_light", 2),
    (" traffic-light7", 2),
    ("_car2", 3),
    ("train/car", 1),
    ("car/x", 1),
    ("_cart", None),
    ("_1", None),
    ("", None),
  ],
)
def test_the_class_that_a_name_says(about, expected):
  assert class_of(Mask(pathlib.Path("a.png"), about), NAMES) == expected


def test_values_of_several_masks():
  one, two, three = (
    np.array(rows, np.uint8) for rows in ([[1, 0, 0, 255]], [[1, 2, 0, 0]], [[0, 0, 255, 3]])
  )
  assert merge_values([one, two, three], "abc").tolist() == [[1, 2, 255, 3]]
  assert merge_values([three, two, one], "cba").tolist() == [[1, 2, 255, 3]]
  assert merge_values([two], "b") is two


def test_two_classes_for_one_pixel_are_named():
  labels = [np.array([[0, 0], [1, 1]], np.uint8), np.array([[0, 0], [2, 1]], np.uint8)]
  with pytest.raises(
    DataError, match="b.png: 1 pixel is of another class in a.png .*column 0 of row 1"
  ):
    merge_values(labels, ["a.png", "b.png"])


@pytest.mark.parametrize("merge", [merge_values, lambda m, p: merge_classes(m, (1, 2), p, 0)])
def test_masks_of_two_sizes(merge):
  with pytest.raises(DataError, match="b: 3x2 pixels, a of the same picture 2x2"):
    merge([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)], ["a", "b"])


def test_masks_of_single_classes_cover_each_other_in_the_order_of_the_classes():
  masks = [np.array([[9, 9, 0, 0]]), np.array([[0, 255, 255, 0]]), np.array([[0, 0, 1, 0]])]
  assert merge_classes(masks, (2, 1, 1), "abc", 0).tolist() == [[2, 2, 1, 0]]
  assert merge_classes(masks[1:], (0, 1), "bc", 255).tolist() == [[255, 0, 1, 255]]
