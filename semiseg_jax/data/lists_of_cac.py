"""The lists of CAC and CCT by their digests, counted from the files of their authors.

CAC has three random draws of each ratio, of which none is a part of another, but for Cityscapes 1/8
and 1/4 in the lists 1 and 2.  Its first draw of Cityscapes 1/8 is U2PL's list.  A quarter of VOC is
2645 pictures in CAC and 2646 in CPS and U2PL.  The lists of CCT lie in CAC's first folder too; from
200 pictures on they hold some that only SBD has labeled.
"""

# Name -> (digest of the labeled ids in the order of the file, digest of the sorted unlabeled ids).
LISTS: dict[str, tuple[str, str]] = {
  "VOC train_aug 1/16 (662), list 0 of CAC": (
    "7b0aa1d6052c08480f11f2d260c9aa4f82ae7374e1ea1af47c8a5ccdeca8be46",
    "466ea451c2f3fe794769e81a964c93f5135248be87aecc7bd08ae282f2819c67",
  ),
  "VOC train_aug 1/8 (1323), list 0 of CAC": (
    "8e88fe3c4e37dcd7c8b866963aab7e465baa627a1b77887065dc67ecffc07f11",
    "e2d792aad56052dad901f55a8e22d177065bc07fa8b49cf64e014a3ac3d8d2d8",
  ),
  "VOC train_aug 1/4 (2645), list 0 of CAC": (
    "55c680e22872b6e2a8e5eb5d9c8112789c20b2c9e2986390500c1d31d3ed5e1d",
    "3e0d5be60b412caa3cc4aec60bac3e440345da933566b5b5da2102b5f9e6cc44",
  ),
  "VOC train_aug 1/16 (662), list 1 of CAC": (
    "5cf85bdfa21a3a37414d5d21120b0d3aaa9acc8e870e750ae2352128a08d36fc",
    "68d72d008eb6c171a81b5a17781228df24681fd8512bf19cf11acd984e8653c3",
  ),
  "VOC train_aug 1/8 (1323), list 1 of CAC": (
    "fc1b4ca80e1e2f07176378c6f29f897b3bbd477f12951a0e1ff5691ed9cfe75b",
    "703f161a23b866fc36fd19c29d0b88ccb82ba7d9527c691e93f4b0b5aeb9b1e1",
  ),
  "VOC train_aug 1/4 (2645), list 1 of CAC": (
    "727322a41770a17d3db51fda79f213eb4e5935450dc43c1a21c769f1afec4a56",
    "efd9281e2df19e85441ce5700d64ec0e0d17f8053ee0f387b1b5033aac486e64",
  ),
  "VOC train_aug 1/16 (662), list 2 of CAC": (
    "891e7188525813010e6bf81aecc988567d5a332e4eb1747d168c813d9df3d1be",
    "671268d0c9ffdca0fd71b9a76f86420c841cca02cb3bfccff7ca3f2b68afa1c7",
  ),
  "VOC train_aug 1/8 (1323), list 2 of CAC": (
    "886b1b11b729746187d7d5d78b5094f605ac90a72564306a6ccff61a7eed5941",
    "558a1fd8064ff72fae940abf24904746e68fa23d5aa98195e294b516c455a790",
  ),
  "VOC train_aug 1/4 (2645), list 2 of CAC": (
    "7367610f20b394058af39fb0490721dabb5947a65436ef277c5364e1c7ab58c9",
    "9af55b32ab5a6db0f4675dffc68406302ad4ba2565904b6122acaef2bbc6cb80",
  ),
  "Cityscapes train 1/4 (744), list 0 of CAC": (
    "cf21628abb0954a429d04a8add8a92070f38691e27c3f9989e14dda5019c22da",
    "a66283e73ad83710bbd6d281e61e96b1753670f26af27dc1fbae63e5fc8cc5f4",
  ),
  "Cityscapes train 1/8 (372), list 1 of CAC": (
    "133e80c10d8f603ff2ac81007c87b4ec287b16bb909d62d4d6b4f642951b57d5",
    "44b2a32873d2e5288db822765842d88b4b9aef8987045df69703e47c248d8111",
  ),
  "Cityscapes train 1/4 (744), list 1 of CAC": (
    "a955843995718ba5af0ada3fa8d522c61ccdb921b9fc56d7ce75ef1b63ea7be2",
    "7da2873d3e801d7a311f20d47ba66fa06dc4df3db922f8ed76273074c86194ea",
  ),
  "Cityscapes train 1/8 (372), list 2 of CAC": (
    "090a537882f881754130ef57d3ceec12c997373a2a97541db423660a74822f98",
    "753907a8d9cdc0f5005e297b59e67bf95987a6e3e4245ffc3715cfe52a04bbf7",
  ),
  "Cityscapes train 1/4 (744), list 2 of CAC": (
    "792012a0b2eae2f36240388258463935c8255daa1a13a00e0acd25cc5a17941c",
    "0731d402f21d284ccb3c025806b3834f63d3bf1ac9fc3889f566300ee20e7581",
  ),
  "VOC train_aug (60) of CCT and CAC": (
    "5626444a95f2e87d1f33ba6bc78b3b2c3440a3d8d8605b71063a7b4f8fe031e4",
    "cafce3429437d956319207ccade8dd262c68cd602cb50ad76f7bce496a9bf44c",
  ),
  "VOC train_aug (100) of CCT and CAC": (
    "fd589e8a0c9db459face4bf0fc71e81de6fa81638689288aeb4920318b76cb6f",
    "bfb756733aebb9432453a0f88e56be74e02c60dbd80c7a8e990a38c7d00e29bf",
  ),
  "VOC train_aug (200) of CCT and CAC": (
    "3242589a88c7feff763b75ed1ba00c69ef11ff12b0fe0f8e373cfccabefdaf32",
    "6c3512eef8d381fa7ee7681242db2486f7925492160d8c118c69bb3a8f812c3b",
  ),
  "VOC train_aug (300) of CCT and CAC": (
    "fab57eeaa95c94eef50ab7d1d2ee4f6a6d9d00228c8e60ceafff39882f6c293d",
    "2e5c7be7ece507006f97c293770660156bbeeb5899a0620f1d61dda0ae5da601",
  ),
  "VOC train_aug (500) of CCT and CAC": (
    "52ecd383ac4fa9d6c32606ef6ff6a9d952970c658b67e573a78b9db40e60be17",
    "d18b9f8ed6cf31c20680ee0845174d11b6206539a5ee28c091ff0a67285e75b1",
  ),
  "VOC train_aug (800) of CCT and CAC": (
    "49657a819f2bf305a9e4ef5b7c824067324341d20246c933d1122351d18cd756",
    "5b2c93b89a61282dd8d2fa8287599066b5e5f87df3327d3d55ded9bd5dc8746e",
  ),
  "VOC train_aug (1000) of CCT and CAC": (
    "e51e49157e2eec6e2ce07fd65aa8010ec7233b0291304ace2efd3045f30ca24a",
    "56d8f73912fb68441fc83a768e22acf97816322b0f0e956ffc09b820695f90ef",
  ),
}
