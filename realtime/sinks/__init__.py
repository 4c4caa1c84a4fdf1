"""Where stylized frames go; each file is one kind of sink (see `realtime.frames.FrameSink`)."""

import cv2
import numpy as np

from realtime.config import Size
from realtime.frames import Pixels

JPEG_QUALITY = 85


def encode_jpeg(pixels: Pixels) -> bytes:
    """Return (H, W, 3) uint8 BGR as a JPEG file."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def fit_into(pixels: Pixels, size_wh: Size) -> Pixels:
    """Return the picture at a size, whole, with black bars if it has another shape; the picture itself if it fits."""
    height, width = pixels.shape[:2]
    if (width, height) == size_wh:
        return pixels
    scale = min(size_wh[0] / width, size_wh[1] / height)
    inner_wh = max(1, min(size_wh[0], round(width * scale))), max(1, min(size_wh[1], round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    if inner_wh == size_wh:
        return np.asarray(cv2.resize(pixels, size_wh, interpolation=method), np.uint8)
    left, top = (size_wh[0] - inner_wh[0]) // 2, (size_wh[1] - inner_wh[1]) // 2
    canvas = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    cv2.resize(pixels, inner_wh, canvas[top : top + inner_wh[1], left : left + inner_wh[0]], interpolation=method)
    return canvas
