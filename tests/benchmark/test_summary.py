"""The printed summary of a config, and its flags."""

import re

import pytest

from semiseg_jax.benchmark import summary

pytestmark = pytest.mark.slow

CITY = "--config=configs/cps_city.py"
SMALL = (CITY, "--size=64,96")


def _printed(capsys, *arguments):
  summary.main(["summary", *arguments])
  return capsys.readouterr().out.splitlines()


def _rows(lines):
  """Stage -> its numbers."""
  cells = [line.replace(",", "").split() for line in lines if re.match(r"\w+/|total", line)]
  return {stage: [float(number) for number in numbers] for stage, *numbers in cells}


def test_cityscapes_recipe(capsys):
  lines = _printed(capsys, CITY)
  assert lines[0].startswith(
    "resnet50_v1s_deeplabv3plus on 800x800x3, 19 classes, float32, remat=none;"
  )
  rows = _rows(lines)
  params, gflop, *_ = rows.pop("total")
  assert (params, gflop) == (40_475_443, 372.20)
  for i, (column, rounding) in enumerate(zip(zip(*rows.values()), (0, 0.06, 0.06, 0.6))):
    assert sum(column) == pytest.approx(_rows(lines)["total"][i], abs=rounding)
  assert "training: 1,116.61 GFLOP per picture, 3 x forward" in lines


def test_overrides_classes_and_channels(capsys):
  flags = ("--config.model.backbone=resnet18", "--config.model.head=deeplabv2")
  lines = _printed(capsys, *SMALL, *flags, "--classes=7", "--channels=5")
  assert lines[0].startswith("resnet18_deeplabv2 on 64x96x5, 7 classes")
  rows = _rows(lines)
  assert rows["encoder/stem"][0] == 7 * 7 * 5 * 64 + 2 * 64
  assert rows["decoder/branch"][0] == 4 * (9 * 512 * 7 + 7)


def test_rematerialisation_says_what_it_saves_and_costs(capsys):
  flags = ("--config.model.backbone=resnet18", "--config.model.head=deeplabv2")
  plain = _rows(_printed(capsys, *SMALL, *flags))["total"]
  lines = _printed(capsys, *SMALL, *flags, "--config.model.remat=blocks")
  kept = _rows(lines)["total"][3]
  assert kept < plain[3] / 2
  said = [line for line in lines if line.startswith("remat=blocks keeps")]
  assert said[0].startswith(f"remat=blocks keeps {kept} MiB per picture, remat=none {plain[3]};")
  training = next(line for line in lines if line.startswith("training: "))
  total, again = (float(number) for number in re.findall(r"[\d.]+(?= GFLOP| computed)", training))
  assert total == pytest.approx(3 * plain[1] + again, abs=0.03) and again > 0


def test_every_parameter(capsys):
  flags = ("--config.model.backbone=resnet18", "--config.model.head=deeplabv2")
  lines = _printed(capsys, *SMALL, *flags, "--parameters")
  assert any("encoder/layer1_0/unit1/conv/kernel" in line and "36,864" in line for line in lines)


@pytest.mark.parametrize(
  "arguments, said",
  [
    ((), "--config=FILE.py is missing"),
    (("--config=configs/absent.py",), "configs/absent.py"),
    (("--config=configs/cps_city.py:ratio=1_3",), "ratio='1_3': one of 1_16, 1_8"),
    ((CITY, "--config.modl.dtype=float32"), "--config.modl.dtype is no key; nearest: model.dtype"),
    ((CITY, "--config.model.backbone=resnet5"), "model.backbone is 'resnet5'; possible: resnet18"),
    ((CITY, "--config.model.remat=most"), "model.remat='most' holds 'most'; possible: none,"),
    ((CITY, "--size=800"), "--size=800: write height,width"),
    ((CITY, "--size=800,a"), "--size=800,a: write height,width"),
    ((CITY, "--size=0,5"), "--size=0,5: write height,width"),
    ((CITY, "--classes=0"), "--classes=0"),
    ((CITY, "--clases=3"), "--clases is no option. Did you mean --classes?"),
    ((CITY, "here"), "unexpected arguments ['here']"),
    (
      (CITY, "--config.model.backbone=dinov2_small", "--config.model.head=dpt"),
      "multiples of 14, not 800x800",
    ),
  ],
)
def test_wrong_flags_are_one_line(arguments, said):
  with pytest.raises(SystemExit) as stopped:
    summary.main(["summary", *arguments])
  message = str(stopped.value)
  assert said in message and message.startswith("summary: ") and "\n" not in message
