"""Which frame is frame k: the index of a video, how it is reached, and how it is decoded."""
