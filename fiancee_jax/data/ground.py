"""The grey ground that models see wherever a picture shows no foreground."""

from __future__ import annotations

import numpy as np

GROUND = 128  # of every channel of a pixel that is not foreground


def over_ground(rgba: np.ndarray) -> np.ndarray:
    """Lays a picture with a matte over the ground.

    Args:
        rgba: [h, w, 4] uint8, not premultiplied; alpha 255 is foreground.

    Returns:
        [h, w, 3] uint8, ``alpha * rgb + (1 - alpha) * GROUND`` to the nearest whole number.
    """
    rgb, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((rgb * alpha + GROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def has_foreground(rgb: np.ndarray, tolerance: int = 2) -> bool:
    """Whether a picture shows anything but the ground.

    Args:
        rgb: [h, w, 3] uint8.
        tolerance: a pixel is ground if no channel is further than this from GROUND; JPEG and
            resizing move it a little.
    """
    return bool((np.abs(rgb.astype(np.int16) - GROUND) > tolerance).any())
