"""The pixels inside of shapes, drawn by hand."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_prep.annotations import outlines
from data_prep.annotations.drawing import Rules, draw
from data_prep.annotations.masks import Png, Runs
from data_prep.annotations.outlines import Ellipse, Line, Pixels, Rings
from data_prep.annotations.shapes import Annotated, Shape
from semiseg_jax.errors import DataError

SIZE = 5, 7


def _rows(area, size=SIZE, line_width=1.0):
  """What is inside, as text."""
  top, left, inside = area.window(size, line_width)
  full = np.zeros(size, bool)
  full[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
  return ["".join(".#"[pixel] for pixel in row) for row in full.astype(int)]


def _ring(*points):
  return np.array(points, float)


BOX = [".......", ".###...", ".###...", ".......", "......."]
TRIANGLE = ["#......", "##.....", "###....", "####...", "#####.."]


@pytest.mark.parametrize(
  "area,rows",
  [
    (outlines.box(1, 1, 4, 3), BOX),
    (outlines.box(0.6, 0.51, 3.6, 3.5), BOX),
    (outlines.box(1.6, 0.4, 3.6, 3.6, 90), BOX),
    (Rings(((_ring((1, 1), (4, 1), (4, 3), (1, 3)),),)), BOX),
    (Rings(((_ring((1 / 7, 0.2), (4 / 7, 0.2), (4 / 7, 0.6), (1 / 7, 0.6)),),), True), BOX),
    (Rings(((_ring((-0.1, -0.2), (5.1, 5), (-0.1, 5)),),)), TRIANGLE),
    (Pixels(_ring((1, 1), (3, 1), (3, 2), (1, 2))), BOX),
    (Pixels(_ring((0, 0), (4, 4), (0, 4))), TRIANGLE),
    (Rings(((_ring((2.1, 0.2), (2.3, 4.8)),),)), ["..#...."] * 5),
    (Line(_ring((2.5, 0), (2.5, 5))), ["..#...."] * 5),
    (Ellipse(2.5, 2, 1.6, 1.6), ["..#....", ".###...", ".###...", "..#....", "......."]),
    (Ellipse(3, 2.5, 1.1, 2.6, 90), [".......", "..##...", "######.", "..##...", "......."]),
  ],
)
def test_insides(area, rows):
  assert _rows(area) == rows


def test_neighbors_share_no_pixel_and_leave_none():
  """Their edge runs through centers."""
  left, right = outlines.box(0, 0, 2.5, 5), outlines.box(2.5, 0, 7, 5)
  assert _rows(left) == ["##....."] * 5 and _rows(right) == ["..#####"] * 5


def test_a_needle_between_centers():
  needle = _ring((0, 0), (3, 0), (3, 5), (2.9, 5), (2.9, 1), (0, 1))
  assert _rows(Rings(((needle,),))) == ["###...."] + ["......."] * 4


def test_a_hole_and_two_parts():
  outer, hole = _ring((0, 0), (5, 0), (5, 5), (0, 5)), _ring((1, 1), (4, 1), (4, 4), (1, 4))
  part = _ring((3, 2), (7, 2), (7, 3), (3, 3))
  holed = ["#####..", "#...#..", "#...#..", "#...#..", "#####.."]
  assert _rows(Rings(((outer, hole),))) == holed
  assert _rows(Rings(((outer, hole), (part,)))) == [*holed[:2], "#..####", *holed[3:]]
  assert _rows(Rings(((outer,), (part,))))[2] == "#######"
  pixels = Pixels(_ring((0, 0), (4, 0), (4, 4), (0, 4)), (_ring((1, 1), (3, 1), (3, 3), (1, 3)),))
  assert _rows(pixels) == holed


# Of 3 rows of 4: ".#..", ".##.", ".#..", as the COCO API (pycocotools 2.0.11) encodes it.
COLUMNS, ROWS = (3, 3, 1, 1, 4), (1, 1, 3, 2, 2, 1, 2)
MASK = [".#..", ".##.", ".#.."]


@pytest.mark.parametrize(
  "area",
  [
    Runs(COLUMNS, (3, 4), by_column=True),
    Runs("331N3", (3, 4), by_column=True),
    Runs(ROWS, (3, 4), by_column=False, corner=(0, 0)),
  ],
)
def test_runs(area):
  assert _rows(area, (3, 4)) == MASK


def test_masks_at_a_place_are_cut():
  runs = Runs(ROWS, (3, 4), by_column=False, corner=(-1, 4))
  assert _rows(runs) == [".....##", ".....#.", ".......", ".......", "......."]


# A picture of a known kind that Pillow gives up with another error than for most.
DDS = base64.b64encode(b"DDS " + struct.pack("<4I", 124, 0, 2, 2) + bytes(108)).decode()


@pytest.mark.parametrize(
  "area,message",
  [
    (Runs((3, 3), (3, 4), by_column=True, corner=(0, 0)), "of 6 pixels for a mask of 4x3"),
    (Runs(COLUMNS, (3, 4), by_column=True), "its mask has 4x3 pixels, the picture 7x5"),
    (Runs("3\u00e9", (3, 4), by_column=True, corner=(0, 0)), "in run lengths"),
    (Png("bm9uZQ==", (0, 0), deflated=False), "cannot be decoded"),
    (Png("bm9uZQ==", (0, 0), deflated=True), "cannot be decoded"),
    (Png(DDS, (0, 0), deflated=False), "cannot be decoded"),
    (outlines.box(8, 0, 9, 2), r"from \(8, 0\) to \(9, 2\), outside of the picture of 7x5"),
  ],
)
def test_what_cannot_be_of_the_picture(area, message):
  annotated = Annotated("x.json", "a.jpg", SIZE, (Shape("cat", "mask", area),))
  message = f"x.json: shape 1 of a.jpg, a mask of 'cat': .*{message}.*; correct or remove it"
  with pytest.raises(DataError, match=message):
    draw(annotated, SIZE, Rules({"cat": 1}, 0, by_area=False))


def test_masks_as_png():
  """Opaque in a palette, as Supervisely has it; white, as labelme has it."""
  ids = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]], np.uint8)

  def png(picture, deflate, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    data = zlib.compress(file.getvalue()) if deflate else file.getvalue()
    return Png(base64.b64encode(data).decode(), (0, 0), deflate)

  palette = Image.fromarray(ids)
  palette.putpalette([0, 0, 0, 255, 255, 255])
  assert _rows(png(palette, True, transparency=0), (3, 4)) == MASK
  assert _rows(png(palette, True), (3, 4)) == MASK
  for white in (255, 1):
    assert _rows(png(Image.fromarray(ids * white), False), (3, 4)) == MASK
  assert _rows(png(Image.fromarray(ids.astype(bool)), False), (3, 4)) == MASK
  alpha = Image.fromarray(np.dstack([ids * 0, ids * 255]))
  assert _rows(png(alpha, True), (3, 4)) == MASK


def _drawn(**rules):
  """A crowd, a small box and one that covers it, of three classes."""
  found = (
    Shape("a", "box", outlines.box(0, 0, 1, 1)),
    Shape("b", "box", outlines.box(0, 0, 2, 1)),
    Shape("c", "box", outlines.box(1, 0, 4, 1), crowd=True),
  )
  rules = {"values": {"a": 1, "b": 2, "c": 3}, "rest": 0, "by_area": False} | rules
  return draw(Annotated("x", "y", None, found), (1, 5), Rules(**rules)).tolist()


def test_order_crowds_and_the_rest():
  assert _drawn() == [[2, 2, 255, 255, 0]]
  assert _drawn(by_area=True, rest=255) == [[1, 2, 255, 255, 255]]
  assert _drawn(by_area=True, crowds_count=True) == [[1, 2, 3, 3, 0]]
  assert _drawn(values={"a": 1, "c": 255}) == [[1, 255, 255, 255, 0]]
