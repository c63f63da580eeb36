"""What CPS (TorchSemiSeg), U2PL and PseudoSeg publish beside their labeled lists, by digests.

TorchSemiSeg has lists of PseudoSeg within the 1,464 pictures of VOC, of which each unlabeled one
holds one labeled picture; its list of 732 is not that of U2PL.  Its lists of train_extra and those
of COCO, which are PseudoSeg's, are not sorted.  CAC publishes all of Cityscapes train as labeled
and as unlabeled.
"""

# Name -> digest of the ids in the order of the file.
FILES: dict[str, str] = {
  "VOC train 1/2 (732) of PseudoSeg in TorchSemiSeg": (
    "5fef6d10440f157ddd4408bf72401f27c72faf4d0f5f61b26d916ad0a96a40cb"
  ),
  "VOC train without 1/16 (92) of PseudoSeg but for one id (TorchSemiSeg)": (
    "13c3df447645230808bd9c3ea59bad78d0d64ddcf4207a177d379615c15331af"
  ),
  "VOC train without 1/8 (183) of PseudoSeg but for one id (TorchSemiSeg)": (
    "df2c2a0ecfff8a9f8c6d0b646c5c9d7562db3f414eb1ea6cf164ec5936466fb5"
  ),
  "VOC train without 1/4 (366) of PseudoSeg but for one id (TorchSemiSeg)": (
    "5976f12ddaf3046a9f2ea45966ea868e94aa3d574e853726541a44e960540616"
  ),
  "VOC train without 1/2 (732) of PseudoSeg but for one id (TorchSemiSeg)": (
    "a2bbd2a941de0992e17cea82c872358166b815296be260a34caa50259932cf20"
  ),
  "Cityscapes train_extra, 3,000 of CPS (TorchSemiSeg)": (
    "464311d889876df5e26bffb67ec1ccbbdf18064ce6ba4298bdac5c08687f2a64"
  ),
  "Cityscapes train_extra, 6,000 of CPS (TorchSemiSeg)": (
    "07aa15c349f0581516f553a083d284157cef0c6a678aa87ffafb913ea2b3f9b2"
  ),
  "Cityscapes train_extra, 9,000 of CPS (TorchSemiSeg)": (
    "0d0bc6a7c4da71456e926b908b00ed3959510b1e04cd6a5c94796ad00987daa4"
  ),
  "Cityscapes test (1,525) in the order of CPS (TorchSemiSeg)": (
    "7cb8f9433e0b66f278f3e4dea49315fd75ae0664b20db20840f94d478541db9f"
  ),
  "Cityscapes train and val (3,475) in the order of CPS (TorchSemiSeg)": (
    "3f92013e814cff4b5dc867e9a5fefce7e4b9df8afc29ed88ab16f524cc48f824"
  ),
  "COCO train2017 1/512 (232) of PseudoSeg": (
    "848271e2a89eb355f7ace6ec9e9123986de5ae0f4ba4850e90dc7f2beb709fe8"
  ),
  "COCO train2017 1/256 (463) of PseudoSeg": (
    "09b066836866e4539d84c94a40b9c3a185946d5b1ce8571a1f3b10cfdb12f23d"
  ),
  "COCO train2017 1/128 (925) of PseudoSeg": (
    "f0e5060945fd3711f88099fe4e005261b9c9c9e610c033191c81fe7f8096dbb1"
  ),
  "COCO train2017 1/64 (1849) of PseudoSeg": (
    "2d5fe5725d397e4a841392ebcb34ad4d3f993b4cbc4dba08093fb20ac5e20f62"
  ),
  "COCO train2017 1/32 (3697) of PseudoSeg": (
    "553d27c36c91e0e058bf4ce3ee842a7af077aa4a41f4c45ef3fadd7b555ed65e"
  ),
}

# Name -> digest of the sorted ids.
SETS: dict[str, str] = {
  "Cityscapes train_extra (19,998)": (
    "9963e889cefcfc861eb6c372214922d2440aafcd1d50911aa7478e315f173175"
  ),
  "Cityscapes train_extra (19,997), without the defective picture": (
    "59e812e1b64edd9e68133a2a203359f5703aa4b942d03fc138ed505cd81cd7c4"
  ),
  "Cityscapes test (1,525)": ("f22d6cbaff9d5a4c6152365ed379848b50e476c65373a299541444edfed4ee8e"),
  "Cityscapes train and val (3,475)": (
    "cdeb90a6db8cf5c114264cc0bad5a0a025ec8add43577ae56186fa3339da0434"
  ),
  "COCO val2017 (5,000)": ("e1cc220cde76f9a1fc39aff5b5f8c0b128de8b071602e6d57f262697116e2906"),
  "ADE20K train (20,210)": ("6bb3631cc6ddf61eca5a9427027776105361247c675064347e7d711dd847c408"),
  "ADE20K val (2,000)": ("302fe0402c1fa1a83d54bc5d20723d53e2367320105f036673dafb1bd88aff9d"),
  "VOC 2012 test (1,456)": ("5e8fe0c14b2e6633fb2e3a0f5db65fb6b8f5217b574478bb21127a48fd33010f"),
}

# Labeled list of KNOWN -> digest of the sorted ids that it leaves unlabeled.
RESTS: dict[str, str] = {
  "VOC train 1/2 (732) of PseudoSeg in TorchSemiSeg": (
    "35137b872592782214fbffc87e56ee7482f74a75fc595316b193803ab1f9abf4"
  ),
  "VOC train_aug 1/16 of CPS (TorchSemiSeg)": (
    "49b06340ca1534c3f15001ea9ce6d2815dd2ae1302390cfbdcfc0b004e17d960"
  ),
  "VOC train_aug 1/8 of CPS (TorchSemiSeg)": (
    "b93006960bd751713dd8f5c14a148925077ba8deade79fa8591f715d7adb80e2"
  ),
  "VOC train_aug 1/4 of CPS (TorchSemiSeg)": (
    "a84acda9b7087bb4595db3d023d9f546347dd7e937f4db5ce6a7146739983cb9"
  ),
  "VOC train_aug 1/2 of CPS (TorchSemiSeg)": (
    "415761b09b2b58696eadbe27d4cf09e42c495d247723d2a3267a7537fa410107"
  ),
  "Cityscapes train 1/16 of CPS (TorchSemiSeg)": (
    "aee794749c4a6455e497b50c2486e2645ef659edd5fe05e33f1c4698b2a3fb62"
  ),
  "Cityscapes train 1/8 of CPS (TorchSemiSeg)": (
    "2ea590415ac9da173ea13030567d081d970276890a0b1a163d721f0b6cd5997b"
  ),
  "Cityscapes train 1/4 of CPS (TorchSemiSeg)": (
    "9fb53e498cbaec51160a4718921836d8bc744c50c516d163e4a7549f0e2d716d"
  ),
  "Cityscapes train 1/2 of CPS (TorchSemiSeg)": (
    "dc475feb9c9230d4e03f78aa61210299f11e02fdc3d079355e30d0144e70d823"
  ),
  "Cityscapes train 1/16 of U2PL": (
    "de469ce7c7bf336f60834c6abff736161501ef38a448dab0585271b2a931759d"
  ),
  "Cityscapes train 1/4 of U2PL": (
    "a844fadb2bda69397fdbdfc6ba66ac5b7f9f1dbe0eb40b8686cac2fc63773a8d"
  ),
  "Cityscapes train 1/2 of U2PL": (
    "093af6ed9647b77456e1a2e696430cafed148b245cca786c32890053cf3774d3"
  ),
}

# Lists that were published as labeled and as unlabeled ones of the same run and share pictures, by
# the digests of their ids in the order of the files.
TOGETHER: frozenset[tuple[str, str]] = frozenset(
  {
    (
      "a2a472eb74fcf8f3ec462d1151f98f68bfcbded3fbfd08c08a49b2d9d7a51ca5",
      "13c3df447645230808bd9c3ea59bad78d0d64ddcf4207a177d379615c15331af",
    ),
    (
      "7d364bb88766ba220e68e01eb066d94e714349209af73608eaf8940ca2cdedc9",
      "df2c2a0ecfff8a9f8c6d0b646c5c9d7562db3f414eb1ea6cf164ec5936466fb5",
    ),
    (
      "4b58843de93dc6927e66a6ae10e0dd257f70ddc370c0875a42a79419290d745a",
      "5976f12ddaf3046a9f2ea45966ea868e94aa3d574e853726541a44e960540616",
    ),
    (
      "5fef6d10440f157ddd4408bf72401f27c72faf4d0f5f61b26d916ad0a96a40cb",
      "a2bbd2a941de0992e17cea82c872358166b815296be260a34caa50259932cf20",
    ),
    (
      "7f56ebec1d2eb8db59a3600206fcf7f05b53a7f3a8cf66381e6de73356b9eb7a",
      "7f56ebec1d2eb8db59a3600206fcf7f05b53a7f3a8cf66381e6de73356b9eb7a",
    ),
  }
)
