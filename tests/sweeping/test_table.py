"""The table of a sweep: means and spreads, and what is never ranked together."""

import csv
import io
import math

from semiseg_jax.sweeping import results, table
from tests.sweeping.made import RIGHT, result

FOUND = {
  ("cps", 0): result(0.30, iou={"road": 0.5, "sky": 0.1}),
  ("cps", 1): result(0.36, iou={"road": 0.7, "sky": None}),
  ("best", 1): result(0.40),
}


def rows_of(text):
  return list(csv.DictReader(io.StringIO(text)))


def test_mean_and_sample_deviation_over_the_seeds_the_best_first():
  text = table.markdown("Title", FOUND, [])
  assert text.startswith("# Title\n\nmIoU in percent on `val` (3 pictures, eeeeeeee) of `city`")
  assert "mode=whole, whole=padded; labels of `labeled_1_8` (3 pictures, aaaaaaaa):" in text
  head = text.index("| run | mIoU | sd | seed 0 | seed 1 | scored |")
  best = text.index("| best | 40.00 |  |  | 40.00 | network 0 |")
  # (0.36 - 0.30) / sqrt(2)
  assert head < best < text.index("| cps | 33.00 | 4.24 | 30.00 | 36.00 | network 0 |")
  assert "not to be compared" not in text and "Without a result" not in text
  assert "NOTE the means are over different seeds." in text
  best, cps = rows_of(table.comma_separated(FOUND))
  assert (best["run"], best["sd"], best["seed_0"]) == ("best", "", "")
  assert math.isclose(float(cps["mean"]), 0.33) and math.isclose(float(cps["sd"]), 0.0018**0.5)


def test_classes_are_told_on_request():
  text = table.markdown("Title", FOUND, [], per_class=True)
  assert "| class | best | cps |" in text
  assert "| road | 40.00 | 60.00 ± 14.14 |" in text and "| sky |  | 10.00 |" in text
  assert "| class |" not in table.markdown("Title", FOUND, [])
  _, cps = rows_of(table.comma_separated(FOUND, per_class=True))
  assert math.isclose(float(cps["mean/road"]), 0.6) and cps["sd/sky"] == ""


def test_other_protocols_and_lists_stand_apart_and_this_is_said():
  slide = {**RIGHT, "mode": "slide", "window": [8, 8], "stride": [4, 4]}
  other = {
    "protocol": result(0.9, protocol=slide),
    "evaluated list": result(0.9, evaluated="dd"),
    "list of labeled pictures": result(0.9, labeled="bb"),
    "evaluated data set": result(0.9) | {"dataset": {"name": "x", "fingerprint": "0" * 64}},
  }
  for what, fields in other.items():
    text = table.markdown("Title", {**FOUND, ("odd", 0): fields}, [])
    assert "NOTE 2 tables, which are not to be compared with each other" in text
    assert f"{what}. Each is ranked by itself." in text
    assert text.count("| run | mIoU |") == 2 and text.index("| cps |") < text.index("| odd |")
  rows = rows_of(table.comma_separated({**FOUND, ("odd", 0): fields}))
  assert [row["table"] for row in rows] == ["1", "1", "2"]


def test_seeds_of_one_run_on_other_grounds_are_no_mean():
  found = {("cps", 0): result(0.3), ("cps", 1): result(0.5, evaluated="dd")}
  text = table.markdown("Title", found, [])
  assert "| cps | 30.00 |  | 30.00 |" in text and "| cps | 50.00 |  | 50.00 |" in text


def test_other_networks_are_ranked_and_told():
  mean = result(0.5, protocol={**RIGHT, "network": "mean"})
  teacher = result(0.1, protocol={**RIGHT, "stack": "teacher"})
  text = table.markdown("Title", {**FOUND, ("m", 0): mean, ("t", 0): teacher}, ["x: no luck"])
  assert "NOTE the rows score different networks" in text and text.count("| run |") == 1
  assert "mean of networks |" in text and "teacher 0 |" in text
  assert text.endswith("Without a result:\n\n* x: no luck\n")


def test_classifiers_have_their_own_score():
  fields = result(0.0) | {"mean_average_precision": 0.7, "average_precision": {"road": 0.7}}
  del fields["miou"]
  text = table.markdown("Title", {("mlmt", 0): fields, **FOUND}, [], per_class=True)
  assert "| run | mean AP | sd |" in text and "differ in score." in text
  assert results.ground(fields).score == "mean_average_precision"
