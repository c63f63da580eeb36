"""Which version of this package runs: its number, its commit, and whether somebody changed it."""

import functools
import importlib.metadata
import json
import os
import pathlib
import subprocess
from typing import Any

import semiseg_jax

# What a result depends on; work directories and notes beside it change nothing.
PROGRAM = ("semiseg_jax", "configs", "data_prep")
_SECONDS = 10  # a checkout on a slow network disk


@functools.cache
def describe() -> dict[str, Any]:
  """Returns the origin of the running package, as it was when first asked.

  version: of the package.  commit: 40 hexadecimal digits, of the checkout that the package lies
  in, else what pip recorded of an installation from git, else None.  changed: whether files of
  PROGRAM differ from that commit (new ones count), None where that is not known.
  """
  root = pathlib.Path(__file__).absolute().parents[1]
  commit, changed = _of_checkout(root) if (root / ".git").exists() else _of_pip()
  return {"version": semiseg_jax.__version__, "commit": commit, "changed": changed}


def _of_checkout(root: pathlib.Path) -> tuple[str | None, bool | None]:
  commit = _git(root, "rev-parse", "HEAD")
  status = commit and _git(root, "status", "--porcelain", "--", *PROGRAM)
  return commit or None, None if status is None else bool(status)


def _git(root: pathlib.Path, *command: str) -> str | None:
  """Returns what git prints, None where it cannot say: not installed, damaged, too slow."""
  # Variables of an outer git (in a hook) name another repository.  A checkout of another owner is
  # refused by default: common in containers, and what lies in this one is being run already.
  outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
  try:
    done = subprocess.run(
      ["git", "-c", f"safe.directory={root}", "-C", str(root), *command],
      env={**outside, "GIT_OPTIONAL_LOCKS": "0"},
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip()


def _of_pip() -> tuple[str | None, bool | None]:
  try:
    installed = importlib.metadata.distribution("semiseg_jax")
  except importlib.metadata.PackageNotFoundError:
    return None, None
  # A copy without git may run while another one is installed.
  if pathlib.Path(str(installed.locate_file("semiseg_jax/version.py"))).resolve() != (
    pathlib.Path(__file__).resolve()
  ):
    return None, None
  origin = json.loads(installed.read_text("direct_url.json") or "{}")
  commit = origin.get("vcs_info", {}).get("commit_id")
  return commit, None if commit is None else False
