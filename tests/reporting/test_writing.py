import logging

import pytest

from semiseg_jax import report
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.reporting import page, writing
from tests.reporting import made_run


def test_the_page_of_a_run_lies_in_its_folder_and_is_replaced(tmp_path, capsys):
  folder = made_run.write(tmp_path / "a")
  for _ in range(2):
    report.main([f"--workdir={folder}"])
    assert capsys.readouterr().out == f"report       {folder}/report.html\n"
  assert (folder / "report.html").read_bytes().startswith(b"<!doctype html>")
  assert sorted(p.name for p in folder.iterdir() if "report" in p.name) == ["report.html"]


def test_the_page_of_several_runs_lies_where_one_works_or_asks(tmp_path, monkeypatch):
  a, b = (str(made_run.write(tmp_path / name)) for name in "ab")
  monkeypatch.chdir(tmp_path)
  assert report.report([a, b]) == "report.html" and (tmp_path / "report.html").is_file()
  out = str(tmp_path / "new" / "x.html")
  assert report.report([a, b], out) == out
  assert b"2 runs" in (tmp_path / "new" / "x.html").read_bytes()


def test_other_files_are_never_replaced(tmp_path):
  folder = made_run.write(tmp_path / "a")
  metrics = folder / "metrics.jsonl"
  before = metrics.read_bytes()
  with pytest.raises(ConfigError, match="is a file of something else"):
    report.report([str(folder)], str(metrics))
  with pytest.raises(ConfigError, match="is a folder: name a file in it"):
    report.report([str(folder)], str(tmp_path))
  assert metrics.read_bytes() == before


@pytest.mark.parametrize(
  "places, names",
  [
    (["runs/a"], ["a"]),
    (["runs/a", "runs/b/"], ["a", "b"]),
    (["x/run", "y/run", "gs://b/z/run"], ["x/run", "y/run", "z/run"]),
  ],
)
def test_names_are_the_shortest_ends_that_differ(places, names):
  assert writing.names(places) == names


def test_wrong_flags_end_in_a_line(tmp_path, capsys):
  folder = made_run.write(tmp_path / "a")
  with pytest.raises(SystemExit, match="report: --workdir=.*a is given twice"):
    report.main([f"--workdir={folder}", f"--workdir={folder}/../a"])
  with pytest.raises(SystemExit, match=f"report: --workdir={tmp_path}: holds no run"):
    report.main([f"--workdir={tmp_path}"])
  with pytest.raises(SystemExit) as ended:
    report.main([f"--workdir={folder}", "--pictures=many"])
  assert ended.value.code == 2 and "'many': write a number" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_ends_no_run(tmp_path, caplog, capsys, monkeypatch):
  folder = made_run.write(tmp_path / "a")
  writing.at_end(str(folder))
  assert capsys.readouterr().out == f"  report       {folder}/report.html\n"
  (folder / "report.html").write_text("mine")
  with caplog.at_level(logging.ERROR):
    writing.at_end(str(folder))
    assert "is a file of something else" in caplog.text
    monkeypatch.setattr(page, "build", lambda found: 1 / 0)
    writing.at_end(str(folder))
  assert "a bug of this program, ZeroDivisionError" in caplog.text
  assert capsys.readouterr().out == "" and (folder / "report.html").read_text() == "mine"


def test_the_console_says_what_is_damaged_and_the_page_is_there(tmp_path, capsys):
  good, bad = (made_run.write(tmp_path / name) for name in ("good", "bad"))
  (broken,) = (bad / "evaluations").iterdir()
  broken.write_text("{")
  (good / "metrics.jsonl").open("a").write("torn")  # a run that goes on writes, too
  out = str(tmp_path / "page.html")
  with pytest.raises(SystemExit) as ended:
    report.main([f"--workdir={good}", f"--workdir={bad}", f"--out={out}"])
  lines = str(ended.value.code).splitlines()
  assert lines[0] == "report: the page lacks what is damaged:" and len(lines) == 2
  assert lines[1].startswith(f"{bad}: evaluations/{broken.name} is damaged")
  assert "delete it, and python -m semiseg_jax.evaluate writes it anew" in lines[1]
  assert capsys.readouterr().out == f"report       {out}\n" and b"2 runs" in open(out, "rb").read()
  report.main([f"--workdir={good}", f"--out={out}"])


@pytest.mark.extras
def test_runs_in_a_store_are_read_and_their_page_is_written_there(tmp_path):
  fsspec = pytest.importorskip("fsspec")
  memory = fsspec.filesystem("memory")
  memory.store.clear()
  memory.put(f"{made_run.write(tmp_path / 'a')}/", "/b/runs/a/", recursive=True)
  assert report.report(["memory://b/runs/a"]) == "memory://b/runs/a/report.html"
  assert memory.cat("/b/runs/a/report.html").startswith(b"<!doctype html>")
  out = "memory://b/pages/two.html"
  assert report.report(["memory://b/runs/a", str(tmp_path / "a")], out) == out
  assert b"2 runs" in memory.cat("/b/pages/two.html")
  with pytest.raises(CheckpointError, match="--workdir=memory://b/none: holds no run"):
    report.report(["memory://b/none"])
