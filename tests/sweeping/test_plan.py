"""The file of a sweep: what it means, and all that is wrong in it at once."""

import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.sweeping import plan, record
from tests import small_city

FILE = """
defaults:
  config: configs/cps_toy.py:method=cps
  seeds: [0, 7]
  set: {train.steps: 300, data.crop: [32, 48]}
runs:
  - {}
  - name: short
    seeds: 3
    config: configs/cps_toy.py:ratio=1_8,method=supervised
    set: {train: {steps: 9}, optimizer.learning_rate: 1e-3, runtime.compilation_cache: off}
"""


def read(folder, text):
  (folder / "a.yaml").write_text(text)
  return plan.read(folder / "a.yaml", folder / "out")


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # no data set is here: the lists are not looked at


def test_a_run_has_its_own_values_before_the_defaults(tmp_path):
  first, second, short = read(tmp_path, FILE)
  assert [run.title for run in (first, second, short)] == [
    "cps_toy_method=cps, seed 0", "cps_toy_method=cps, seed 7", "short, seed 3",
  ]  # fmt: skip
  assert (first.config.seed, second.config.seed, second.config.method.networks) == (0, 7, 2)
  assert (second.config.train.steps, second.config.data.crop) == (300, (32, 48))
  c = short.config
  assert (c.train.steps, c.data.crop, c.data.labeled) == (9, (32, 48), "labeled_1_8")
  assert (c.optimizer.learning_rate, c.runtime.compilation_cache) == (1e-3, "off")
  assert short.workdir == tmp_path / "out" / "runs" / "short" / "seed_3"
  assert "--config=configs/cps_toy.py:ratio=1_8,method=supervised" in short.arguments
  assert {"--config.train.steps=9", "--config.seed=3"} <= set(short.arguments)


def test_all_faults_are_told_at_once(tmp_path):
  text = """
default: {}
defaults: {seed: 1}
runs:
  - {config: configs/cps_toy.py:method=cpss}
  - {config: configs/cps_toy.py, set: {train.stps: 3}}
  - {config: configs/cps_toy.py, seeds: [1, -1], set: {seed: 4}, nam: x}
  - {config: configs/cps_toy.py, name: a/b}
  - {config: configs/cps_toy.py, set: {train.steps: 0}}
  - {config: configs/cps_toy.py, set: {data.val: ""}}
  - configs/cps_toy.py
  - {}
  - {config: configs/cps_toy.py, set: {train.steps: 5}}
  - {config: configs/cps_toy.py, set: {train.steps: 6}}
"""
  with pytest.raises(ConfigError) as error:
    read(tmp_path, text)
  said = str(error.value)
  for part in (
    "the file has no key 'default'. Did you mean 'defaults'?",
    "defaults has no key 'seed'. Did you mean 'seeds'?",
    "run 1: --config: argument method='cpss': one of",
    "run 2: --config.train.stps is no key; nearest: train.steps",
    "run 3: it has no key 'nam'. Did you mean 'name'?",
    "run 3: set: seed: say it with `seeds:`",
    "run 3: seeds: ['1', '-1']: write whole numbers from 0 on",
    "run 4: name: 'a/b'",
    "run 5: train.steps=0",
    "run 6: data.val is empty: nothing would be scored",
    "run 7: 'configs/cps_toy.py': write {config: FILE.py:key=value, ...}",
    "run 8: config: FILE.py or FILE.py:key=value,... is needed",
    "run 9: 'cps_toy' is another run too: give each a `name:`",
    "run 10: 'cps_toy' is another run too: give each a `name:`",
  ):
    assert part in said, part


def test_no_fault_waits_until_another_is_mended(tmp_path):
  small_city.write("city", pictures=4, val=1)
  text = """
defaults: {config: configs/cps_toy.py}
runs:
  - {nam: x, config: "configs/cps_toy.py:method=cpss", seeds: [a], set: {seed: 1, train.stps: 3}}
  - {name: b, set: {train.stps: 3, train.steps: 0, data.val: "", optimizer.lr: x}}
  - {name: c, name: d, set: {data.root: city, data.labeled: one, data.val: two}}
"""
  with pytest.raises(ConfigError) as error:
    read(tmp_path, text)
  said = str(error.value)
  for part in (
    "the key 'name' is there twice, line 6",
    "run 1: it has no key 'nam'",
    "run 1: set: seed",
    "run 1: seeds: ['a']",
    "run 1: --config: argument method='cpss'",
    "run 1: --config.train.stps is no key",
    "run 2: --config.train.stps is no key",
    "run 2: --config.optimizer.lr",
    "run 2: train.steps=0",
    "run 2: data.val is empty",
    "run 3: 'one' is neither a list",
    "run 3: 'two' is neither a list",
  ):
    assert part in said, part


@pytest.mark.parametrize(
  "text, said",
  [
    ("- a", "begins with `runs:`"),
    ("runs: {", "no YAML that can be read: .*line 1"),
    ("runs: !!map [a]", "no YAML that can be read: "),
    ("runs: !!map foo", "no YAML that can be read: "),
    ("runs: &a [*a]", "no YAML that can be read: the alias"),
    (
      "defaults: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
      + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 10}]\n" for i in range(1, 10)),
      "no YAML that can be read: its aliases",
    ),
    ("runs: []", "runs: a list is needed, of at least one"),
    ("defaults: 3\nruns: []", "defaults: this is a mapping"),
    ("runs:\n- {config: a.py, seeds: 1, seeds: 2}", "the key 'seeds' is there twice.*line 2"),
    ("runs:\n- {config: a.py, seeds: 1, set: 3}", "set: '3': write {train.steps: 300"),
    ("runs:\n- {config: a.py}", "run 1: --config=a.py: there is no such file"),
    ("runs:\n- {config: configs/cps_toy.py, seeds: [1, 1]}", "each once"),
  ],
)
def test_what_cannot_be_read_is_told(tmp_path, text, said):
  with pytest.raises(ConfigError, match=f"(?s)a.yaml: .*{said}"):
    read(tmp_path, text)


def test_lists_that_cannot_be_used_are_told_before_the_first_run(tmp_path):
  small_city.write("city", pictures=4, val=1)
  text = "runs: [{config: configs/cps_toy.py, set: {data.root: city, data.labeled: labeled_1_9}}]"
  with pytest.raises(ConfigError, match="run 1: .*labeled_1_9"):
    read(tmp_path, text)


def test_a_run_may_be_changed_until_it_has_checkpoints(tmp_path):
  text = "runs: [{config: configs/cps_toy.py, name: x, set: {train.steps: 5}}]"
  (tmp_path / "out").mkdir()
  assert record.update(tmp_path / "out", read(tmp_path, text)) == []
  changed = read(tmp_path, text.replace("5", "6"))
  assert record.update(tmp_path / "out", changed) == []
  (changed[0].workdir / "1_teacher" / "checkpoints" / "4").mkdir(parents=True)  # of stages
  with pytest.raises(ConfigError, match="x, seed 0: train.steps: 6 then, 7 now"):
    record.update(tmp_path / "out", read(tmp_path, text.replace("5", "7")))
