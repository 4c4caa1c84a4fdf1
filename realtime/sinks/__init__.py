"""Where stylized frames go; each file is one kind of sink (see `realtime.frames.FrameSink`)."""
