"""The origin of the package, asked of a small repository that holds a copy of it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import semiseg_jax

PACKAGE = pathlib.Path(semiseg_jax.__file__).parent
ASK = "import json; from semiseg_jax import version; print(json.dumps(version.describe()))"


def _git(folder, *command):
  who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
  outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
  done = subprocess.run(
    ["git", *who, *command], cwd=folder, env=outside, capture_output=True, text=True, check=True
  )
  return done.stdout.strip()


def _describe(folder, cwd=None, **variables):
  environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
  done = subprocess.run(
    [sys.executable, "-c", ASK],
    cwd=cwd or folder,
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  assert not done.stderr
  return json.loads(done.stdout)


@pytest.fixture
def copy(tmp_path):
  folder = tmp_path / "copy"
  (folder / "semiseg_jax").mkdir(parents=True)
  for name in ("__init__.py", "version.py"):
    shutil.copy(PACKAGE / name, folder / "semiseg_jax")
  (folder / ".gitignore").write_text("__pycache__/\n")
  return folder


@pytest.fixture
def repository(copy):
  if shutil.which("git") is None:
    pytest.skip("there is no git")
  _git(copy, "init", "-q")
  _git(copy, "add", "-A")
  _git(copy, "commit", "-q", "-m", "first")
  return copy


def test_commit_of_a_checkout_wherever_one_stands(repository, tmp_path):
  commit = _git(repository, "rev-parse", "HEAD")
  expected = {"version": semiseg_jax.__version__, "commit": commit, "changed": False}
  assert len(commit) == 40
  assert _describe(repository) == expected
  assert _describe(repository, cwd=tmp_path) == expected


def test_variables_of_an_outer_git_do_not_mislead(repository, tmp_path):
  assert _describe(repository, GIT_DIR=str(tmp_path))["commit"] == _git(
    repository, "rev-parse", "HEAD"
  )


def test_a_changed_file_and_a_new_one_count_those_beside_the_program_do_not(repository):
  (repository / "runs").mkdir()
  (repository / "runs" / "notes.txt").write_text("mine")
  assert _describe(repository)["changed"] is False
  new = repository / "semiseg_jax" / "mine.py"
  new.write_text("x = 1\n")
  assert _describe(repository)["changed"] is True
  new.unlink()
  init = repository / "semiseg_jax" / "__init__.py"
  init.write_text(init.read_text() + "# changed\n")
  assert _describe(repository)["changed"] is True


def test_a_damaged_repository_and_none_leave_it_open(repository):
  unknown = {"version": semiseg_jax.__version__, "commit": None, "changed": None}
  (repository / ".git" / "HEAD").write_text("nothing")
  assert _describe(repository) == unknown
  shutil.rmtree(repository / ".git")
  assert _describe(repository) == unknown


def test_without_the_command_git(repository):
  assert _describe(repository, PATH="/nowhere")["commit"] is None


def _install(folder, origin):
  info = folder / "semiseg_jax-9.9.dist-info"
  info.mkdir()
  (info / "METADATA").write_text("Metadata-Version: 2.1\nName: semiseg_jax\nVersion: 9.9\n")
  if origin is not None:
    (info / "direct_url.json").write_text(json.dumps(origin))


@pytest.mark.parametrize(
  "origin, commit",
  [
    ({"url": "https://a/b", "vcs_info": {"vcs": "git", "commit_id": "ab" * 20}}, "ab" * 20),
    ({"url": "file:///a", "dir_info": {}}, None),
    (None, None),
  ],
)
def test_an_installed_package_says_what_pip_recorded(copy, origin, commit):
  _install(copy, origin)
  found = _describe(copy)
  assert found["commit"] == commit
  assert found["changed"] is (None if commit is None else False)


def test_another_installation_says_nothing_of_a_copy(copy, tmp_path):
  other = tmp_path / "other"
  other.mkdir()
  _install(other, {"url": "https://a/b", "vcs_info": {"vcs": "git", "commit_id": "ab" * 20}})
  assert _describe(copy, PYTHONPATH=f"{copy}{os.pathsep}{other}")["commit"] is None
