"""The command in a process that is a copy of one that has imported the program.

That takes two seconds of each start; what runs ends without the interpreter's own end.
"""

import multiprocessing
import os
import pathlib
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["semiseg_jax.main", "semiseg_jax.train", "tests.staged_runs"])


def command(*flags):
  """The command of this process; `flags` are those of semiseg_jax.main."""
  from absl import app

  from semiseg_jax import main

  sys.argv = ["main", *flags]
  app.run(main.main, flags_parser=main.parse_flags)


def _enter(run, arguments, places, environment):
  for place, descriptor in zip(places, (1, 2)):
    with open(place, "ab") as file:
      os.dup2(file.fileno(), descriptor)
  os.environ.clear()
  os.environ.update(environment)
  os.chdir(REPOSITORY)
  run(*arguments)


class Forked:
  """A started run(*arguments), to be asked as a `subprocess.Popen`."""

  def __init__(self, run, *arguments):
    self._folder = tempfile.TemporaryDirectory()
    places = [os.path.join(self._folder.name, name) for name in ("out", "err")]
    self._places = places
    given = (run, arguments, places, dict(os.environ))
    self._process = _CONTEXT.Process(target=_enter, args=given)
    self._process.start()

  @property
  def returncode(self):
    return self._process.exitcode

  def poll(self):
    return self._process.exitcode

  def kill(self):
    self._process.kill()

  def send_signal(self, number):
    os.kill(self._process.pid, number)

  def communicate(self, timeout=400):
    """Waits for its end: what it wrote to the two streams."""
    self._process.join(timeout)
    said = [pathlib.Path(place).read_text() for place in self._places]
    if self._process.exitcode is None:
      self._process.kill()
      raise TimeoutError("\n".join(said))
    return said
