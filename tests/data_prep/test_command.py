"""Every command ends with a status and a message, never with a traceback."""

import errno
import os
import signal

import pytest

from data_prep import cityscapes, command, folder, inspect, pretrained, published, splits, voc
from data_prep.toy_city import city
from semiseg_jax.errors import CheckpointError, ConfigError, DataError, WeightsError

COMMANDS = {
  "cityscapes": (cityscapes, "prepare", ["--source", "s", "--out", "o"]),
  "voc": (voc, "prepare", ["--source", "s", "--out", "o"]),
  "folder": (folder, "prepare", ["--images", "i", "--classes", "c", "--out", "o"]),
  "splits": (splits, "make", ["--dataset", "d", "--rule", "every", "--ratio", "2"]),
  "inspect": (inspect, "inspect", ["d"]),
  "toy_city": (city, "prepare", ["--out", "o"]),
  "pretrained": (
    pretrained,
    "prepare",
    ["--source", "s.npz", "--backbone", "resnet18", "--out", "o"],
  ),
  "published": (
    published,
    "prepare",
    ["--source", "s.npz", "--config=configs/cps_toy.py", "--out", "o"],
  ),
}


def _raise(error):
  raise error


ENDS = {
  "data": (lambda: _raise(DataError("x.png: bad; mend it")), "error: x.png: bad; mend it"),
  "weights": (lambda: _raise(WeightsError("w.npz: cut")), "error: w.npz: cut"),
  "config": (lambda: _raise(ConfigError("no such key")), 2),
  "checkpoint": (lambda: _raise(CheckpointError("none yet")), "error: none yet"),
  "disk": (
    lambda: _raise(OSError(errno.ENOSPC, "no space", "x.array_record")),
    "error: x.array_record: no space; free some space, or choose another folder.",
  ),
  "Ctrl-C": (lambda: os.kill(os.getpid(), signal.SIGINT), 130),
  "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), 130),
}


@pytest.mark.filterwarnings("ignore:the load_module")  # of ml_collections
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


@pytest.mark.filterwarnings("ignore:the load_module")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_bug_keeps_its_traceback(name, monkeypatch):
  module, work, arguments = COMMANDS[name]
  monkeypatch.setattr(module, work, lambda *args, **options: _raise(ValueError("of ours")))
  with pytest.raises(ValueError, match="of ours"):
    module.main(arguments)


def test_a_bug_is_no_message():
  with pytest.raises(ZeroDivisionError), command.ending():
    _raise(ZeroDivisionError())
