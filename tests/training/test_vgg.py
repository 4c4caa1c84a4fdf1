import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file

from realtime.errors import ConfigError
from training.data import load_picture
from training.scales import shipped_means
from training.vgg import RARE, VGG19, load_vgg19

PICTURE = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def test_layers_equal_torchvision_up_to_the_pooling(random_vgg: Path, tmp_path: Path):
    state = torch.load(random_vgg, weights_only=True)
    state["features.2.weight"] = 0.1 * torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(2))
    reference = torchvision.models.vgg19(weights=None).features[:4].eval()
    reference.load_state_dict(
        {name.removeprefix("features."): state[name] for name in state if int(name.split(".")[1]) < 4}
    )
    normalized = torchvision.transforms.functional.normalize(PICTURE, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.save(state, tmp_path / "vgg.pth")
    ours = load_vgg19(tmp_path / "vgg.pth")(PICTURE, ["relu1_2"])["relu1_2"]
    torch.testing.assert_close(ours, reference(normalized), rtol=1e-4, atol=1e-4)


def test_every_layer_of_the_real_network_equals_torchvisions(assets: Path):
    """With the pooling that it was trained with."""
    path = assets / "vgg19" / "vgg19-features.safetensors"
    reference = torchvision.models.vgg19(weights=None).features
    reference.load_state_dict({k.removeprefix("features."): v.float() for k, v in load_file(path).items()})
    vgg = load_vgg19(path, "max")
    ours = vgg(PICTURE, vgg.names)
    x = torchvision.transforms.functional.normalize(PICTURE, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    names = iter(vgg.names)
    with torch.no_grad():
        for layer in reference[:30]:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                torch.testing.assert_close(ours[next(names)], x, rtol=1e-3, atol=1e-2)
    assert next(names, None) is None


def test_pooling_is_by_average(random_vgg: Path):
    vgg = load_vgg19(random_vgg)
    found = vgg(PICTURE, ["relu1_2", "relu2_1"])
    pooled = torch.nn.functional.avg_pool2d(found["relu1_2"], 2)
    conv = vgg.convs["relu2_1"]
    torch.testing.assert_close(found["relu2_1"], torch.relu(conv(pooled)), rtol=1e-4, atol=1e-4)


def test_normalization_scales_each_filter_and_changes_nothing_else(random_vgg: Path):
    plain, normalized = load_vgg19(random_vgg), load_vgg19(random_vgg)
    photos = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    means = plain.mean_activations(photos)
    normalized.normalize(means)
    before, after = plain(PICTURE, plain.names), normalized(PICTURE, plain.names)
    for name in plain.names:
        scale = means[name].clamp_min(RARE * float(means[name].mean())).view(1, -1, 1, 1)
        torch.testing.assert_close(after[name] * scale, before[name], rtol=1e-3, atol=1e-4)
    often = means["relu3_1"] > RARE * means["relu3_1"].mean()
    ones = normalized.mean_activations(photos)["relu3_1"][often]
    torch.testing.assert_close(ones, torch.ones_like(ones), rtol=1e-3, atol=1e-3)


def test_shipped_scales_are_what_the_weights_do_to_photos(assets: Path):
    vgg = load_vgg19(assets / "vgg19" / "vgg19-features.safetensors")
    shipped = shipped_means(vgg.sha256)
    assert shipped is not None and set(shipped) == set(vgg.names)
    ours = vgg.mean_activations(load_picture(path, 288) for path in sorted((assets / "content").glob("*.jpg"))[::300])
    for name in ("relu1_1", "relu3_1", "relu4_2"):
        ratio = (ours[name] / shipped[name]).median()
        assert 0.8 < ratio < 1.25, name  # ten photos against three hundred
    assert shipped_means("0" * 64) is None


def test_large_pictures_have_the_same_features_and_gradients(random_vgg: Path, monkeypatch: pytest.MonkeyPatch):
    """Activations that are computed again instead of kept must not change anything."""
    vgg, found = load_vgg19(random_vgg), []
    for limit in (1_000_000, 100):
        monkeypatch.setattr("training.vgg.LARGE", limit)
        picture = PICTURE.clone().requires_grad_()
        features = vgg(picture, ["relu1_1", "relu4_2", "relu5_1"])
        torch.stack([f.square().mean() for f in features.values()]).sum().backward()
        found.append([*features.values(), picture.grad])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(kept, again)


def test_a_filter_that_never_fires_stays_silent(random_vgg: Path):
    state = torch.load(random_vgg, weights_only=True)
    state["features.5.bias"][7] = -1e4
    vgg = VGG19(state, "")
    vgg.normalize(vgg.mean_activations([PICTURE]))
    features = vgg(PICTURE, ["relu2_1", "relu5_1"])
    assert not features["relu2_1"][:, 7].any()
    assert all(torch.isfinite(f).all() for f in features.values())


def test_identity_convolutions_are_skipped_without_a_difference(random_vgg: Path):
    state = torch.load(random_vgg, weights_only=True)
    vgg = VGG19(state, "")
    assert not {"relu1_2", "relu3_2", "relu4_3", "relu4_4"} & set(vgg.convs) and "relu4_2" in vgg.convs
    found = vgg(PICTURE, ["relu4_2", "relu4_3"])
    computed = F.conv2d(found["relu4_2"], state["features.23.weight"], state["features.23.bias"], padding=1).relu()
    torch.testing.assert_close(found["relu4_3"], computed)
    vgg.normalize(vgg.mean_activations([PICTURE]))
    torch.testing.assert_close(vgg(PICTURE, ["relu4_3"])["relu4_3"], vgg(PICTURE, ["relu4_2"])["relu4_2"])


def test_safetensors_and_pth_are_the_same(random_vgg: Path, tmp_path: Path):
    path = tmp_path / "random.safetensors"
    save_file(torch.load(random_vgg, weights_only=True), path)
    a, b = (load_vgg19(p)(PICTURE, ["relu5_1"])["relu5_1"] for p in (path, random_vgg))
    torch.testing.assert_close(a, b)


def test_real_weights_load_and_see(assets: Path):
    path = assets / "vgg19" / "vgg19-features.safetensors"
    vgg = load_vgg19(path)
    features = vgg(PICTURE, ["relu4_2"])["relu4_2"]
    assert features.shape == (1, 512, 6, 8) and features.mean() > 0
    assert set(load_file(path)) >= {"features.28.weight", "features.28.bias"}


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", None])
def test_what_is_no_weights_file_is_refused(tmp_path: Path, name: str, content: bytes | None):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        load_vgg19(path)


def test_weights_of_another_layout_are_refused(tmp_path: Path, random_vgg: Path):
    state = torch.load(random_vgg, weights_only=True)
    for change in ({"features.0.weight": torch.zeros(64, 4, 3, 3)}, {"features.28.bias": None}):
        other = {k: v for k, v in (state | change).items() if v is not None}
        torch.save(other, tmp_path / "other.pth")
        with pytest.raises(ConfigError, match="layout"):
            load_vgg19(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="layout"):
        load_vgg19(tmp_path / "list.pth")


def test_no_network_and_no_weights_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="--vgg-weights FILE") as caught:
        load_vgg19(None)
    assert "vgg19-dcbb9e9d.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_without_torchvision_weights_can_come_from_a_file(random_vgg: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ConfigError, match="torchvision is not installed"):
        load_vgg19(None)
    load_vgg19(random_vgg)
