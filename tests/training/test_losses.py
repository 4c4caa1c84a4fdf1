import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from training.losses import (
    canvas_error,
    content_error,
    gram_matrix,
    overflow,
    palette,
    palette_error,
    ripple_error,
    style_error,
    temporal_error,
    total_variation,
)
from training.transform_net import TransformNet
from training.vgg import STYLE_LAYERS

RNG = torch.Generator().manual_seed(4)


@pytest.fixture(autouse=True)
def same_pictures() -> None:
    """The same for a test whichever ran before it."""
    RNG.manual_seed(4)


def features(*shape: int) -> Tensor:
    return torch.rand(shape, generator=RNG, dtype=torch.float64, requires_grad=True)


def plain(channels: int) -> dict[str, Tensor]:
    return {name: torch.ones(channels, dtype=torch.float64) for name in STYLE_LAYERS}


def test_gram_matrix_by_hand():
    f = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])  # two channels, one row of two pixels
    torch.testing.assert_close(gram_matrix(f), torch.tensor([[[2.5, 1.5], [1.5, 4.5]]]))


def test_gram_matrix_does_not_depend_on_where_or_on_how_many():
    f = features(1, 3, 4, 4)
    torch.testing.assert_close(gram_matrix(f.flip(2)), gram_matrix(f))
    torch.testing.assert_close(gram_matrix(torch.cat([f, f], dim=3)), gram_matrix(f))


def test_terms_are_zero_at_their_target_and_grow_away_from_it():
    f = features(2, 4, 6, 6).detach()
    assert content_error(f, f) == 0
    assert style_error({"relu4_1": f[:1]}, {"relu4_1": gram_matrix(f[:1])}, plain(4)) == 0
    near, far = f + 0.01, f + 0.2
    assert 0 < content_error(near, f) < content_error(far, f)
    target = {"relu4_1": gram_matrix(f[:1])}
    assert 0 < style_error({"relu4_1": near}, target, plain(4)) < style_error({"relu4_1": far}, target, plain(4))


def test_content_error_is_one_for_nothing():
    f = features(2, 4, 6, 6).detach()
    torch.testing.assert_close(content_error(torch.zeros_like(f), f), torch.tensor(1.0, dtype=torch.float64))


def test_strokes_are_asked_of_every_quarter_and_colours_of_the_whole():
    strong, blank = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    target = gram_matrix(torch.ones(1, 2, 8, 8))
    one_spot = torch.cat([torch.cat([2 * strong, blank], 3), torch.cat([blank, blank], 3)], 2)
    assert style_error({"relu1_1": one_spot}, {"relu1_1": target}, plain(2)) < 1e-6  # the whole looks right
    for layer in ("relu2_1", "relu3_1"):
        assert style_error({layer: one_spot}, {layer: target}, plain(2)) > 0.7  # its quarters do not
    assert style_error({"relu5_1": one_spot}, {"relu5_1": target}, plain(2)) < 1e-6


def test_a_louder_filter_counts_more_in_the_second_half_of_the_style():
    f = features(1, 2, 6, 6).detach()
    target = {"relu5_1": gram_matrix(f)}
    off = [f * torch.tensor(scale, dtype=torch.float64).view(1, 2, 1, 1) for scale in ([1.5, 1.0], [1.0, 1.5])]
    loud = {"relu5_1": torch.tensor([10.0, 1.0], dtype=torch.float64)}
    first, second = (style_error({"relu5_1": x}, target, loud) for x in off)
    assert first > 1.5 * second


def test_the_palette_is_what_colours_there_are_and_not_where():
    picture = F.interpolate(torch.rand(1, 3, 8, 8, generator=RNG), scale_factor=2)  # in cells, which are seen whole
    target = palette(picture)
    assert palette_error(picture.flip(2), target) < 1e-10
    assert palette_error(picture.repeat(1, 1, 2, 1), target) < 1e-2  # of twice the size
    grey = picture.mean(dim=1, keepdim=True).expand_as(picture)
    tinted = picture.mean(dim=(2, 3), keepdim=True).expand_as(picture)
    paler = 0.5 * (picture + tinted)
    assert 0.02 < palette_error(paler, target) < palette_error(tinted, target)
    assert palette_error(grey, target) > 0.1  # as light and dark as the picture
    assert torch.isfinite(palette_error(picture, palette(torch.ones_like(picture))))


def test_overflow_by_hand():
    assert overflow(torch.tensor([0.0, 0.5, 1.0])) == 0
    torch.testing.assert_close(overflow(torch.tensor([-0.2, 0.5, 1.4, 1.0])), torch.tensor((0.04 + 0.16) / 4))


def test_total_variation_by_hand():
    checks = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(total_variation(checks), torch.tensor(2.0))
    assert total_variation(torch.full((1, 3, 5, 5), 0.7)) == 0


def test_ripple_error_by_hand_and_of_the_finest_alone():
    photo = torch.rand(1, 3, 12, 12, generator=RNG)
    assert ripple_error(photo, photo) == 0  # edges of the photo, whatever they are
    parabola = torch.arange(12.0).square().expand(1, 3, 12, 12)
    assert ripple_error(parabola, torch.zeros_like(parabola)) == 0
    comb = (torch.arange(12.0) % 2).expand(1, 3, 12, 12)  # the fourth differences of 0 1 0 1 0 are 8 and -8
    for stripes in (comb, comb.transpose(2, 3)):
        torch.testing.assert_close(ripple_error(photo + stripes, photo), torch.tensor(64.0))

    def of_wave(period):
        wave = torch.sin(2 * torch.pi * torch.arange(126.0) / period).expand(1, 3, 126, 126)
        return ripple_error(wave, torch.zeros_like(wave))

    assert 60 < of_wave(3) / of_wave(6) < 100


def test_gradients_equal_numeric_ones():
    f, target = features(2, 3, 4, 4), features(2, 3, 4, 4).detach()
    grams = {"relu1_1": gram_matrix(target[:1]), "relu5_1": gram_matrix(target[:1])}
    assert gradcheck(lambda x: style_error({"relu1_1": x, "relu5_1": x}, grams, plain(3)), f)
    assert gradcheck(lambda x: content_error(x, target), f)
    colors = palette(features(1, 3, 6, 6).detach())
    assert gradcheck(lambda pictures: palette_error(pictures, colors), features(2, 3, 8, 8))
    assert gradcheck(lambda x: canvas_error(x, torch.zeros_like(x)), features(1, 3, 32, 48))
    assert gradcheck(total_variation, features(1, 3, 4, 5))
    assert gradcheck(lambda x: ripple_error(x, torch.zeros_like(x)), features(1, 3, 5, 6))
    assert gradcheck(lambda pictures: overflow(2 * pictures - 0.5), features(1, 3, 4, 5))


def test_temporal_error_is_small_for_what_moves_along_and_large_for_what_stays():
    photos, at = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)), torch.zeros(2, 2)
    stripes = 0.5 * (torch.arange(512) % 8 < 4).float()

    def error(net):  # the mean over several motions
        rngs = [torch.Generator().manual_seed(s) for s in range(16)]
        pairs = zip(rngs[::2], rngs[1::2], strict=True)
        return sum(float(temporal_error(net, photos, at, net(photos, at), pair)) for pair in pairs)

    def on_canvas(x, at):  # stripes that lie where the canvas does
        return 0.5 * x + torch.stack([stripes[int(left) :][: x.shape[3]].expand(x.shape[1:]) for _, left in at])

    def framed(x, _):
        inside = F.pad(torch.ones(1, 1, x.shape[2] - 16, x.shape[3] - 16), (8, 8, 8, 8))
        return 0.5 * x * inside

    follows = error(lambda x, _: 0.5 * x)
    assert follows > 0
    assert error(lambda x, _: 0.5 * x + stripes[: x.shape[3]]) > 100 * follows
    assert error(framed) > 100 * follows
    assert error(on_canvas) < 2 * follows


def test_areas_must_not_follow_the_canvas_and_strokes_may():
    def striped(period, start):  # pictures with stripes of 0.2 and 0.8, from `start` on
        return (0.2 + 0.6 * ((torch.arange(192) + start) % period < period / 2)).expand(1, 3, 192, 192)

    assert canvas_error(striped(128, 0), striped(128, 0)) == 0
    assert canvas_error(striped(128, 0), striped(128, 32)) > 0.05  # half of what the pictures differ by
    assert canvas_error(striped(8, 0), striped(8, 2)) < 1e-6


def test_the_noise_is_not_only_of_single_pixels():
    """A blur over 5 x 5 would leave 1/25 of white noise; a codec's stays."""
    photos, at = torch.full((8, 3, 128, 128), 0.5), torch.zeros(8, 2)

    def error(net):
        return float(
            temporal_error(net, photos, at, net(photos, at), [torch.Generator().manual_seed(s) for s in range(8)])
        )

    blurred = error(lambda x, _: torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False))
    assert error(lambda x, _: x) > blurred > 0.1 * error(lambda x, _: x)


def test_everything_is_computed_where_the_pictures_are():
    """On the meta device, which stands for a graphics card here: it, too, refuses tensors of the processor."""
    net = TransformNet().to("meta")
    photos, at = torch.empty(2, 3, 96, 96, device="meta"), torch.empty(2, 2, device="meta")
    stylized = net(photos, at)
    seen, loud = {"relu1_1": stylized}, {"relu1_1": torch.empty(3, device="meta")}
    terms = [
        style_error(seen, {"relu1_1": gram_matrix(photos[:1])}, loud),
        content_error(stylized, photos),
        palette_error(stylized, palette(photos[:1])),
        temporal_error(net, photos, at, stylized, [torch.Generator(), torch.Generator()]),
        canvas_error(stylized, photos),
        ripple_error(stylized, photos),
        total_variation(stylized) + overflow(stylized),
    ]
    torch.stack(terms).sum().backward()
    assert {weight.grad.device.type for weight in net.parameters() if weight.grad is not None} == {"meta"}
