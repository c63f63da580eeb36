"""Which run writes to a work directory in an object store: one at a time.

A store has no locks.  The run that writes there says so in an object, and again every few seconds;
the next start takes it over once it falls silent, at once where its process is known to be gone.
"""

import contextlib
import datetime
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from typing import Any

import psutil
from absl import logging

from semiseg_jax.errors import ConfigError, DiskError
from semiseg_jax.workdir.objects import Objects

NAME = "RUNNING.json"
_BEAT_S, _SILENT_S = 10.0, 45.0
_SETTLED_S = 0.5  # two starts at once: who wrote last has it


class Lease:
  """The right to write below a URL, held from the constructor until `release`.

  Attributes:
    took_over: whether the run before did not end by itself, and may have left something unfinished.

  Args:
    objects: below the URL.
    beat_s: seconds between two signs of life.
    silent_s: seconds without one after which a run counts as gone.

  Raises:
    ConfigError: another run writes there; it is left alone.
    DiskError: as Objects.
  """

  def __init__(self, objects: Objects, *, beat_s: float = _BEAT_S, silent_s: float = _SILENT_S):
    self._objects, self._beat_s = objects, beat_s
    process = psutil.Process()
    self._about = {
      "token": secrets.token_hex(8),
      "host": socket.gethostname(),
      "machine": _machine(),
      "pid": os.getpid(),
      "born": process.create_time(),
      "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    self._beats = 0
    self._wait_for_silence(silent_s)
    self._write()
    time.sleep(_SETTLED_S)
    self.check()
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
    self._thread.start()

  def check(self) -> None:
    """Raises DiskError where another run took over, as it does from one that was silent."""
    found = self._read()
    if found.get("token") != self._about["token"]:
      raise DiskError(
        f"{self._objects.url}: {_who(found)} writes there now; this run ends, and nothing of it "
        "goes there any more. One run writes to a work directory."
      )

  def release(self) -> None:
    """Ends it: the next start need not wait, but where the store does not answer."""
    self._end.set()
    self._thread.join(timeout=self._beat_s)
    try:
      if self._read().get("token") == self._about["token"]:
        self._objects.remove([NAME])
    except DiskError as error:
      logging.warning("%s", error)

  def _wait_for_silence(self, silent_s: float) -> None:
    first = self._read()
    self.took_over = bool(first)
    if not first or self._is_dead(first):
      return
    logging.warning(
      "%s: %s wrote there. Waiting %.0f s for a sign of life.",
      *(self._objects.url, _who(first), silent_s),
    )
    end = time.monotonic() + silent_s
    while time.monotonic() < end:
      time.sleep(min(self._beat_s, silent_s) / 4)
      found = self._read()
      if not found:
        return
      if found != first:
        raise ConfigError(
          f"{self._objects.url}: {_who(found)} writes there since {found.get('since')}: end that "
          "run first, or give another --workdir."
        )

  def _is_dead(self, found: dict[str, Any]) -> bool:
    if found.get("machine") != self._about["machine"]:
      return False
    try:
      return psutil.Process(found["pid"]).create_time() != found["born"]
    except psutil.NoSuchProcess:
      return True

  def _run(self) -> None:
    while not self._end.wait(self._beat_s):
      try:
        self.check()
        self._write()
      except DiskError as error:  # told again, and raised, when something is pushed
        logging.warning("%s", error)

  def _write(self) -> None:
    self._beats += 1
    self._objects.write(NAME, json.dumps({**self._about, "beats": self._beats}).encode())

  def _read(self) -> dict[str, Any]:
    try:
      found = json.loads(self._objects.read(NAME) or b"{}")
    except (ValueError, RecursionError):
      return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
  """This start of this machine and its process ids: hosts and containers may share a name."""
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):  # Linux has both
    parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    parts.append(os.readlink("/proc/self/ns/pid"))
  return " ".join(parts)


def _who(found: dict[str, Any]) -> str:
  if not found:
    return "another run"
  return f"the run of process {found.get('pid')} on {found.get('host')}"
