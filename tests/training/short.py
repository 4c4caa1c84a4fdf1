"""Trainings of seconds: small crops, few steps, random VGG weights."""

from pathlib import Path

import torch

from training.config import TrainConfig
from training.trainer import Trainer


def config(style_picture: Path, photos: Path, random_vgg: Path, output: Path, **options: object) -> TrainConfig:
    small = {"steps": 14, "crop": 64, "batch": 2, "stroke_size": 0.25, "start": "none"}
    return TrainConfig(style_picture, photos, output, vgg_weights=random_vgg, **(small | options))  # type: ignore[arg-type]


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.average.module.parameters()])


QUICK = "import training.trainer; training.trainer.CALIBRATION_CROPS = 2"


SMALL = ("--crop", "64", "--stroke-size", "0.25")


NST_TRAIN = f"{QUICK}\nfrom training.command import nst_train; nst_train()"
