"""The live app: capture, stylize, show. Read `frames`, then `pipeline`, then `engine`."""

import os

# ONNX Runtime reads it when it is loaded; else it notes what is run and where, and sends that to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenCV reads these when it is first imported; what it would print is said by our own messages.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;default.warning=false")  # Qt's notes on fonts
