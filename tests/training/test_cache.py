"""Content features kept for other styles: computed once, of the same value, within the limit."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch
from torch import Tensor

from training.cache import GB, HEADER, SPARED, FeatureCache
from training.command import nst_train
from training.config import TrainConfig
from training.trainer import Trainer

SHAPE = (4, 3, 3)
EACH_GB = (HEADER + 2 * 4 * 3 * 3) / GB


class Network:
    """Counts the crops that it sees. Gives channels last, like VGG."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, crops: Tensor) -> Tensor:
        self.seen += len(crops)
        features = crops.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1).expand(-1, *SHAPE) + torch.arange(3)
        return features.contiguous(memory_format=torch.channels_last)


def test_what_was_computed_is_not_computed_again(cache_folder: Path):
    crops, network = torch.rand(2, 3, 8, 8), Network()
    first = FeatureCache({"seed": 1}, 100 * EACH_GB)(6, crops, network)
    again = FeatureCache({"seed": 1}, 100 * EACH_GB)(6, crops, network)
    assert network.seen == 2 and torch.equal(first, again) and first.stride() == again.stride()
    torch.testing.assert_close(first, network(crops), rtol=1e-3, atol=1e-3)
    FeatureCache({"seed": 1}, 100 * EACH_GB)(7, crops, network)  # only one of them is known
    assert network.seen == 6


def test_other_crops_have_other_features_and_only_the_last_set_is_kept(cache_folder: Path):
    crops, network = torch.rand(2, 3, 8, 8), Network()
    for seed in (1, 2, 1):
        FeatureCache({"seed": seed}, 100 * EACH_GB)(0, crops, network)
    assert network.seen == 6 and len(list(cache_folder.iterdir())) == 1


@pytest.mark.parametrize("most", [0, 3])
def test_crops_past_the_limit_are_computed_each_time(cache_folder: Path, most: int):
    crops, network = torch.rand(2, 3, 8, 8), Network()
    for first in (0, 2, 0, 2):
        FeatureCache({}, most * EACH_GB)(first, crops, network)
    assert network.seen == (8 if most == 0 else 6)
    files = list(cache_folder.rglob("*.npy"))
    assert len(files) == most and sum(file.stat().st_size for file in files) == round(most * EACH_GB * GB)
    FeatureCache({}, 2 * EACH_GB)
    assert len(list(cache_folder.rglob("*.npy"))) == 0


def test_several_processes_keep_to_the_limit_together(cache_folder: Path):
    caches = [FeatureCache({}, 4 * EACH_GB, 2) for _ in range(2)]
    for number, cache in enumerate(caches):
        cache(10 * number, torch.rand(3, 3, 8, 8), Network())
    assert len(list(cache_folder.rglob("*.npy"))) == 4


def test_crops_of_another_side_and_files_cut_short_are_computed(cache_folder: Path):
    cache, network = FeatureCache({}, 100 * EACH_GB), Network()
    small, large = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16)
    assert not torch.equal(cache(0, small, network), cache(0, large, network)) and network.seen == 2
    for file in cache_folder.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if file.name.startswith("8") else 0])
    cache(0, small, network)
    assert torch.equal(cache(0, large, network), cache(0, large, network)) and network.seen == 4


def test_a_training_goes_on_when_another_has_removed_what_it_keeps(cache_folder: Path):
    crops, network = torch.rand(2, 3, 8, 8), Network()
    first = FeatureCache({"seed": 1}, 100 * EACH_GB)
    FeatureCache({"seed": 2}, 100 * EACH_GB)
    assert torch.equal(first(0, crops, network), first(0, crops, network)) and network.seen == 4


def test_a_disk_that_gets_full_is_left_as_it_is(cache_folder: Path, monkeypatch: pytest.MonkeyPatch):
    cache, crops, network = FeatureCache({}, 100 * EACH_GB), torch.rand(2, 3, 8, 8), Network()
    full = shutil.disk_usage(cache_folder)._replace(free=SPARED)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    assert torch.equal(cache(0, crops, network), cache(0, crops, network))
    assert network.seen == 4 and not list(cache_folder.rglob("*.npy"))


def test_clearing_removes_everything(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    FeatureCache({}, 1)(0, torch.rand(1, 3, 8, 8), lambda _: torch.rand(1, 64, 200, 200))
    for words in ("Removed 5 MB.", "Removed 0 MB."):
        monkeypatch.setattr("sys.argv", ["nst-train", "--clear-cache"])
        with pytest.raises(SystemExit) as ended:
            nst_train()
        assert not ended.value.code and words in capsys.readouterr().out
        assert not cache_folder.exists()


def test_a_second_style_sees_the_same_content_in_kept_features(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def train(name: str, cache_gb: float = 1.0) -> tuple[list[float], int]:
        config = TrainConfig(
            style_picture, photos, tmp_path / name, steps=2, crop=64, stroke_size=0.25, vgg_weights=random_vgg,
            cache_gb=cache_gb, start="none",
        )  # fmt: skip
        trainer = Trainer(config)
        monkeypatch.setattr("training.trainer.shipped_means", lambda _: trainer.means)  # as those of known weights
        computed, compute = [0], trainer.loss.content

        def counting(pictures: Tensor) -> Tensor:
            computed[0] += 1
            return compute(pictures)

        monkeypatch.setattr(trainer.loss, "content", counting)
        reports = []
        trainer.run(reports.append, Event())
        return [report.terms["content"] for report in reports], computed[0]

    (first, computed), (second, again), (without, _) = train("a.onnx"), train("b.onnx"), train("c.onnx", 0)
    assert (computed, again) == (2, 0)
    assert second == pytest.approx(first, rel=5e-3) and without == pytest.approx(first, rel=5e-3)
    monkeypatch.setattr("training.data.NEAREST", 1.2)
    assert train("other-crops.onnx")[1] == 2
    os.utime(photos / "roll0" / "0.jpg", (1e9, 1e9))
    assert train("edited-photo.onnx")[1] == 2


def test_trainings_that_start_at_once_remove_the_old_features_together(cache_folder: Path):
    for attempt in range(5):
        old = cache_folder / "content-features" / f"old{attempt}"
        old.mkdir(parents=True)
        for k in range(100):
            (old / str(k)).touch()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: FeatureCache({"seed": 1}, 100 * EACH_GB), range(8)))
        assert not old.exists()
