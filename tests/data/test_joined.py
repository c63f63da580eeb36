"""Two datasets as one: a second folder as a source of unlabeled pictures."""

import itertools
import pickle

import numpy as np
import pytest

from semiseg_jax import train
from semiseg_jax.data import known_lists, opening, pipeline, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation import inference, result_files
from tests import small_city


def _image(seed, channels=3):
  return np.random.default_rng(seed).integers(0, 256, (36, 40, channels), dtype=np.uint8)


def _write(root, ids, *, first_seed, classes=small_city.CLASSES, channels=3, labeled=True):
  colors = [(i, i, i) for i in range(len(classes))]
  with DatasetWriter(
    root, name=root.name, classes=classes, colors=colors, channels=channels
  ) as writer:
    for seed, id_ in enumerate(ids, first_seed):
      label = np.full((36, 40), seed % len(classes), np.uint8) if labeled else None
      writer.add(id_, image=_image(seed, channels), label=label)
    writer.lists(train=ids, labeled=ids[:2], few=ids[1:3])
  return Dataset.open(root)


@pytest.fixture(scope="module")
def main(tmp_path_factory):
  root = tmp_path_factory.mktemp("joined") / "city"
  return _write(root, ("a", "b", "c", "d"), first_seed=0)


@pytest.fixture(scope="module")
def extra(tmp_path_factory):
  """Shares the id 'c' with the first, but not the classes."""
  root = tmp_path_factory.mktemp("joined") / "extra"
  return _write(root, ("x", "y", "c"), first_seed=10, classes=("other",))


def test_both_are_read_each_under_its_ids(main, extra):
  joined = JoinedDataset(main, extra)
  assert len(joined) == 7 and joined.shared_ids == ("c",)
  assert joined.info.ids == ("a", "b", "c", "d", "x", "y", "extra/c")
  for seed, id_ in ((0, "a"), (2, "c"), (3, "d"), (10, "x"), (11, "y"), (12, "extra/c")):
    example = joined.read(joined.index(id_))
    np.testing.assert_array_equal(example.image, _image(seed))
  with pytest.raises(DataError, match="'nobody' is neither in .*city nor in .*extra"):
    joined.index("nobody")


def test_labels_of_other_classes_are_hidden(main, extra):
  joined = JoinedDataset(main, extra)
  assert joined.info.labeled == (True,) * 4 + (False,) * 3
  assert joined.info.classes == small_city.CLASSES and joined.info.lists == main.info.lists
  for index in range(7):
    assert (joined.read(index).label is None) == (index >= 4)
    assert (joined.record(index).window(0, 0, 8, 8).label is None) == (index >= 4)


def test_labels_of_the_same_classes_are_kept_for_measuring(main, tmp_path):
  joined = JoinedDataset(main, _write(tmp_path / "coarse", ("x", "y"), first_seed=20))
  assert joined.info.labeled == (True,) * 6
  assert (joined.read(5).label == 21 % 3).all()


def test_fingerprint_is_of_both(main, extra, tmp_path):
  other = _write(tmp_path / "extra", ("x", "y", "c"), first_seed=11, classes=("other",))
  prints = {
    JoinedDataset(main, extra).info.fingerprint,
    JoinedDataset(extra, main).info.fingerprint,
    JoinedDataset(main, other).info.fingerprint,
    main.info.fingerprint,
  }
  assert len(prints) == 4
  assert JoinedDataset(main, extra).info.fingerprint in prints


def test_pickles_small_and_reads_on(main, extra):
  joined = JoinedDataset(main, extra)
  joined.read(joined.index("y"))
  data = pickle.dumps(joined)
  assert len(data) < 6000
  copy = pickle.loads(data)
  assert copy.index("extra/c") == 6 and copy.info == joined.info
  np.testing.assert_array_equal(copy.read(6).image, _image(12))


def test_what_does_not_fit_is_refused(main, tmp_path):
  gray = _write(tmp_path / "gray", ("x", "y"), first_seed=0, channels=1)
  with pytest.raises(DataError, match="'gray'.* of 1 channel,.*'city'.* of 3; .*--channels 3"):
    JoinedDataset(main, gray)
  with pytest.raises(DataError, match="themselves; leave it empty"):
    JoinedDataset(main, Dataset.open(main.root))
  first = _write(tmp_path / "one", ("c", "two/c"), first_seed=0)
  with pytest.raises(DataError, match="rename"):
    JoinedDataset(first, _write(tmp_path / "two", ("c", "z"), first_seed=0))


def _unlabeled(joined, spec):
  return splits.make_split(joined, "labeled", spec, "train").unlabeled


def test_words_speak_of_the_second(main, extra):
  joined = JoinedDataset(main, extra)
  assert _unlabeled(joined, "all").ids == ("x", "y", "extra/c")
  assert _unlabeled(joined, "few").ids == ("y", "extra/c")
  assert _unlabeled(joined, "few").name == "few of extra"
  assert _unlabeled(joined, "rest").ids == ("c", "d", "x", "y", "extra/c")
  assert _unlabeled(joined, None).ids == ()
  with pytest.raises(DataError, match="'nobody' is neither a list of dataset 'extra'"):
    _unlabeled(joined, "nobody")


def test_a_file_of_the_seconds_ids(main, extra, tmp_path):
  (tmp_path / "list.txt").write_text("images/c.png\nimages/x.png\n")
  assert _unlabeled(JoinedDataset(main, extra), str(tmp_path / "list.txt")).ids == ("extra/c", "x")


def test_all_labels_used_leaves_the_second(main, extra):
  split = splits.make_split(JoinedDataset(main, extra), "train", "rest", "train")
  assert split.unlabeled.ids == ("x", "y", "extra/c")


def _corner(record, rng):
  return {"image": record.window(0, 0, 16, 16).image}


def test_batches_from_both(main, extra):
  joined = JoinedDataset(main, extra)
  split = splits.make_split(joined, "labeled", "rest", "train")
  streams = [
    pipeline.StreamSpec("labeled", split.labeled.ids, 2, "labeled", _corner),
    pipeline.StreamSpec("unlabeled", split.unlabeled.ids, 5, "unlabeled", _corner),
  ]
  batches = pipeline.make_batches(joined, streams, seed=0, start_step=0, rows=slice, workers=0)
  seeds = [0, 1, 2, 3, 10, 11, 12]
  for batch in itertools.islice(batches, 3):
    assert sorted(batch["labeled"]["index"]) == [0, 1]
    assert sorted(batch["unlabeled"]["index"]) == [2, 3, 4, 5, 6]
    for part in batch.values():
      for image, index in zip(part["image"], part["index"]):
        np.testing.assert_array_equal(image, _image(seeds[index])[:16, :16])
  batches.close()


def test_no_second_is_the_main_dataset(main):
  config = small_city.config(main.root)
  assert opening.open_dataset(config.data).info == main.info
  assert opening.open_pool(config.data, main) is main
  assert opening.open_dataset(config.data, main.root).root == main.root


@pytest.mark.slow
def test_a_run_with_a_second_folder(extra, tmp_path, capsys, monkeypatch):
  small_city.write(tmp_path / "city")
  for name, paper in (("labeled_1_4", "Quarter of the paper"), ("val", "Val of the paper")):
    ids = Dataset.open(tmp_path / "city").info.lists[name]
    monkeypatch.setitem(known_lists.KNOWN, known_lists.digest(ids), (paper, known_lists.FILE))
  config = small_city.config(
    tmp_path / "city", data__unlabeled_root=extra.root, data__unlabeled="all"
  )
  train.train(config, str(tmp_path / "run"))
  said = capsys.readouterr().out
  notes = [line for line in said.partition("resumed")[0].splitlines() if "NOTE" in line]
  assert "3 unlabeled (all of extra)" in said
  few = ("only 3 pictures", "3 pictures are few", "never predicted", "below 3000 steps")
  assert all(any(words in line for words in few) for line in notes), notes
  trained_on = inference.load_trained(tmp_path / "run").dataset
  main = Dataset.open(tmp_path / "city").info
  assert (trained_on["name"], trained_on["fingerprint"]) == ("small_city", main.fingerprint)
  assert trained_on["more_unlabeled"] == {"name": "extra", "fingerprint": extra.info.fingerprint}
  assert trained_on["splits"]["unlabeled"]["ids"] == 3
  assert trained_on["splits"]["labeled"]["known_as"] == "Quarter of the paper"
  assert "4 labeled (labeled_1_4: Quarter of the paper)" in said
  (file,) = (tmp_path / "run" / "evaluations").glob("*.json")
  fields = result_files.read(file)
  assert fields["split"]["known_as"] == "Val of the paper" and "val: Val of the paper" in said
  assert fields["trained_on"] == {k: trained_on[k] for k in fields["trained_on"]}
  assert fields["trained_on"]["more_unlabeled"]["name"] == "extra"

  _write(tmp_path / "changed", ("x", "y", "c"), first_seed=30, classes=("other",))
  config.data.unlabeled_root = str(tmp_path / "changed")
  with pytest.raises(ConfigError, match="unlabeled_root: dataset 'extra' then, 'changed' now"):
    train.train(config, str(tmp_path / "run"))
