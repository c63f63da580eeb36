import re

import numpy as np
import pytest
from PIL import Image

from data_prep.sources import label_survey
from semiseg_jax.data.class_table import read_classes

PALETTE = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]


def _survey(tmp_path, labels, *, classes="a\nb\nc", palettes=False, stated=False, **options):
  """What is wrong with labels of the given values, one row each, and what is said."""
  (tmp_path / "classes.txt").write_text(classes)
  paths, said = [], []
  for number, row in enumerate(labels):
    paths.append(tmp_path / f"{number:03d}.png")
    Image.fromarray(np.array([row], np.uint8)).save(paths[-1])
  table = read_classes(tmp_path / "classes.txt", **options)
  options = {"palettes": palettes, "ignored_is_stated": stated}
  return label_survey.survey(paths, table, say=said.append, **options), said


@pytest.mark.parametrize(
  "values,options,message",
  [
    ([[0, 0], [0, 255]], {"classes": "a\nb"}, "0 and 255 only.*a and b, give --label_values 0 255"),
    (
      [[0, 0], [0, 255]],
      {},
      "3 are named .a, b, c.: .*0 255 with a --classes file that names just",
    ),
    ([[255], [255]], {}, "nothing but the ignored id 255"),
    ([[1, 2], [1, 1]], {}, "no label holds the id 0 .a..*--first_id 1.*--first_id 0.*1 = b, 2 = c"),
    ([[1, 2, 255]], {}, "--first_id 1"),
    ([[1, 2, 3]], {}, "--first_id 1"),
  ],
)
def test_doubts(tmp_path, values, options, message):
  (wrong,), _ = _survey(tmp_path, values, **options)
  assert re.search(message, wrong)


@pytest.mark.parametrize(
  "values,options",
  [
    ([[0, 1], [0, 1, 255]], {}),
    ([[0, 0], [0, 0]], {}),
    ([[2, 2]], {}),
    ([[1, 2]], {"first_id": 0}),
    ([[1, 2, 3]], {"first_id": 1}),
    ([[0, 255]], {"values": (0, 255, 7)}),
    ([[0, 255]], {"ignore_id": -1, "values": (0, 255, 7)}),
  ],
)
def test_no_doubts(tmp_path, values, options):
  assert _survey(tmp_path, values, **options) == ([], [])


@pytest.mark.parametrize("place", [0, 2, 98, 99])
def test_one_label_among_many_that_settles_a_doubt_is_seen(tmp_path, place):
  """Only some labels are looked at first."""
  values = [[0, 255]] * 100
  values[place] = [0, 1, 255]
  wrong, _ = _survey(tmp_path, values)
  assert wrong == []
  values[place] = [0, 255]
  assert len(_survey(tmp_path, values)[0]) == 1


def test_two_kinds_of_labels_are_said(tmp_path):
  _, said = _survey(tmp_path, [[0, 1, 255], [0, 255], [0, 255]])
  assert len(said) == 1 and "2 of 3 labels with only 0 and the ignored 255" in said[0]


@pytest.mark.parametrize("classes", ["a\nb", "a\nb\nc"])
def test_masks_of_0_and_255_among_masks_of_ids(tmp_path, classes):
  values = [[0, 1], [0, 0], [0, 255], [255], [1, 1]]
  (wrong,), said = _survey(tmp_path, values, classes=classes)
  assert "2 labels hold 0 and 255, such as " in wrong and "002.png, and 2 others the ids 1" in wrong
  assert "such as " in wrong and "000.png" in wrong and "--ignore_id 255" in wrong and not said
  wrong, said = _survey(tmp_path, values, classes=classes, stated=True)
  assert wrong == [] and len(said) == 1


def test_one_mask_of_0_and_255_among_many_of_two_classes(tmp_path):
  values = [[0, 1]] * 100
  values[2] = [0, 255]
  assert len(_survey(tmp_path, values, classes="a\nb")[0]) == 1


def _palette_files(tmp_path, *palettes, **stated):
  """Every file uses the indices 0 and 1 only."""
  paths = []
  for number, palette in enumerate(palettes):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette(sum(palette, []))
    paths.append(tmp_path / f"p{number}.png")
    picture.save(paths[-1])
  (tmp_path / "classes.txt").write_text("a\nb\nc")
  table = read_classes(tmp_path / "classes.txt")
  return label_survey.survey(paths, table, palettes=True, say=lambda text: None, **stated)


def test_colors_of_classes_are_said_where_nobody_gave_them(tmp_path):
  said = []
  Image.fromarray(np.array([[0, 1], [1, 255]], np.uint8)).convert("P").save(tmp_path / "gray.png")
  picture = Image.fromarray(np.array([[0, 2]], np.uint8), "P")
  picture.putpalette(sum(PALETTE, []))
  picture.save(tmp_path / "p.png")
  (tmp_path / "classes.txt").write_text("a\nb\nc")
  table = read_classes(tmp_path / "classes.txt")
  paths = [tmp_path / "gray.png", tmp_path / "p.png"]
  assert label_survey.survey(paths, table, palettes=False, say=said.append) == []
  assert "c is seen as (0, 200, 0); where" in said[0] and len(said) == 1
  (tmp_path / "classes.txt").write_text("a 0 0 0\nb 200 0 0\nc 0 200 0")
  table = read_classes(tmp_path / "classes.txt")
  assert label_survey.survey(paths, table, palettes=False, say=said.append) == []
  assert len(said) == 1


def test_palettes_that_change_where_it_matters(tmp_path):
  other = [PALETTE[0], PALETTE[2], PALETTE[1]]
  (wrong,) = _palette_files(tmp_path, PALETTE, PALETTE, other)
  assert "p2.png: the palette gives index 1 the color (0, 200, 0), that of " in wrong
  assert "p0.png (200, 0, 0)" in wrong and "--label_colors" in wrong


def test_palettes_that_change_where_it_does_not_matter(tmp_path):
  assert _palette_files(tmp_path, PALETTE, PALETTE[:2], [*PALETTE[:2], [1, 2, 3]]) == []


def test_palettes_that_show_ids_in_grays_of_another_order(tmp_path):
  negative = [[255] * 3, [0] * 3]
  (wrong,) = _palette_files(tmp_path, negative, negative)
  assert "2 labels such as " in wrong and "indices 0, 1 in the grays 255, 0" in wrong
  assert "--label_values 0 255 (the first" in wrong and "--label_values 0 1 2" in wrong
  (wrong,) = _palette_files(tmp_path, [[2] * 3, [1] * 3])
  assert "0 255" not in wrong and "--label_colors" in wrong
  assert _palette_files(tmp_path, negative, values_are_stated=True) == []
  assert _palette_files(tmp_path, negative[::-1]) == []
  assert _palette_files(tmp_path, [[255] * 3, [0, 0, 9]]) == []


def test_gray_files_among_palettes(tmp_path):
  """They have no colors to disagree with."""
  _palette_files(tmp_path, PALETTE)
  Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "g.png")
  table = read_classes(tmp_path / "classes.txt")
  paths = [tmp_path / "p0.png", tmp_path / "g.png"]
  assert label_survey.survey(paths, table, palettes=True, say=lambda text: None) == []
