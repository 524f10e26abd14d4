"""The pictures of the page: rendered once, then drawn as small as the page needs them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from fiancee_jax.evaluation import examples as again
from fiancee_jax.evaluation import hardness_charts, words
from fiancee_jax.evaluation.latent_map import plane
from fiancee_jax.evaluation.table import Table
from fiancee_jax.inference import Renderer
from fiancee_jax.pictures import to_uint8

Found = Mapping[str, Any]  # what evaluation.json holds, or its ``hardness``


def render(renderer: Renderer, found: Found, source: Any, seed: int) -> dict[str, Any]:
    """Inputs and pictures of everything that is shown, rendered once."""
    chosen, mapped = [*found["easiest"], *found["hardest"]], found["latent_map"]
    names = {record["name"] for record in chosen} | ({mapped["name"]} if mapped else set())
    inputs = again.inputs_of(renderer, source, names)
    z = np.stack([again.latent_of(renderer, r["name"], seed, r["latent"]) for r in chosen])
    of = [inputs[record["name"]] for record in chosen]
    draw = renderer.model.family.picture_of_inputs
    rendered = {"records": again.pictures(renderer, of, z), "inputs": [draw(x) for x in of]}
    if mapped:
        steps = np.array(mapped["steps"])[list(_marked(mapped))]
        points = plane(np.array(mapped["directions"]), steps)
        given = inputs[mapped["name"]]
        rendered["plane"] = again.pictures(renderer, [given] * len(points), points)[-1]
        rendered["mapped"] = draw(given)
    return rendered


def examples(
    found: Found, table: Table, rendered: Mapping[str, Any], side: int
) -> list[dict[str, Any]]:
    """The easiest and the hardest inputs with their pictures."""
    hardness, limit = found["hardness"], words.middle(found)
    chosen = [*hardness["easiest"], *hardness["hardest"]]
    taken = [table.learned(limit).taken.argmax(1) + 1, table.oracle(limit).taken.argmax(1) + 1]
    cards = [
        {
            **record,
            "input": None
            if rendered["inputs"][i] is None
            else _map(rendered["inputs"][i][0], side),
            "pictures": [photo(x[i], side) for x in rendered["records"]],
            "taken": [int(exits[record["record"]]) for exits in taken],
        }
        for i, record in enumerate(chosen)
    ]
    count = len(hardness["easiest"])
    return [
        {"title": "Easiest", "cards": cards[:count]},
        {"title": "Hardest", "cards": cards[count:]},
    ]


def latent(found: Found, rendered: Mapping[str, Any], side: int) -> dict[str, Any] | None:
    """The map over z with the pictures at its crosses; None where there is none."""
    mapped = found["latent_map"]
    if not mapped:
        return None
    marked = _marked(mapped)
    order = np.arange(len(marked) ** 2).reshape(len(marked), -1)[::-1].ravel()  # as in the chart
    drawn = rendered["mapped"]
    return {
        "name": mapped["name"],
        "chart": hardness_charts.heat(mapped, marked),
        "pictures": [photo(rendered["plane"][i], side) for i in order],
        "input": None if drawn is None else _map(drawn[0], side),
    }


def _marked(mapped: Found) -> tuple[int, int, int]:
    last = len(mapped["steps"]) - 1
    return 0, last // 2, last


def photo(picture: np.ndarray, side: int) -> str:
    """A picture [h, w, 3] in [-1, 1] as a data address, WebP, no side longer than this."""
    return _address(_fitted(to_uint8(picture), side, Image.Resampling.LANCZOS), "webp", quality=88)


def _map(drawn: np.ndarray, side: int) -> str:
    """A drawn input [h, w, 3] uint8 as a data address, PNG of few colours."""
    fitted = _fitted(drawn, side, Image.Resampling.NEAREST)
    return _address(fitted.quantize(256), "png", optimize=True)


def _fitted(picture: np.ndarray, side: int, how: Image.Resampling) -> Image.Image:
    image = Image.fromarray(picture)
    scale = min(1.0, side / max(image.size))
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), how
    )


def _address(image: Image.Image, form: str, **options: Any) -> str:
    out = io.BytesIO()
    image.save(out, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(out.getvalue()).decode()}"
