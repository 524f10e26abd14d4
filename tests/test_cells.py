"""The table as text: groups, cells of two lines, reasons as footnotes."""

import studies

from fiancee_jax.evaluation import cells


def test_rows_stand_in_groups_and_students_beside_their_routers():
    rows = [row.columns(0.1, 8.0, 0) for row in studies.made_table().rows(0.1)]
    beside = {**rows[0], "policy": "learned_as_student_1", "group": "router", "label": "beside"}
    notes = cells.Footnotes()
    found = cells.groups([*rows, beside], notes)
    titles = [group["title"] for group in found]
    assert titles == [title for title in cells.GROUPS.values() if title in titles]
    assert found[-1]["rows"][0]["label"] == "beside"
    assert len(notes.reasons) == len(set(notes.reasons))


def test_an_empty_cell_without_a_reason_still_has_one():
    row = {"share_of_oracle_saving": None, "why_empty": {}}
    column = next(c for c in cells.COLUMNS if c.key == "share_of_oracle_saving")
    notes = cells.Footnotes()
    found = cells.cell(row, column, notes)
    assert found.mark == 1
    assert notes.reasons == [found.reason]
