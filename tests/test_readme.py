"""The README says what is true: keys, commands, options, files."""

import re
import subprocess
import sys
from pathlib import Path

from realtime.engine import Engine
from realtime.hotkeys import markdown_table
from realtime.styles import markdown_table as styles_table
from realtime.styles import shipped_styles
from tests.conftest import ROOT, Run

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_key_table_is_the_table_of_the_code():
    assert markdown_table() in README


def test_the_table_of_styles_is_made_from_their_certificates():
    shipped = [Engine(path, (640, 480)).metadata for path in shipped_styles()]
    assert all(metadata.certificate for metadata in shipped)
    assert styles_table(shipped) in README


def test_every_option_that_it_shows_exists(run: Run):
    for command in ("nst-cam", "nst-train", "nst-still", "nst-eval"):
        calls = re.findall(rf"{command} (.*)", README)
        shown = {option for call in calls for option in re.findall(r"(?<!\w)--[a-z-]+", call)}
        assert shown
        helped = run(command, "--help", env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"}).stdout
        assert shown <= set(re.findall(r"--[a-z-]+", helped))


def test_every_file_that_it_names_is_there():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    chains = re.findall(r"^- [A-Z].*: `(realtime|training)/(.*)`", README, re.MULTILINE)
    assert len(chains) == 3
    for package, chain in chains:
        for name in re.findall(r"\w+\.py", chain):
            assert (ROOT / package / name).is_file(), name


def test_its_make_targets_exist():
    for target in re.findall(r"^make (\w+)|`make (\w+)", README, re.MULTILINE):
        name = target[0] or target[1]
        done = subprocess.run(["make", "--dry-run", name], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, name


def test_the_list_of_style_images_names_every_shipped_style():
    listed = (ROOT / "Style" / "README.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([a-z-]+) \|", listed, re.MULTILINE)) - {"style"}
    assert rows == {path.stem for path in shipped_styles()}


def test_the_wheel_carries_the_styles_and_no_tests(tmp_path: Path):
    import zipfile

    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=300)
    names = zipfile.ZipFile(next(tmp_path.glob("nst-*.whl"))).namelist()
    carried = {name for name in names if name.startswith("realtime/exported/")}
    assert carried == {f"realtime/exported/{path.name}" for path in shipped_styles()}
    assert {f"realtime/sinks/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert {"realtime/pack.onnx", "realtime/unpack.onnx"} <= set(names)
    assert "realtime/py.typed" in names and "training/py.typed" in names
    assert not [name for name in names if name.startswith("tests")]
