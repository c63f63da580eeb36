import math

import pytest

from semiseg_jax.reporting import bars, lines, matrix, scales
from semiseg_jax.reporting.bars import Scores
from semiseg_jax.reporting.lines import Line


def texts(node):
  return [t.text for t in node.iter("text")]


def titles(node):
  return [t.text for t in node.iter("title")]


def polylines(node):
  pairs = lambda line: [tuple(map(float, p.split(","))) for p in line.get("points").split()]
  return [pairs(line) for line in node.iter("polyline")]


@pytest.mark.parametrize(
  "low, high, expected",
  [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (3.1, 4.4, [3.2, 3.4, 3.6, 3.8, 4.0, 4.2, 4.4]),
    (-3, 8, [-2, 0, 2, 4, 6, 8]),
    (0, 40000, [0, 10000, 20000, 30000, 40000]),
    (5, 5, [5]),
  ],
)
def test_ticks_are_round_and_inside(low, high, expected):
  assert scales.ticks(low, high) == pytest.approx(expected)


def test_logarithmic_ticks_are_powers_of_ten():
  assert scales.log_ticks(0.002, 30) == pytest.approx([0.01, 0.1, 1, 10])
  assert scales.log_ticks(2, 40) == pytest.approx([2, 5, 10, 20])


@pytest.mark.parametrize(
  "value, said",
  [(0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (1234, "1234"), (45600, "45.6k"),
   (2.5e6, "2.5M"), (1.2e-5, "1.2e-5"), (-0.5, "-0.5"), (math.inf, "inf")],
)  # fmt: skip
def test_numbers_have_three_digits(value, said):
  assert scales.number(value) == said


def test_a_line_lies_where_its_values_are():
  figure = lines.chart("Loss", [Line("a", [(0, 0.0), (50, 1.0), (100, 4.0)])])
  ((x0, y0), (x1, y1), (x2, y2)) = polylines(figure)[0]
  assert x1 - x0 == pytest.approx(x2 - x1, abs=0.1)
  assert (y0 - y1) * 3 == pytest.approx(y1 - y2, abs=0.3) and y0 > y1 > y2
  at = {t.text: float(t.get("y")) - 4 for t in figure.iter("text") if t.get("text-anchor") == "end"}
  assert at["0"] == pytest.approx(y0, abs=0.1) and at["1"] == pytest.approx(y1, abs=0.1)
  assert "a, step 50: 1" in titles(figure)


def test_values_over_decades_have_a_logarithmic_axis_where_that_may_be():
  points = [(0, 0.01), (1, 1.0), (2, 100.0)]
  (three,) = polylines(lines.chart("x", [Line("a", points)]))
  assert three[0][1] - three[1][1] == pytest.approx(three[1][1] - three[2][1], abs=0.2)
  (three,) = polylines(lines.chart("x", [Line("a", points)], log=False))
  assert three[0][1] - three[1][1] < 3


def test_values_that_are_not_finite_are_left_out_and_counted():
  figure = lines.chart("x", [Line("a", [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)])])
  assert len(polylines(figure)[0]) == 2
  assert "2 values not finite" in figure[0][0].text
  figure = lines.chart("x", [Line("a", [(0, math.nan)])])
  assert figure[1].text == "No finite value."


def test_many_points_become_means_inside_their_range():
  points = [(t, float(t % 2)) for t in range(1600)]
  figure = lines.chart("x", [Line("a", points)])
  (drawn,) = polylines(figure)
  assert len(drawn) == 160 and len({y for _, y in drawn}) == 1  # the mean of 0 and 1
  (band,) = figure.iter("polygon")
  heights = {p.split(",")[1] for p in band.get("points").split()}
  assert len(heights) == 2 and "means, range shaded" in figure[0][0].text


def test_an_interval_is_drawn_around_a_line():
  around = {0: (0.1, 0.3), 5: (0.2, 0.6)}
  figure = lines.chart("x", [Line("a", [(0, 0.2), (5, 0.4)], 0, around)], percent=True)
  (band,) = figure.iter("polygon")
  assert len(band.get("points").split()) == 4
  assert "95 % interval shaded" in figure[0][0].text


def test_labels_keep_apart_and_near_their_lines():
  found = lines.spread([50, 51, 52, 120], 13, 10, 200)
  assert found == [50, 63, 76, 120]
  assert lines.spread([198, 199], 13, 10, 200) == [187, 200]


def test_more_than_eight_lines_are_dashed_and_have_no_labels():
  many = [Line(f"run {k}", [(0, 0.0), (1, float(k))], k) for k in range(9)]
  figure = lines.chart("x", many)
  dashes = [line.get("stroke-dasharray") for line in figure.iter("polyline")]
  assert dashes[:8] == [None] * 8 and dashes[8] is not None
  assert not any("run" in text for text in texts(figure))
  assert any("run 3" in text for text in texts(lines.chart("x", many[:8])))


def test_bars_are_as_long_as_their_scores():
  run = Scores("a", 0, {"road": 0.8, "<b>": 0.2, "gone": math.nan})
  figure = bars.chart("IoU", [run], {"road": 0.5, "<b>": 0.004})
  long, short = (float(rect.get("width")) for rect in figure.iter("rect"))
  assert long == pytest.approx(4 * short, abs=0.05)
  found = texts(figure)
  assert found.index("road") < found.index("<b>") < found.index("gone")
  assert "80.0" in found and "50 %" in found and "0.4 %" in found
  assert "not in the labels, not predicted" in found


def test_several_runs_are_dots_on_one_line():
  runs = [Scores("a", 0, {"road": 0.2}), Scores("b", 1, {"road": 0.6, "new": 0.5})]
  figure = bars.chart("IoU", runs, {})
  assert [t for t in titles(figure) if "road" in t] == ["a, road: 20.0 %", "b, road: 60.0 %"]
  assert "20.0 – 60.0" in texts(figure) and "50.0" in texts(figure)


def test_a_matrix_shows_shares_of_rows():
  counts = [[8, 2, 0], [0, 0, 0], [1, 1, 2]]
  figure = matrix.chart(counts, ["road", "tree", "a" * 30])
  said = titles(figure)
  assert said[0] == "road predicted as road: 80.0 % (8 pixels)" and len(said) == 9
  assert said[6] == f"{'a' * 30} predicted as road: 25.0 % (1 pixel)"
  cells = [float(r.get("fill-opacity")) for r in figure.iter("rect")]
  assert cells[0] > cells[8] > cells[6] > cells[2] and cells[3] == cells[2]
  assert [t for t in texts(figure) if t.isdigit()] == ["80", "20", "25", "25", "50"]


def test_the_largest_mistakes_come_first():
  found = matrix.mistakes([[8, 2, 0], [0, 0, 0], [5, 1, 2]], ["r", "t", "c"])
  assert [(m.truth, m.predicted, m.share, m.pixels) for m in found] == [
    ("c", "r", 0.625, 5), ("r", "t", 0.2, 2), ("c", "t", 0.125, 1)]  # fmt: skip
