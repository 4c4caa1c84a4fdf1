from pathlib import Path

import pytest

from realtime.contract import StyleMetadata
from realtime.errors import StyleError

METADATA = StyleMetadata("wave", "The Great Wave", "Hokusai", "ab" * 32, 8, {"steps": 3}, {"style": 0.2})


def test_metadata_survives_the_way_through_onnx_strings():
    assert StyleMetadata.from_props(METADATA.to_props() | {"name": "tsunami"}, Path("wave.onnx")) == METADATA


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"contract": "nst-style/99"}, "nst-style/99"),
        ({"stride": "wide"}, "malformed"),
        ({"stride": "0"}, "stride 0"),
        ({"training": "{"}, "malformed"),
        ({"training": "[]"}, "malformed"),
    ],
)
def test_wrong_metadata_is_refused_with_the_reason(change: dict[str, str], word: str):
    with pytest.raises(StyleError, match=word):
        StyleMetadata.from_props(METADATA.to_props() | change, Path("wave.onnx"))


@pytest.mark.parametrize("key", ["contract", "name", "stride", "certificate"])
def test_missing_metadata_is_refused(key: str):
    props = METADATA.to_props()
    del props[key]
    with pytest.raises(StyleError, match="nst-train"):
        StyleMetadata.from_props(props, Path("wave.onnx"))
