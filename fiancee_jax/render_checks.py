"""What rendering a folder checks before anything is compiled or written."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fiancee_jax.choice import MAX_LPIPS, Choice
from fiancee_jax.data.labels import (
    LABEL_HINT,
    LabelFile,
    label_paths,
    listed,
    raise_problems,
    survey,
)
from fiancee_jax.errors import UserError
from fiancee_jax.files import writable
from fiancee_jax.inference import Renderer
from fiancee_jax.render_job import Size
from fiancee_jax.report import MAX_CARDS

if TYPE_CHECKING:
    from fiancee_jax.render_folder import Request

FEW = 20  # files named in one message
# inputs of a family -> options of infer.py that give them
FLAGS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("labels",): ("--labels DIR",),
    ("source", "driver"): ("--source PICTURE", "--driver DIR"),
}


def check(renderer: Renderer, request: Request) -> None:
    """Raises UserError for options that cannot work with this model."""
    request.check()
    check_takes(renderer, ("labels",), request.model)
    request.choice.check(renderer.model, renderer.calibration)
    check_trained(renderer, request.choice)


def check_takes(renderer: Renderer, inputs: tuple[str, ...], model: str) -> None:
    """Raises UserError unless these are the inputs of the model, which the user calls `model`.

    Further frames of a source go with the source: whoever renders it asks for them.
    """
    names = tuple(name for name in renderer.model.family.input_names if name != "own")
    if names == inputs:
        return
    takes = f"takes {' and '.join(names)}" if names else "takes nothing but a latent z"
    if names in FLAGS:
        given = " ".join(FLAGS.get(inputs, inputs))
        raise UserError(f"this model {takes}: give {' '.join(FLAGS[names])} in place of {given}.")
    known = f"{{{', '.join(f'{name!r}: ...' for name in names)}}}" if names else "8"
    raise UserError(
        f"this model {takes}, and here only folders of label maps, and sources with their drivers, "
        f"are rendered. Render it from Python: fiancee_jax.load({model!r})({known}, "
        f"key=jax.random.key(0), max_lpips={MAX_LPIPS:g})."
    )


def check_trained(renderer: Renderer, choice: Choice) -> None:
    """Raises UserError if the networks that the choice needs have not been trained."""
    if choice.exit is None and not renderer.has_predictor:
        raise UserError(
            "this model has no predictor yet, so it cannot route: train the phase 'predictor', or "
            "give --exit NUMBER or --exit full."
        )
    early = choice.exit is None or choice.number(renderer.model) < renderer.model.num_exits
    if early and "branches" not in renderer.variables:
        raise UserError("no branches have been trained; only --exit full can be rendered.")


def read_folder(renderer: Renderer, request: Request) -> tuple[list[LabelFile], dict[str, str]]:
    """All label maps, checked: the good ones, and what is wrong with the others by name.

    Raises:
        UserError: the folder or the names will not do, all files are bad, or one is with `strict`.
    """
    paths = label_paths(request.labels)
    _check_names(request.labels, [path.stem for path in paths])
    classes = getattr(renderer.model.family, "classes", ())
    files, bad = survey(paths, len(classes))
    if bad and (request.strict or not files):
        known = f"{LABEL_HINT}\nThe model knows these classes: {listed(classes)}."
        raise_problems(f"{len(paths)} label maps", list(bad.values()), known)
    return files, {path.stem: why for path, why in bad.items()}


def _check_names(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Each name can be that of one picture, and stand in the manifest."""
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"two label maps of {folder} have the same name but for the ending: "
            f"{', '.join(sorted(twice)[:FEW])}. Each writes NAME.png; rename one."
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"the file name {name!r} is not valid UTF-8; rename it.") from None


def sizes(
    renderer: Renderer, request: Request, files: list[LabelFile], bad: dict[str, str]
) -> dict[Size, list[LabelFile]]:
    """Files by the size of their pictures; those of a size that cannot be are added to `bad`."""
    family = renderer.model.family
    if request.size == "model":
        height, width = family.size
        other = [file for file in files if file.size != family.size]
        if other:
            print(
                f"{len(other)} of {len(files)} label maps are not {height}x{width}: their centres "
                "are cut to its aspect and resized by nearest (--size native renders as is).",
                flush=True,
            )
        return {family.size: files}
    divisor = family.stage_factor(1)
    wrong = [f for f in files if any(side == 0 or side % divisor for side in f.size)]
    reasons = {
        f.name: f"{f.path}: is {f.size[0]}x{f.size[1]}; --size native needs sides divisible by "
        f"{divisor}"
        for f in wrong
    }
    if wrong and (request.strict or len(wrong) == len(files)):
        raise_problems(
            f"{len(files)} label maps with --size native",
            list(reasons.values()),
            "Crop or resize these maps, or leave out --size native.",
        )
    bad |= reasons
    groups: dict[Size, list[LabelFile]] = {}
    for file in files:
        if file.name not in reasons:
            groups.setdefault(file.size, []).append(file)
    return dict(sorted(groups.items()))


def writable_folder(request: Request) -> pathlib.Path:
    """The output folder with ``_labels/`` in it, made if need be and tried."""
    out = request.out.expanduser().resolve()
    labels = request.labels.expanduser().resolve()
    if labels in (out, out / "_labels"):
        raise UserError(
            f"the label maps in {labels} would be overwritten; give --out another folder."
        )
    writable(out, out / "_labels")
    return out


def shown(files: Sequence[LabelFile]) -> set[str]:
    """Names of the files that get a card in the page."""
    return set(sorted(file.name for file in files)[:MAX_CARDS])
