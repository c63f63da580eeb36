import html.parser
import json
import re

import numpy as np
import pytest

from semiseg_jax.reporting import comparing, page, panels, runs
from tests.reporting import made_run

EVIL = "<script>alert('x')</script>"


class Page(html.parser.HTMLParser):
  """Elements with their attributes, and the text of each table row and note."""

  def __init__(self, content):
    super().__init__()
    self.elements, self.rows, self.notes, self._open = [], [], [], []
    self.feed(content.decode())

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")
    if dict(attrs).get("class") == "note":
      self.notes.append("")
    if tag not in ("meta", "link", "img"):
      self._open.append((tag, dict(attrs).get("class")))

  def handle_endtag(self, tag):
    assert self._open.pop()[0] == tag

  def handle_data(self, data):
    if any(tag in ("td", "th") for tag, _ in self._open):
      self.rows[-1][-1] += data
    if any(kind == "note" for _, kind in self._open):
      self.notes[-1] += data


def built(*folders, **options):
  found = [run for f in folders for run in runs.read(f, f.name, f"runs/{f.name}")]
  return Page(page.build(found, **options))


def test_names_are_texts_and_nothing_is_loaded_or_run(tmp_path):
  classes = ("road", EVIL, 'a"&\ud800')
  folder = made_run.write(tmp_path / "a", results=({"classes": classes},), name=EVIL)
  made_run.keep(folder, "val_step_4_network_0_0.json", classes=classes)
  rows = [{"step": 1, "train/loss": 1.0, f"train/{EVIL}": 2.0}]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
  found = built(folder)
  assert {tag for tag, _ in found.elements}.isdisjoint({"script", "iframe", "object", "base"})
  for tag, attributes in found.elements:
    for name, value in attributes.items():
      assert not name.startswith("on")
      if name in ("src", "href", "srcset", "data", "poster", "action"):
        assert value.startswith("data:"), tag
      assert "url(" not in (value or "")
  assert any(EVIL in row for row in found.rows)
  policy = [a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a]
  assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
  style = re.search(r"<style>(.*?)</style>", page.build(runs.read(folder, "a", "a")).decode(), re.S)
  assert "@import" not in style[1] and "url(" not in style[1]


def test_runs_of_one_way_are_ranked_together(tmp_path):
  a = made_run.write(tmp_path / "a", results=({"miou": 0.3},), seed=1)
  better = {"miou": 0.5, "miou_interval": {"low": 0.4, "high": 0.6}}
  b = made_run.write(tmp_path / "b", results=(better,), seed=2)
  found = built(a, b)
  head = next(k for k, row in enumerate(found.rows) if row[0] == "run")
  assert [row[0].strip() for row in found.rows[head + 1 : head + 3]] == ["b", "a"]
  assert found.rows[head + 1][2:4] == ["40.0 – 60.0", "50.0"]
  assert not any("ranking" in note for note in found.notes)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"protocol": {"mode": "slide", "window": [8, 8], "stride": [6, 6], "network": "0"}},
     "protocol mode: whole, slide"),
    ({"protocol": {"mode": "whole", "network": "0", "flip": True}}, "protocol flip: false, true"),
    ({"sha": made_run.OTHER}, "list: val (aaaaaaaa), val (bbbbbbbb)"),
    ({"dataset": {"name": "new", "fingerprint": "e" * 64}},
     "dataset: made (ffffffff), new (eeeeeeee)"),
  ],
)  # fmt: skip
def test_runs_of_different_ways_are_not_ranked_together_and_that_is_said(tmp_path, changes, said):
  a = made_run.write(tmp_path / "a", results=({"miou": 0.3},))
  b = made_run.write(tmp_path / "b", results=({"miou": 0.9, **changes},))
  found = built(a, b)
  (note,) = [note for note in found.notes if note.startswith("Not one ranking.")]
  assert said in note
  heads = [k for k, row in enumerate(found.rows) if row[0] == "run"]
  assert [found.rows[k + 1][0].strip() for k in heads] == ["a", "b"] and len(heads) == 2


def test_a_list_of_another_name_and_the_same_ids_is_the_same_list(tmp_path):
  same = {"name": "all", "ids": 9, "sha256": made_run.SHA}
  a = made_run.write(tmp_path / "a")
  b = made_run.write(tmp_path / "b", results=({"split": same},))
  assert not any("ranking" in note for note in built(a, b).notes)
  c = made_run.write(tmp_path / "c", results=({"split": same, "protocol": {"mode": "slide"}},))
  (note,) = [note for note in built(a, c).notes if "ranking" in note]
  assert "protocol mode" in note and "list:" not in note


def test_a_protocol_of_before_a_key_existed_is_the_default_of_that_key(tmp_path):
  older = {"mode": "whole", "window": None, "network": "0"}
  newer = {**older, "stack": "", "scales": [1.0], "flip": False, "whole": "as_is"}
  results = ({"protocol": older}, {"protocol": newer})
  folders = [made_run.write(tmp_path / str(k), results=(r,)) for k, r in enumerate(results)]
  found = [runs.read(f, f.name, f.name)[0] for f in folders]
  assert len(comparing.groups(found)) == 1


def test_only_keys_that_differ_are_shown_side_by_side(tmp_path):
  a = made_run.write(tmp_path / "a", seed=1, name="x", method__name="cps")
  b = made_run.write(tmp_path / "b", seed=2, name="y", method__name="unimatch")
  found = built(a, b)
  head = found.rows.index(["key", "a", "b"])
  shown = found.rows[head + 1 : head + 3]
  assert shown == [["seed", "1", "2"], ["method.name", "cps", "unimatch"]]
  assert not any(row[0] in ("name", "data.root") for row in found.rows)


def test_columns_of_runs_are_even_and_a_long_value_does_not_widen_its_own(tmp_path):
  long = tuple(f"step {k}: a reason" for k in range(40))
  a = made_run.write(tmp_path / "a", seed=1, derived=long, results=({"mean_f1": 0.5},))
  found = built(a, made_run.write(tmp_path / "b", seed=2, results=({"sha": made_run.OTHER},)))
  kinds = [attrs.get("class") for _, attrs in found.elements]
  assert kinds.count("even") == 3 and kinds.count("value") > 2  # two rankings, and the keys
  assert ("details", {"class": "value"}) in found.elements and "scroll long" not in kinds
  heads = [row for row in found.rows if row[0] == "run"]
  assert len(heads) == 2 and heads[0] == heads[1] and "mean F1" in heads[0]


def test_what_is_missing_is_said_for_each_run(tmp_path):
  a = made_run.write(tmp_path / "a", step=2, planned=9, results=())
  found = built(a, made_run.write(tmp_path / "b"))
  assert any(note.startswith("a: The metrics end at step 2 of 9") for note in found.notes)
  assert any(note.startswith("a: It has no evaluation") for note in found.notes)
  bare = made_run.write(tmp_path / "c", rows=[], results=())
  assert built(bare).notes


def test_each_result_says_how_it_was_obtained(tmp_path):
  found = built(made_run.write(tmp_path / "a"))
  told = {row[0]: row[1] for row in found.rows if len(row) == 2}
  assert told["protocol"] == "whole pictures, as they are, network 0"
  assert told["evaluated list"] == f"val, 9 pictures, hash {'a' * 12}"
  assert told["checkpoint"] == "step 4" and told["commit"] == "c" * 40


def test_the_worst_and_best_pictures_are_shown_once(tmp_path):
  folder = made_run.write(tmp_path / "a")
  made_run.keep(folder, "val_step_4_network_0_0.json")
  found = built(folder)
  shown = [a["alt"] for tag, a in found.elements if tag == "img"]
  assert [alt.split()[-1] for alt in shown[::4]] == ["p2", "p1", "p0"]
  assert [alt.split()[0] for alt in shown[:4]] == ["image", "truth", "prediction", "errors"]
  assert not any(tag == "img" for tag, _ in built(folder, pictures=0).elements)
  few = built(folder, pictures=1)
  assert len([1 for tag, _ in few.elements if tag == "img"]) == 8


def test_where_none_were_kept_the_command_that_keeps_them_is_said(tmp_path):
  found = built(made_run.write(tmp_path / "a"))
  assert any("evaluate --workdir=runs/a keeps them" in note for note in found.notes)


def test_errors_are_wrong_labeled_pixels():
  image = np.full((1, 3, 3), 100, np.uint8)
  found = panels.errors(image, np.array([[0, 1, 255]]), np.array([[0, 0, 0]]), 2)
  assert len(set(found[0, 0].tolist())) == 1 and found[0, 0, 0] > 100
  assert found[0, 1].tolist() == [209, 51, 107] and not found[0, 2].any()


def test_a_classifier_of_pictures_has_its_own_score(tmp_path):
  ap = {"mean_average_precision": 0.9, "average_precision": {"road": 1.0, "tree": None}}
  changes = {"miou": None, "iou": None, "confusion": None, "protocol": {"mode": "picture"}, **ap}
  found = built(made_run.write(tmp_path / "a", results=(changes,)))
  assert ["road", "100.0"] in found.rows and ["tree", "–"] in found.rows


def test_calibration_and_pseudo_labels_are_shown_where_they_were_counted(tmp_path):
  bins = {"ece": 0.05, "probability": [None, 0.8], "accuracy": [None, 0.7], "pixels": [0, 9]}
  rows = [{"threshold": 0.0, "coverage": 1.0, "accuracy": 0.6, "miou": 0.5},
          {"threshold": 0.9, "coverage": 0.2, "accuracy": None, "miou": None}]  # fmt: skip
  pseudo = {"by_threshold": rows, "split": {"name": "rest"}}
  folder = made_run.write(tmp_path / "a", results=({"calibration": bins, "pseudo_labels": pseudo},))
  text = page.build(runs.read(folder, "a", "a")).decode()
  assert "a, ECE 5.0, probability, % 80: 70.0" in text
  assert "coverage, probability at least, % 90: 20.0" in text and "rest" in text
