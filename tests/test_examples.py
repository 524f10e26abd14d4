"""The notebook: its cells in a short form, and that what it shows was really run."""

import json
import pathlib

from tiny import tiny_renderer, tiny_workdir

from fiancee_jax.data import streets

NOTEBOOK = pathlib.Path(__file__).parents[1] / "examples" / "functional.ipynb"
LARGEST = 2**20  # bytes


def _code():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_every_cell_runs(tmp_path, monkeypatch, capsys):
    tiny_workdir(tmp_path, tiny_renderer(classes=streets.CLASSES))
    monkeypatch.setenv("FIANCEE_SHORT", "1")
    monkeypatch.setenv("FIANCEE_MODEL", str(tmp_path))
    names = {}
    for cell in _code():
        exec("".join(cell["source"]), names)
    said = capsys.readouterr().out
    assert "32x32, 3 exits of" in said
    assert "price  share of full" in said
    assert len(names["pictures"]) == 3
    assert names["found"].shape == names["start"].shape


def test_it_was_run_with_the_box_and_stays_small():
    assert NOTEBOOK.stat().st_size < LARGEST
    cells = _code()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in shown if output["output_type"] == "error"]
    assert sum("image/jpeg" in output.get("data", {}) for output in shown) >= 3
