"""nst-still: the optimizer by its objective, and the command as a user runs it."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from PIL import Image

from realtime.errors import ConfigError
from tests.conftest import Run, assert_one_line
from tests.training import plain_gatys
from training.command import nst_still
from training.config import StillConfig
from training.data import load_picture
from training.gatys import (
    Objective,
    StillReport,
    Style,
    Weights,
    _masks,
    keep_luminance,
    match_colours,
    natural_changes,
    optimize,
    paint_still,
)
from training.scales import SHIPPED, shipped_means
from training.sheet import CELL, GAP, _in_one_pass, draw_sheet, pairs
from training.vgg import VGG19, load_vgg19

RNG = torch.Generator().manual_seed(8)
CONTENT = 0.3 + 0.4 * torch.rand(1, 3, 40, 48, generator=RNG)
STYLE = (0.3 + 0.4 * torch.rand(1, 3, 56, 48, generator=RNG)) * torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1)


@pytest.fixture(autouse=True)
def same_pictures() -> None:
    """The same for a test whichever ran before it, and others than `CONTENT` and `STYLE`."""
    RNG.manual_seed(9)


@pytest.fixture(scope="module")
def vgg(random_vgg: Path) -> VGG19:
    vgg = load_vgg19(random_vgg)
    vgg.normalize(vgg.mean_activations([CONTENT, STYLE]))
    return vgg


def paint(
    vgg: VGG19, iterations: int = 25, optimizer: str = "lbfgs", start: torch.Tensor = CONTENT
) -> list[StillReport]:
    return list(optimize(vgg, CONTENT, [Style(STYLE)], start, Weights(), iterations, optimizer))


def test_the_loss_never_rises_and_is_that_of_the_picture(vgg: VGG19):
    reports = paint(vgg)
    losses = [report.loss for report in reports]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
    assert [report.iteration for report in reports] == list(range(1, 26))
    objective = Objective(vgg, CONTENT, [Style(STYLE)], Weights())
    assert float(objective(reports[-1].picture)[0]) <= 1.1 * losses[-1]  # the picture is clamped to [0, 1]


def test_little_is_lost_when_the_picture_is_saved(vgg: VGG19):
    """A style in black and white tempts beyond both."""
    styles = [Style((STYLE > 0.5).float())]

    def lost(weights: Weights) -> float:
        *_, last = optimize(vgg, CONTENT, styles, CONTENT, weights, 25)
        return float(Objective(vgg, CONTENT, styles, weights)(last.picture)[0]) / last.loss - 1

    assert lost(Weights()) < 0.02
    assert lost(Weights(overflow=0.0)) > 0.05  # else this shows nothing


def test_on_pixels_lbfgs_is_a_plain_one(vgg: VGG19):
    """In float64: in float32 rounding parts the two."""
    vgg, content, styles = copy.deepcopy(vgg).double(), CONTENT.double(), [Style(STYLE.double())]
    objective = Objective(vgg, content, styles, Weights())
    plain = content.clone().requires_grad_()
    steps = torch.optim.LBFGS([plain], max_iter=25, max_eval=1000, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        steps.zero_grad()
        loss, _ = objective(plain)
        loss.backward()
        plain.grad = plain.grad.contiguous()
        return loss

    steps.step(closure)
    *_, last = optimize(vgg, content, styles, content, Weights(), 25, of_pixels=True)
    assert last.loss == pytest.approx(float(objective(plain)[0].detach()), rel=1e-4)


def test_natural_changes_are_smoother_than_noise_and_greyer():
    change = natural_changes(torch.zeros(1, 3, 60, 81))
    noise = torch.randn(1, 3, 60, 81, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(change(2 * noise) - change(noise), change(noise))
    assert change(noise).shape == noise.shape

    def roughness(picture: torch.Tensor) -> float:
        return float(picture.diff(dim=3).square().mean() / picture.var())

    def greyness(picture: torch.Tensor) -> float:
        return float(picture.mean(dim=1).var() / picture.var())

    assert roughness(change(noise)) < 0.8 * roughness(noise)
    assert greyness(change(noise)) > 1.5 * greyness(noise)


def test_natural_changes_lower_the_loss_further_in_as_many_iterations(assets: Path):
    vgg = load_vgg19(assets / "vgg19" / "vgg19-features.safetensors")
    vgg.normalize(shipped_means(vgg.sha256))
    content = load_picture(assets / "eval" / "grocery_00082.jpg", 80)
    style = [Style(load_picture(assets / "paintings" / "the_scream.jpg", 80))]
    natural, pixels = (
        list(optimize(vgg, content, style, content, Weights(), 40, of_pixels=of_pixels)) for of_pixels in (False, True)
    )
    assert natural[-1].loss < 0.96 * pixels[-1].loss


def test_the_objective_is_that_of_a_plain_reference_and_so_is_its_gradient(assets: Path):
    """Both with the real weights, which the plain one scales itself, in torchvision's VGG-19."""
    weights = assets / "vgg19" / "vgg19-features.safetensors"
    content = load_picture(assets / "eval" / "grocery_00082.jpg", 96)
    style = load_picture(assets / "paintings" / "the_scream.jpg", 96)
    vgg = load_vgg19(weights)
    vgg.normalize(shipped_means(vgg.sha256))
    plain = plain_gatys.objective(plain_gatys.features(weights, SHIPPED), content, style)
    noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(2))
    ours, theirs = ((content + noise - 0.5).requires_grad_() for _ in range(2))  # beyond 0 and 1 too
    loss, _ = Objective(vgg, content, [Style(style)], Weights())(ours)
    expected = plain(theirs)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    loss.backward()
    expected.backward()
    assert (ours.grad - theirs.grad).norm() < 1e-2 * theirs.grad.norm()


def test_adam_and_noise_lower_the_loss_too(vgg: VGG19):
    for reports in (paint(vgg, optimizer="adam"), paint(vgg, start=torch.rand(1, 3, 40, 48, generator=RNG))):
        assert reports[-1].loss < 0.9 * reports[0].loss


def test_coarse_to_fine_ends_in_the_content_size(vgg: VGG19, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.gatys.COARSEST", 64)
    content = torch.rand(1, 3, 80, 130, generator=RNG)
    reports = list(optimize(vgg, content, [Style(STYLE)], content, Weights(), 8, "lbfgs"))
    assert [tuple(report.picture.shape[2:]) for report in reports] == [(32, 32)] * 8 + [(40, 65)] * 4 + [(80, 130)] * 2
    assert {report.iterations for report in reports} == {14}


def test_several_styles_are_mixed_by_their_shares(vgg: VGG19):
    other = 1 - STYLE
    both = Objective(vgg, CONTENT, [Style(STYLE, 3.0), Style(other, 1.0)], Weights())
    alone = [Objective(vgg, CONTENT, [Style(style)], Weights()) for style in (STYLE, other)]
    for name, gram in both._targets[0].grams.items():
        torch.testing.assert_close(
            gram, 0.75 * alone[0]._targets[0].grams[name] + 0.25 * alone[1]._targets[0].grams[name]
        )


def half(height: int, width: int, left: bool) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2 if left else width] = 1
    if not left:
        mask[..., : width // 2] = 0
    return mask


def test_a_region_is_asked_for_its_own_style_and_not_for_the_other(vgg: VGG19):
    """A picture that has each style in its half is at the target; the same styles in the wrong halves are far off."""
    red, blue = (
        torch.rand(1, 3, 64, 128, generator=RNG) * torch.tensor(c).view(1, 3, 1, 1)
        for c in ((1, 0.3, 0.2), (0.2, 0.3, 1))
    )
    left, right = half(64, 128, True), half(64, 128, False)
    styles = [Style(red, region=left), Style(blue, region=right)]
    objective = Objective(vgg, red, styles, Weights())
    right_way, wrong_way = red * left + blue * right, blue * left + red * right
    assert float(objective(right_way)[1]["style"]) < 0.1 * float(objective(wrong_way)[1]["style"])


def test_a_style_mask_takes_the_style_from_its_part_alone(vgg: VGG19):
    red, blue = (
        torch.rand(1, 3, 64, 128, generator=RNG) * torch.tensor(c).view(1, 3, 1, 1)
        for c in ((1, 0.3, 0.2), (0.2, 0.3, 1))
    )
    both = red * half(64, 128, True) + blue * half(64, 128, False)
    objective = Objective(vgg, red, [Style(both, part=half(64, 128, True))], Weights())
    assert float(objective(red)[1]["style"]) < 0.1 * float(objective(blue)[1]["style"])


def test_a_mask_on_nothing_is_white_where_it_is_painted(tmp_path: Path):
    picture = Image.new("RGBA", (48, 40))
    picture.paste("white", (0, 0, 24, 40))
    picture.save(tmp_path / "mask.png")
    Image.new("RGB", (48, 40)).save(tmp_path / "content.png")
    [mask] = _masks([tmp_path / "mask.png"], [tmp_path / "content.png"], [torch.zeros(1, 3, 40, 48)])
    assert mask is not None and mask[..., :22].min() > 0.9 and mask[..., 26:].max() < 0.1


def test_with_max_pooling_too_the_mean_activation_is_one(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The shipped scales are those of average pooling."""
    scaled: dict[str, float] = {}
    normalize = VGG19.normalize

    def look(vgg: VGG19, means: dict[str, torch.Tensor]) -> None:
        normalize(vgg, means)
        with torch.no_grad():
            scaled["relu4_1"] = float(vgg(load_picture(photo, 96), ["relu4_1"])["relu4_1"].mean())

    monkeypatch.setattr(VGG19, "normalize", look)
    photo = assets / "eval" / "grocery_00082.jpg"
    weights_file = assets / "vgg19" / "vgg19-features.safetensors"
    still = StillConfig(
        photo, (photo,), tmp_path / "x.png", size=96, iterations=1, pooling="max", vgg_weights=weights_file
    )
    paint_still(still, lambda _: None, Event())
    assert scaled["relu4_1"] == pytest.approx(1, abs=0.3)


def test_an_all_white_mask_changes_nothing(vgg: VGG19):
    white = [Style(STYLE, part=torch.ones(1, 1, 56, 48), region=torch.ones(1, 1, 40, 48))]
    losses = [float(Objective(vgg, CONTENT, styles, Weights())(CONTENT)[0]) for styles in (white, [Style(STYLE)])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_objective_is_computed_where_the_pictures_are(random_vgg: Path):
    """On the meta device, which stands for a graphics card here: it, too, refuses tensors of the processor."""
    vgg = load_vgg19(random_vgg).to("meta")
    content, style, mask = (torch.empty(1, channels, 40, 48, device="meta") for channels in (3, 3, 1))
    changes = torch.empty_like(content).requires_grad_()
    objective = Objective(vgg, content, [Style(style), Style(style, 2.0, mask)], Weights())
    objective(content + natural_changes(content)(changes))[0].backward()  # type: ignore[no-untyped-call]
    assert changes.grad is not None and changes.grad.device.type == "meta"


def test_matched_colours_have_the_mean_and_covariance_of_the_content():
    content = 0.3 + 0.2 * torch.rand(1, 3, 50, 50, generator=RNG)
    matched = match_colours(STYLE, content)
    for ours, theirs in ((p[0].flatten(1) for p in (matched, content)),):
        torch.testing.assert_close(ours.mean(dim=1), theirs.mean(dim=1), rtol=0, atol=0.01)
        torch.testing.assert_close(torch.cov(ours), torch.cov(theirs), rtol=0.1, atol=2e-4)


def test_kept_luminance_is_the_painting_and_colour_the_content():
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    content = 0.4 + 0.2 * torch.rand(1, 3, 8, 8, generator=RNG)
    painted = 0.4 + 0.2 * torch.rand(1, 3, 8, 8, generator=RNG)
    kept = keep_luminance(painted, content)
    torch.testing.assert_close((kept * luma).sum(1), (painted * luma).sum(1))
    torch.testing.assert_close(kept - kept.mean(dim=1, keepdim=True), content - content.mean(dim=1, keepdim=True))


def config(photos: Path, style_picture: Path, random_vgg: Path, output: Path, **options: object) -> StillConfig:
    small = {"size": 64, "iterations": 3, "vgg_weights": random_vgg}
    content = next(photos.rglob("*.jpg"))
    return StillConfig(content, (style_picture,), output, **(small | options))  # type: ignore[arg-type]


def test_the_same_seed_paints_the_same_picture(photos: Path, style_picture: Path, random_vgg: Path, tmp_path: Path):
    outputs = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    for output, seed in zip(outputs, (1, 1, 2), strict=True):
        paint_still(
            config(photos, style_picture, random_vgg, output, start="noise", seed=seed), lambda _: None, Event()
        )
    first, same, other = (load_picture(path) for path in outputs)
    assert (same - first).abs().max() < 0.01 and (other - first).abs().mean() > 0.05


def test_stopping_keeps_the_best_picture_so_far(photos: Path, style_picture: Path, random_vgg: Path, tmp_path: Path):
    stop = Event()
    last = paint_still(
        config(photos, style_picture, random_vgg, tmp_path / "x.png", iterations=10_000), lambda _: stop.set(), stop
    )
    assert last.iteration == 1
    assert load_picture(tmp_path / "x.png").shape[3] == 64


def test_a_sheet_shows_content_style_and_result(photos: Path, style_picture: Path, random_vgg: Path, tmp_path: Path):
    still = config(photos, style_picture, random_vgg, tmp_path / "x.png", iterations=1)
    paint_still(still, lambda _: None, Event())
    sheet = load_picture(draw_sheet(still))
    for column, path in enumerate((still.content, style_picture, still.output)):
        left = GAP + column * (CELL + GAP)
        cell = sheet[:, :, GAP : GAP + CELL, left : left + CELL]
        shown = load_picture(path, still.size).mean(dim=(2, 3))
        height, width = load_picture(path).shape[2:]
        part = min(height, width) / max(height, width)  # the rest of the cell is white
        torch.testing.assert_close(cell.mean(dim=(2, 3)), shown * part + (1 - part), rtol=0, atol=0.02)


def test_a_folder_is_painted_in_every_style(
    photos: Path, style_picture: Path, random_vgg: Path, tmp_path: Path, run: Run
):
    other = tmp_path / "other.png"
    Image.effect_noise((80, 80), 80).convert("RGB").save(other)
    folder = tmp_path / "contents"
    folder.mkdir()
    for photo, name in zip(sorted(photos.rglob("*.jpg")), ("plain.jpg", "[bold]a[red].jpg"), strict=False):
        shutil.copy(photo, folder / name)
    done = run(
        "nst-still", folder, style_picture, other, "-o", "grid.png", "--size", 64, "--iterations", 1,
        "--vgg-weights", random_vgg,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    contents = sorted(folder.iterdir())
    assert f"[bold]a[red]-{style_picture.stem}.png: loss" in done.stdout
    made = {path.name for path in (tmp_path / "grid").iterdir()}
    assert made == {f"{c.stem}-{s.stem}.png" for c in contents for s in (style_picture, other)}
    height, width = load_picture(tmp_path / "grid.png").shape[2:]
    assert width == GAP + (len(contents) + 1) * (CELL + GAP) and height > 3 * CELL


def test_a_folder_whose_results_would_replace_something_is_refused_before_painting(
    photos: Path, style_picture: Path, tmp_path: Path
):
    folder = tmp_path / "contents"
    (folder / "more").mkdir(parents=True)
    photo = shutil.copy(next(photos.rglob("*.jpg")), folder / "a.jpg")
    still = StillConfig(folder, (style_picture,), tmp_path / "grid.png", sheet=True)
    result = tmp_path / "grid" / f"a-{style_picture.stem}.png"
    assert [each.output for each in pairs(still)] == [result]
    result.parent.mkdir()
    for taken in (still.output, result, result.with_name(f"{result.stem}-sheet.png")):
        taken.touch()
        with pytest.raises(ConfigError, match=f"{taken.name}: exists"):
            pairs(still)
        taken.unlink()
    with pytest.raises(ConfigError, match=r"contents\.png: its pictures would lie among the photos"):
        pairs(replace(still, output=tmp_path / "contents.png"))
    Image.new("RGB", (400, 8)).save(folder / "strip.png")
    with pytest.raises(ConfigError, match=r"strip\.png: 400x8 pixels are too few"):
        pairs(still)
    (folder / "strip.png").unlink()
    shutil.copy(photo, folder / "more")
    with pytest.raises(ConfigError, match=r"a\.jpg and .*more/a\.jpg: would both be written to"):
        pairs(still)


def test_a_shipped_style_joins_the_sheet_of_its_painting(assets: Path):
    name, painted = _in_one_pass(assets / "eval" / "grocery_00082.jpg", assets / "paintings" / "great_wave.jpg", 96)
    assert name == "wave.onnx, one pass" and painted is not None and max(painted.shape) == 96


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jpg", "{style}", "-o", "x.png"], ["nowhere.jpg", "does not exist"]),
        (["{content}", "text.png", "-o", "x.png"], ["text.png", "not a picture"]),
        (["{content}", "{style}", "-o", "tiny.png"], ["tiny.png: exists"]),
        (["{content}", "{style}", "-o", "x.png", "--sheet"], ["x-sheet.png: exists"]),
        (["{content}", "tiny.png", "-o", "x.png"], ["tiny.png", "8x8"]),
        (["{content}", "{style}", "-o", "x.jpg"], ["x.jpg", ".png"]),
        (["{content}", "{style}", "-o", "/proc/x/x.png"], ["/proc/x/x.png", "cannot be written"]),
        (["{content}", "{style}", "-o", "x.png", "--from", "nowhere.png"], ["nowhere.png"]),
        (["{content}", "{style}", "-o", "x.png", "--size", "9"], ["--size 9"]),
        (["{content}", "{style}", "-o", "x.png", "--optimizer", "sgd"], ["--optimizer sgd", "lbfgs, adam"]),
        (["{content}", "{style}", "-o", "x.png", "--pooling", "min"], ["--pooling min"]),
        (["{content}", "{style}", "-o", "x.png", "--keep-colors", "all"], ["--keep-colors all"]),
        (["{content}", "{style}", "-o", "x.png", "--share", "1", "--share", "2"], ["--share: given 2 times for 1"]),
        (["{content}", "{style}", "-o", "x.png", "--photos", "nowhere"], ["nowhere", "does not exist"]),
        (
            ["{content}", "{style}", "-o", "x.png", "--mask", "tiny.png", "--mask", "tiny.png"],
            ["--mask: given 2 times for 1"],
        ),
        (["{content}", "{style}", "-o", "x.png", "--mask", "tiny.png"], ["tiny.png: 8x8", "240x180"]),
        (["{content}", "{style}", "-o", "x.png", "--style-mask", "tiny.png"], ["tiny.png: 8x8", "128x128"]),
        (["{content}", "{style}", "-o", "x.png", "--style-mask", "black.png"], ["black.png: black all over"]),
        (["{content}", "{style}", "-o", "x.png", "--style-mask", "text.png"], ["text.png", "not a picture"]),
        (["huge.png", "{style}", "-o", "x.png"], ["huge.png: 20000x20000 pixels are too many"]),
        (["mixed", "{style}", "-o", "x.png"], ["text.png", "not a picture"]),
        (["mixed", "{style}", "-o", "x.png", "--share", "1"], ["mixed: a folder", "--share"]),
        (["{content}", "{style}", "-o", "x.png", "--vgg-weights", "text.png"], ["text.png"]),
        (["{content}", "{style}", "-o", "x.png", "--iteration", "1"], ["--iteration", "--iterations", "--help"]),
        (["{content}", "{style}"], ["--output", "--help"]),
    ],
)
def test_bad_input(
    photos: Path,
    style_picture: Path,
    random_vgg: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("text")
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    Image.new("L", (128, 128)).save(tmp_path / "black.png")
    (tmp_path / "x-sheet.png").touch()
    if "huge.png" in arguments:
        Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "text.png").write_text("text")
    given = {"{content}": str(next(photos.rglob("*.jpg"))), "{style}": str(style_picture)}
    weights = [] if "--vgg-weights" in arguments else ["--vgg-weights", str(random_vgg)]
    monkeypatch.setattr(sys, "argv", ["nst-still", *(given.get(a, a) for a in arguments), *weights])
    with pytest.raises(SystemExit) as ended:
        nst_still()
    printed = capsys.readouterr()
    assert_one_line(subprocess.CompletedProcess([], int(ended.value.code or 0), printed.out, printed.err), 2, *words)
    assert not (tmp_path / "x.png").exists()


def test_out_of_range_settings_are_refused():
    for wrong in ({"iterations": 0}, {"style_scale": 9.0}, {"style_weight": 0.0}, {"preview_every": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong)).replace("_", "-")):
            StillConfig(Path("a"), (Path("b"),), Path("c.png"), **wrong)  # type: ignore[arg-type]
