"""When the frames of an ascent are taken, and how long they are shown. Apart from `image.py`: no NumPy is needed."""

DURATION = 3000
"""Length of an animation in milliseconds; the last frame stays for as long again."""


def frame_steps(frames: int, steps: int) -> list[int]:
    """After how many steps each frame is taken: evenly from 0 to `steps`, both included, none twice."""
    return sorted({round(index * steps / (frames - 1)) for index in range(frames)})
