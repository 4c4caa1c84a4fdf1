"""Draw the pictures of the README from the shipped styles: `python docs/pictures.py`."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from realtime.demo import DemoScene
from realtime.engine import Engine
from realtime.styles import shipped_styles

FOLDER = Path(__file__).parent
MOMENT_S = 4.0
COLUMNS, CELL_WH, LABEL = 5, (400, 300), 34


def main() -> None:
    """Write `wave.jpg`, the demo scene beside its painting, and `styles.jpg`, the scene in every style."""
    engines = [Engine(path, (640, 480)) for path in shipped_styles()]
    scene = DemoScene((640, 480)).picture(MOMENT_S)
    paintings = {engine.path.stem: Image.fromarray(engine.stylize(scene)[..., ::-1]) for engine in engines}
    before_and_after = np.hstack([scene[..., ::-1], paintings["wave"]])
    Image.fromarray(before_and_after).save(FOLDER / "wave.jpg", quality=88)

    width, height = CELL_WH[0], CELL_WH[1] + LABEL
    rows = -(-len(paintings) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for number, (name, painting) in enumerate(paintings.items()):
        left, top = number % COLUMNS * width, number // COLUMNS * height
        sheet.paste(painting.resize(CELL_WH, Image.Resampling.LANCZOS), (left, top))
        draw.text((left + width / 2, top + CELL_WH[1] + LABEL / 2), name, "black", font, anchor="mm")
    sheet.save(FOLDER / "styles.jpg", quality=88)


if __name__ == "__main__":
    main()
