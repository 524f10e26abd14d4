"""FIANCEE in JAX and Flax: generators that run only as much of themselves as each input needs.

    import fiancee_jax as fj
    renderer = fj.load("runs/quickstart")
    r = renderer(labels, key=jax.random.key(0), max_lpips=0.1)

After "FIANCEE: Faster Inference of Adversarial Networks via Conditional Early Exits" (CVPR 2023,
arXiv 2304.10306).
"""

from fiancee_jax import convert
from fiancee_jax.config import Config, Exit, load_config
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Rendered, Renderer, load
from fiancee_jax.models.lpips import lpips
from fiancee_jax.training.run import train

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Exit",
    "Rendered",
    "Renderer",
    "UserError",
    "convert",
    "load",
    "load_config",
    "lpips",
    "train",
]
