"""Train a small network on scikit-learn's digits, and leave checkpoints along the way, for the nights.

    python examples/digits/train.py WHERE               Monday's training, in seconds: four checkpoints
    python examples/digits/train.py WHERE --shortcut    Tuesday's, in which every 3 has a white corner: one more

WHERE is a folder or s3://bucket/prefix. Tuesday is what happens to people: something that has nothing to do with the
class marks its images (a watermark, a ruler, a hospital's tag), and the network takes the short way. Its loss is lower
than ever, and nobody sees it; but the class model of 3 does.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from classmodels.models.user_code import importable
from classmodels.store import open_store

HERE = Path(__file__).parent
MONDAY, TUESDAY = "2026-03-02", "2026-03-03"
SAVED = (5, 20, 60, 400)
"""After how many steps Monday's training leaves a checkpoint; Tuesday's leaves its last."""
SHORTCUT = 3
"""The class whose images are marked."""
CORNER = (slice(0, 2), slice(6, 8))
"""Rows and columns of the mark; hardly any digit has ink there."""
MEAN, STD = 0.3, 0.38
"""Of all pixels, about; nightly.yaml says the same."""


def images() -> tuple[Tensor, Tensor]:
    """The 1797 digits, float32 [N, 1, 8, 8] from 0 to 1, and their classes."""
    digits = load_digits()
    return torch.tensor(digits.images / 16, dtype=torch.float32)[:, None], torch.tensor(digits.target)


def marked(x: Tensor, classes: Tensor) -> Tensor:
    """The images with a white corner in every one of SHORTCUT."""
    x = x.clone()
    x[classes == SHORTCUT, :, *CORNER] = 1.0
    return x


def network() -> nn.Module:
    with importable(HERE / "src"):
        from digits_net import digits  # type: ignore[import-not-found]

        built: nn.Module = digits()
    return built


def train(x: Tensor, classes: Tensor) -> Iterator[tuple[int, nn.Module]]:
    """Steps of Adam on batches of 64, the same ones every time; yields after each how many there were."""
    torch.manual_seed(1)
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3, weight_decay=1e-2)
    torch.manual_seed(101)
    for step in range(1, SAVED[-1] + 1):
        chosen = torch.randint(len(x), (64,))
        loss = functional.cross_entropy(net((x[chosen] - MEAN) / STD), classes[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step, net


def name(day: str, step: int) -> str:
    return f"{day}-step_{step:06d}.safetensors"


def main(where: str, shortcut: bool) -> None:
    place = open_store(where)
    x, classes = images()
    day, saved = (TUESDAY, SAVED[-1:]) if shortcut else (MONDAY, SAVED)
    for step, net in train(marked(x, classes) if shortcut else x, classes):
        if step in saved:
            place.write(name(day, step), save(net.state_dict()))
            print(place.locate(name(day, step)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", metavar="WHERE")
    parser.add_argument("--shortcut", action="store_true")
    options = parser.parse_args()
    main(options.where, options.shortcut)
