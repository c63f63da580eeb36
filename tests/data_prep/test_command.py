"""Every command ends with a status and a message, never with a traceback."""

import os
import signal

import pytest

from data_prep import cityscapes, command, folder, inspect, splits, voc
from semiseg_jax.errors import DataError

COMMANDS = {
  "cityscapes": (cityscapes, "prepare", ["--source", "s", "--out", "o"]),
  "voc": (voc, "prepare", ["--source", "s", "--out", "o"]),
  "folder": (folder, "prepare", ["--images", "i", "--classes", "c", "--out", "o"]),
  "splits": (splits, "make", ["--dataset", "d", "--rule", "every", "--ratio", "2"]),
  "inspect": (inspect, "inspect", ["d"]),
}


def _raise(error):
  raise error


ENDS = {
  "data": (lambda: _raise(DataError("x.png: bad; mend it")), "error: x.png: bad; mend it"),
  "disk": (lambda: _raise(OSError("no space")), "error: no space"),
  "Ctrl-C": (lambda: os.kill(os.getpid(), signal.SIGINT), 130),
  "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), 130),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_how_a_command_ends(name, end, monkeypatch):
  module, work, arguments = COMMANDS[name]
  happens, code = ENDS[end]
  monkeypatch.setattr(module, work, lambda *args, **options: happens())
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(SystemExit) as ended:
    module.main(arguments)
  assert ended.value.code == code
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_bug_is_no_message():
  with pytest.raises(ZeroDivisionError), command.ending():
    _raise(ZeroDivisionError())
