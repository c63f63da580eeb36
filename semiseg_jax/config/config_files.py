"""Where config files lie: here, or with the program, wherever one stands."""

import difflib
import pathlib
from collections.abc import Sequence

import semiseg_jax
from semiseg_jax.errors import ConfigError

_OWN = "configs"  # the folder of config files that is installed beside the package


def located(argv: Sequence[str]) -> list[str]:
  """Returns the arguments with the place of the file of `--config=FILE.py:...` in them.

  Raises:
    ConfigError: there is no such file.
  """
  found, following = list(argv), [*argv[1:], ""]
  for i, argument in enumerate(argv):
    name, equals, value = argument.partition("=")
    if name not in ("--config", "-config"):
      continue
    if equals:
      found[i] = f"{name}={locate(value)}"
    elif i + 1 < len(argv):
      found[i + 1] = locate(following[i])
  return found


def locate(config: str) -> str:
  """Returns 'FILE.py:arguments' with the place of the file.

  Raises:
    ConfigError: there is no such file, neither here nor, where it begins with configs/, in this
      program; or it is no .py.
  """
  file, colon, arguments = config.partition(":")
  path = pathlib.Path(file)
  if not path.is_file() and path.parts[:1] == (_OWN,):
    path = own_folder().parent / path
  if not path.is_file():
    raise ConfigError(f"--config={file}: there is no such file; {_near(file)}.")
  if path.suffix != ".py":  # which would be run as one
    raise ConfigError(f"--config={file}: this is no FILE.py; {_near(file)}.")
  return f"{path}{colon}{arguments}"


def own_folder() -> pathlib.Path:
  """Returns the folder of this program's config files."""
  return pathlib.Path(semiseg_jax.__file__).absolute().parents[1] / _OWN


def _near(file: str) -> str:
  """What to say of a file that is not there: the one that is meant, or where all of them lie."""
  name = pathlib.Path(file).stem
  near = difflib.get_close_matches(name, (p.stem for p in own_folder().glob("*.py")), n=3)
  if near:
    return f"nearest: {', '.join(f'{_OWN}/{stem}.py' for stem in near)}"
  return f"those of this program lie in {_OWN}/"
