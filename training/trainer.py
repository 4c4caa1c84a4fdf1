"""The training loop of one style: crops in, perceptual loss, checkpoints, previews, an exported style at the end.

Source: Johnson, Alahi, Fei-Fei (2016), section 3; the schedule and the tiles are ours (see CONTRIBUTING.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import math
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from pytorch_optimizer import SOAP
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from realtime.contract import StyleMetadata
from realtime.errors import ConfigError, NstError, StyleError
from realtime.styles import version
from training.cache import FeatureCache
from training.config import TrainConfig
from training.data import RandomCrops, beside, check_writable, list_content, load_style, readable, save_picture
from training.export import export_style, read_metadata
from training.losses import canvas_error, change_gain, ripple_error, temporal_error
from training.parallel import Processes
from training.perceptual_loss import PALETTE_WEIGHT, PerceptualLoss
from training.preview import Preview
from training.scales import shipped_means
from training.start import choose_start
from training.transform_net import STRIDE, TransformNet
from training.vgg import load_vgg19

CHECKPOINT_S = 120.0
CALIBRATION_CROPS = 48
EDGE = 32
"""Pixels at each side of a crop that the net paints and the perceptual loss does not see. The net knows where a picture
ends, and would paint a frame there, since other colours and lines please the style term."""
CANVAS_PX = 4096.0
"""How far a crop may lie from the origin of the canvas: so far that each sees another part of it."""
TRIAL_CROPS = 4
"""By which the shipped style that fits best is chosen, and flicker judged."""
PREVIEW_PHOTOS = 4
FIRST_CROP = 144
"""Side in pixels of the crops of the first half, whose steps take a third of the time. Larger ones then teach what is
dark and what is light in a whole picture."""
WARM_UP_STEPS = 50
HELD = 0.3
"""Part of the training before the learning rate falls."""
CONTENT_WEIGHT, CANVAS_WEIGHT, RIPPLE_WEIGHT = 1.0, 100.0, 20.0
"""Weights of the content error, and of what the colours of areas, and of what is finest, owe to the canvas."""
CONTENT_ERROR = 0.82
"""What a painting of strength 1 may lose of its photo: the content error that the style weight is steered to."""
FIRST_STYLE_WEIGHT = {"none": 1.0, "a style": 4.0}
"""By what the training starts from."""
STEERING = 0.01
"""How fast the style weight follows: the part by which a step changes it, for a content error that is off by all."""
NOT_BINDING = frozenset(
    {"batch", "cache_gb", "content", "output", "minutes", "steps", "start", "limit", "title", "artist"}
)
"""Settings that a resumed run may change; `start` is compared by name."""
FEW = 100
"""Photos below which a style is likely to fail on others."""
FLAT = 0.02
"""Mean difference of neighbouring pixels, in [0, 1], below which a style image has hardly any strokes."""
FLICKERS = 0.88
"""How many times as much as a photo its painting changes (see `change_gain`), above which a style is likely to flicker.
Of 18 nets those beyond have warping ratios of 2.3 to 3.2 on clips, the others of 1.2 to 2.5."""
TOO_MUCH_LOST = 1.15
"""Content error over what the strength allows, at the end, above which a style has failed."""
RECENT = 0.98
"""What the running means of the terms keep at each step."""
BAD_STEPS_LIMIT = 20
"""Steps in a row whose gradient is no number, and which are skipped, before the training is given up."""


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What a step tells the progress display."""

    step: int
    progress: float
    """Part of the training that is done, 0 to 1."""
    elapsed_s: float
    terms: dict[str, float]
    """Loss terms, unweighted: style, content, palette, temporal, canvas, ripple; and the style's weight."""


class Trainer:
    """One training, new or resumed. `run` trains, `export` writes the style."""

    def __init__(self, config: TrainConfig, resume: bool = False) -> None:
        """Read everything that can be wrong before anything of the training is written.

        Raises:
            ConfigError: A path, picture, folder or weights file cannot be used, or a checkpoint is in the way.
            StyleError: The style to start from cannot be used.
        """
        self.config = config
        config.check_files(resume)
        check_writable(config.output)
        self.processes = Processes()
        self.part = self.processes.part(config.batch)
        style = load_style(config.style_image, config.stroke_size)
        self.style_sha256 = hashlib.sha256(config.style_image.read_bytes()).hexdigest()
        with self.processes.leader_first():
            self.photos = list_content(config.content, config.limit, config.seed)
        shown = readable(self.photos, PREVIEW_PHOTOS, config.seed)
        self.preview = Preview(config.run_folder / "preview.png", style, shown)
        self.contrast = max(float(style.diff(dim=side).abs().mean()) for side in (2, 3))

        torch.manual_seed(config.seed)
        self.device = self.processes.device
        with self.processes.leader_first():
            self.vgg = load_vgg19(config.vgg_weights).to(self.device)
        saved = self._saved() if resume else None

        self.step, self.elapsed_s, self._bad_steps = 0, 0.0, 0
        self.skipped: set[Path] = set()
        """Photos that `run` met and could not read."""
        self.recent: dict[str, float] = {}
        means = saved["means"] if saved else shipped_means(self.vgg.sha256)
        means = means or self.vgg.mean_activations(self._calibration())
        self.means = {name: mean.to(self.device) for name, mean in means.items()}
        self.vgg.normalize(self.means)
        self.loss = PerceptualLoss(self.vgg, style.to(self.device))
        self.started_from, net = (str(saved["started_from"]), TransformNet()) if saved else self._start()
        self.style_weight = FIRST_STYLE_WEIGHT["none" if self.started_from == "none" else "a style"]
        self.net = net.to(self.device)
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.995))  # type: ignore[no-untyped-call]
        self.optimizer = SOAP(self.net.parameters(), lr=config.learning_rate, weight_decay=0.0)
        if saved:
            self.net.load_state_dict(saved["net"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.elapsed_s = saved["step"], saved["elapsed_s"]
            self.style_weight, self.recent = saved["style_weight"], saved["recent"]
        if self.processes.lead(self.step) != [self.step]:
            raise ConfigError(f"{config.output}: not seen by all processes. Give -o in a folder that they share.")
        self.shared_net = self.processes.share(self.net)
        with self.processes.leader_first():
            self.cache = FeatureCache(self._content_settings(), config.cache_gb, self.processes.count)
        check_writable(config.checkpoint)

    @property
    def progress(self) -> float:
        """Part of the training that is done, 0 to 1."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        assert self.config.minutes is not None
        return min(1.0, self.elapsed_s / (60 * self.config.minutes))

    @property
    def exported(self) -> bool:
        """Whether this training is at its end and its style is written."""
        try:
            return self.progress == 1 and read_metadata(self.config.output).training.get("steps") == self.step
        except StyleError:
            return False

    def run(self, report: Callable[[StepReport], None], stop: threading.Event) -> None:
        """Train to the end or until `stop` is set; save as it begins, every two minutes, and then.

        Raises:
            NstError: The loss is no longer a number, or the disk refuses a checkpoint.
            ConfigError: Photo after photo cannot be read.
        """
        if not self.step:
            self.save()  # which keeps other trainings from this output
        over = False
        while not over:
            crops = RandomCrops(self.photos, self._crop + 2 * EDGE, self.config.seed)
            try:
                over = self._run(crops, report, stop)
            except ConfigError as error:  # no photo can be read
                self.save()
                raise ConfigError(f"{error} What was learned is kept: --resume goes on.") from error
            except RuntimeError:  # in another process
                self.save()
                raise
            self.skipped |= self.processes.union(crops.skipped)
        self.save()

    def _run(self, crops: RandomCrops, report: Callable[[StepReport], None], stop: threading.Event) -> bool:
        """Train with crops of one side; return whether that was the end."""
        clock = saved_at = time.monotonic()
        for photos in crops.batches(self.config.batch, self.step, self.part):
            self.elapsed_s, over = self.processes.lead(self.elapsed_s, self.progress >= 1 or stop.is_set())
            if over or self._crop + 2 * EDGE != crops.side:
                break
            terms = self._train_step(photos.to(self.device))
            now = time.monotonic()
            self.elapsed_s, clock = self.elapsed_s + now - clock, now
            report(StepReport(self.step, self.progress, self.elapsed_s, terms))
            if now - saved_at > CHECKPOINT_S:
                self.save()
                clock = saved_at = time.monotonic()
        return bool(over)

    def export(self) -> float:
        """Write the style with the averaged weights; return its largest difference from the net. Raises NstError."""
        config = self.config
        metadata = StyleMetadata(
            name=config.output.stem,
            title=config.title or config.style_image.stem.encode(errors="replace").decode(),
            artist=config.artist,
            style_sha256=self.style_sha256,
            stride=STRIDE,
            training={
                "steps": self.step,
                "minutes": round(self.elapsed_s / 60, 1),
                "batch": config.batch,
                "crop": config.crop,
                "stroke_size": config.stroke_size,
                "strength": config.strength,
                "style_weight": round(self.style_weight, 2),
                "palette_weight": round(PALETTE_WEIGHT * self.style_weight, 2),
                "content_weight": CONTENT_WEIGHT,
                "temporal_weight": config.temporal_weight,
                "canvas_weight": CANVAS_WEIGHT,
                "ripple_weight": RIPPLE_WEIGHT,
                "photos": len(self.photos),
                "start": self.started_from,
                "loss_network": "VGG-19, average pooling, normalized by mean activation",
                "loss_network_sha256": self.vgg.sha256,
                "date": date.today().isoformat(),
                "version": importlib.metadata.version("nst"),
            },
        )
        net = self.average.module
        assert isinstance(net, TransformNet)
        return export_style(net, metadata, config.output)

    def warnings(self) -> list[str]:
        """Return what the user should know about the style, a line each."""
        config, found = self.config, []
        if len(self.photos) < FEW:
            found.append(f"{config.content}: {len(self.photos)} photos teach the net little of the world; add more.")
        if self.contrast < FLAT:
            found.append(f"{config.style_image}: nearly flat; a picture with more strokes gives a better style.")
        if self.progress == 1 and self.recent.get("content", 0.0) > TOO_MUCH_LOST * CONTENT_ERROR * config.strength:
            found.append("The photos are hard to make out: train longer, or with a lower --strength.")
        if self.progress == 1 and self._change_gain() > FLICKERS:
            found.append(
                "The style is likely to flicker: start from a calm one, --from scream, or take a lower --strength."
            )
        return found

    def save(self) -> None:
        """Write checkpoint and preview, beside and renamed, if this process leads. Raises NstError."""
        if not self.processes.leads:
            return
        state = {
            "step": self.step,
            "started_from": self.started_from,
            "elapsed_s": self.elapsed_s,
            "style_weight": self.style_weight,
            "recent": self.recent,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "means": self.means,
            "settings": self._settings(),
        }
        with beside(self.config.checkpoint, "Free the place and use --resume.") as part:
            torch.save(state, part)
        save_picture(self.preview.draw(self.average.module), self.preview.path)

    def _train_step(self, photos: Tensor) -> dict[str, float]:
        config = self.config
        first = self.step * config.batch + self.part.start
        rngs = [torch.Generator().manual_seed(config.seed + first + i) for i in range(len(photos))]
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        content = self.cache(first, _inner(photos), self.loss.content)
        at, elsewhere = (
            CANVAS_PX * torch.stack([torch.rand(2, generator=rng) for rng in rngs]).to(self.device) for _ in range(2)
        )
        stylized = self.shared_net(photos, at)
        with torch.no_grad():  # of two paintings, one can be moved towards the other
            moved = self.shared_net(_inner(photos), elsewhere)
        terms = self.loss.terms(_inner(stylized), content) | {
            "temporal": temporal_error(self.shared_net, photos, at, stylized, rngs),
            "canvas": canvas_error(_inner(stylized), moved),
            "ripple": ripple_error(_inner(stylized), moved),
        }
        style = self.style_weight
        weights = (
            *(style, CONTENT_WEIGHT, PALETTE_WEIGHT * style),
            *(config.temporal_weight, CANVAS_WEIGHT, RIPPLE_WEIGHT),
        )
        loss = torch.stack([weight * term for weight, term in zip(weights, terms.values(), strict=True)]).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        means = self.processes.mean(torch.stack([term.detach() for term in terms.values()])).tolist()
        self.step += 1
        reported = dict(zip(terms, means, strict=True))
        if torch.isfinite(norm):
            self._bad_steps = 0
            self.optimizer.step()
            self.average.update_parameters(self.net)
            self._steer(reported["content"])
            self.recent = {n: RECENT * self.recent.get(n, v) + (1 - RECENT) * v for n, v in reported.items()}
        else:
            self._bad_steps += 1
        if self._bad_steps > BAD_STEPS_LIMIT:
            raise NstError(
                f"The loss is no number since step {self.step - BAD_STEPS_LIMIT}. Remove "
                f"{self.config.checkpoint} and train anew with a lower --strength."
            )
        return reported | {"weight": weights[0]}

    def _learning_rate(self) -> float:
        """Warm up, hold, then a cosine to zero."""
        warm_up = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        cosine = 0.5 + 0.5 * math.cos(math.pi * max(0.0, (self.progress - HELD) / (1 - HELD)))
        return self.config.learning_rate * warm_up * cosine

    def _steer(self, content: float) -> None:
        """Change the style weight so that the content error comes to what the strength allows.

        One weight for all styles leaves some of them a photo and others no face. Content comes first: a net that starts
        with full style forgets the picture and never finds it.
        """
        allowed = CONTENT_ERROR * self.config.strength
        self.style_weight *= math.exp(STEERING * max(-1.0, min(1.0, 1 - content / allowed)))

    @property
    def _crop(self) -> int:
        return min(FIRST_CROP, self.config.crop) if self.progress < 0.5 else self.config.crop

    @property
    def _side(self) -> int:
        """Of the crops at the end, by which nets are judged."""
        return self.config.crop + 2 * EDGE

    def _start(self) -> tuple[str, TransformNet]:
        """Return the name of the style to begin with, or `none`, and its net. Raises StyleError."""
        crops = RandomCrops(self.photos, self._side, self.config.seed)

        @torch.no_grad()
        def off(net: TransformNet) -> float:
            photos = torch.stack([crops[i] for i in range(TRIAL_CROPS)]).to(self.device)
            return self.loss.off_style(_inner(net.to(self.device)(photos)))

        return choose_start(self.config.start, off)

    def _change_gain(self) -> float:
        crops = RandomCrops(self.photos, self._side, self.config.seed)
        photos = torch.stack([crops[i] for i in range(TRIAL_CROPS)]).to(self.device)
        return change_gain(self.average.module.to(self.device), photos, torch.Generator().manual_seed(self.config.seed))

    def _content_settings(self) -> dict[str, Any]:
        """Return what the content features of the crops depend on; the first of them stands for how they are cut."""
        photos = [(f"{path.parent.name}/{path.name}", *(version(path) or (path, 0, 0))[1:]) for path in self.photos]
        means = [mean.double().sum().item() for mean in self.means.values()]
        first = RandomCrops(self.photos, self._side, self.config.seed)[0]
        return {
            "photos": photos,
            "crop": hashlib.sha256(first.numpy().tobytes()).hexdigest(),
            "seed": self.config.seed,
            "vgg": self.vgg.sha256,
            "means": means,
            "bfloat16": self.loss.half,
        }

    def _calibration(self) -> list[Tensor]:
        crops = RandomCrops(self.photos, 224, self.config.seed)
        return [crops[i][None].to(self.device) for i in range(CALIBRATION_CROPS)]

    def _settings(self) -> dict[str, Any]:
        values = dataclasses.asdict(self.config)
        binding = {key: value for key, value in values.items() if key not in NOT_BINDING}
        return binding | {
            "style_image": self.style_sha256,
            "vgg_weights": self.vgg.sha256,
            "from": Path(self.config.start).stem,
        }

    def _saved(self) -> dict[str, Any]:
        checkpoint = self.config.checkpoint
        try:
            saved: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
            settings, _ = saved["settings"], saved["started_from"]
            design = {name: weights.shape for name, weights in saved["net"].items()}
        except Exception as error:  # a damaged file makes torch.load raise nearly anything
            raise ConfigError(f"{checkpoint}: damaged, cannot be resumed. Remove it and train anew.") from error
        ours = self._settings()
        options = {"style_image": "picture"}
        changed = [options.get(key, f"--{key.replace('_', '-')}") for key in ours if ours[key] != settings.get(key)]
        if changed:
            raise ConfigError(f"{checkpoint}: was made with another {', '.join(changed)}; resume with the same.")
        if design != {name: weights.shape for name, weights in TransformNet().state_dict().items()}:
            raise ConfigError(f"{checkpoint}: of an earlier nst-train, whose net was another. Remove it, train anew.")
        return saved


def _inner(pictures: Tensor) -> Tensor:
    return pictures[:, :, EDGE:-EDGE, EDGE:-EDGE]
