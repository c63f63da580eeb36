"""The other processes of a run: how the end of one is seen, and told in one line by those left.

JAX sees it in two ways.  A collective fails at once with an exception where its transport notices
(Gloo on CPUs).  Otherwise the coordination service misses the heartbeats of a process for
`HEARTBEAT_S`, or its own connection to process 0, and ends this process from C++ (SIGABRT) with a
dump of some forty lines, which no Python code can catch.  So stderr goes through a small process
(`watch_stderr`) that outlives that end: it leaves the dump out and says the line instead.

This file is also that process; its imports are those of any Python.
"""

import contextlib
import itertools
import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator

HEARTBEAT_S = 20  # without any a process is gone; a thread sends them that Python never holds up
GONE = (
  "another process of this run is gone{}: its own output says why. The checkpoints are whole: "
  "start the same command again, on all hosts."
)
_SIGNS = re.compile(
  r"Gloo .*failed|NCCL.*(remote|peer|connection)|[Cc]onnection (closed|reset)|Socket closed|"
  r"heartbeat timeout|[Cc]oordination ?[Ss]ervice|Barrier (failed|timed out)|remote task"
)
_BEGINS = re.compile(rb"^[WEF]\d{4} .*(coordination|client\.h|distributed|preemption)")
_FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
_TASK = re.compile(rb"[Tt]ask:? ?(\d+)")
_MET_S, STUCK_S = 600, 15  # in which the others come to a meeting; the second of one out of step
_meetings = itertools.count()
_QUIET_S = 2.0  # after which what looked like a dump is none, or is over
_watching: tuple[subprocess.Popen, int] | None = None  # the process, and stderr as it was


def is_gone(error: BaseException | None) -> bool:
  """Whether an error, or what caused it, says that another process of this run is gone."""
  import jax

  seen: set[int] = set()
  while error is not None and id(error) not in seen and jax.distributed.is_initialized():
    if _SIGNS.search(str(error)):
      return True
    seen.add(id(error))
    error = error.__cause__ or error.__context__
  return False


@contextlib.contextmanager
def leaving(command: str) -> Iterator[None]:
  """Around the work of one of several processes: an error ends it at once with status 1.

  Otherwise its end would wait, in vain, for the others, and they for it: for minutes.  One process
  alone is left as it is.

  Args:
    command: what begins the line on stderr.
  """
  try:
    yield
  except BaseException as error:
    import jax

    if not jax.distributed.is_initialized() or getattr(error, "code", 1) in (None, 0):
      raise
    if is_gone(error):
      print(f"{command}: {GONE.format('')}", file=sys.stderr)
    elif isinstance(error, SystemExit):
      if not isinstance(error.code, int):  # whose line was printed
        print(error, file=sys.stderr)
    else:
      traceback.print_exc()
    _leave(error.code if isinstance(getattr(error, "code", None), int) else 1)


class OutOfStepError(Exception):
  """Other processes do not come to where this one is: they wait for it elsewhere, in vain."""


def failures(reason: str, *, wait_s: float = _MET_S) -> dict[int, str]:
  """Returns process -> why the work before failed there; {} where it did nowhere.

  Args:
    reason: of this process; '' where its work succeeded.
    wait_s: as of `told`.

  Raises:
    OutOfStepError: another process did not come.
  """
  return told(reason, wait_s=wait_s)


def told(text: str, *, wait_s: float = _MET_S) -> dict[int, str]:
  """Returns process -> what it tells the others; those that tell '' are left out.

  All processes call it, as often.  It is no collective of devices: a process that left work in the
  middle of one can call it, too.

  Args:
    text: of this process.
    wait_s: for the others.

  Raises:
    OutOfStepError: another process did not come.
  """
  import jax

  if jax.process_count() == 1:
    return {0: text} if text else {}
  from orbax.checkpoint import multihost

  client, number = multihost.get_jax_distributed_client(), next(_meetings)
  key = lambda process: f"semiseg_jax/meeting/{number}/{process}"
  client.key_value_set(key(jax.process_index()), f"={text}")
  found = {}
  for process in range(jax.process_count()):
    try:
      said = client.blocking_key_value_get(key(process), round(1000 * wait_s))[1:]
    except jax.errors.JaxRuntimeError as error:
      if "DEADLINE_EXCEEDED" not in str(error):
        raise
      raise OutOfStepError(text) from error
    found |= {process: said} if said else {}
  return found


def _leave(status: int) -> None:
  for child in multiprocessing.active_children():
    child.kill()
  sys.stdout.flush()
  sys.stderr.flush()
  if _watching:
    process, before = _watching
    os.dup2(before, 2)  # which ends the process behind it
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(2 * _QUIET_S)
  os._exit(status)


def watch_stderr(command: str) -> None:
  """From now on stderr of this process and its children goes through a process of its own."""
  global _watching
  before = os.dup(2)
  process = subprocess.Popen(
    [sys.executable, "-I", "-S", os.path.abspath(__file__), command], stdin=subprocess.PIPE
  )
  os.dup2(process.stdin.fileno(), 2)
  process.stdin.close()
  _watching = process, before


def _pass_on(command: str) -> None:
  """Copies stdin to stderr, line by line, until its end; a dump becomes one line."""
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)  # it ends when the run has ended
  rest, kept, fatal, open_ = b"", [], False, True
  while open_:
    ready, _, _ = select.select([0], [], [], _QUIET_S if kept else None)
    data = os.read(0, 1 << 16) if ready else b""
    open_ = not ready or bool(data)
    *lines, rest = (rest + data).split(b"\n")
    for line in [*lines, rest] if not open_ else lines:
      fatal = fatal or _FATAL in line
      if kept or _BEGINS.match(line):
        kept.append(line)
      elif open_ or line:
        os.write(2, line + b"\n")
    if not data and kept:
      os.write(2, _told(command, kept) if fatal else b"\n".join(kept) + b"\n")
      kept = []
      if fatal:
        return


def _told(command: str, dump: list[bytes]) -> bytes:
  task = _TASK.search(b"\n".join(dump))
  which = f" (process {int(task[1])})" if task else ""
  return f"{command}: {GONE.format(which)}\n".encode()


if __name__ == "__main__":
  _pass_on(sys.argv[1])
