"""The table as text: groups, cells of two lines, reasons as footnotes."""

import studies

from fiancee_jax.evaluation import cells


def test_rows_stand_in_groups_and_students_beside_their_routers():
    rows = [row.columns(0.1, 8.0, 0) for row in studies.made_table().rows(0.1)]
    beside = {**rows[0], "policy": "learned_as_student_1", "group": "router", "label": "beside"}
    notes = cells.Footnotes()
    shown = cells.columns([*rows, beside])
    found = cells.groups([*rows, beside], shown, notes)
    titles = [group["title"] for group in found]
    assert titles == [title for title in cells.GROUPS.values() if title in titles]
    assert found[-1]["rows"][0]["label"] == "beside"
    assert len(notes.reasons) == len(set(notes.reasons))


def test_shares_beyond_what_exits_share_stand_only_where_they_share_any():
    rows = [row.columns(0.1, 8.0, 0) for row in studies.made_table().rows(0.1)]
    keys = [column.key for column in cells.COLUMNS]
    assert [c.key for c in cells.columns(rows)] == [key for key in keys if key != "share_beyond"]
    rows[0]["share_beyond"] = 0.1
    assert [c.key for c in cells.columns(rows)] == keys


def test_an_empty_cell_without_a_reason_still_has_one():
    row = {"share_of_oracle_saving": None, "why_empty": {}}
    column = next(c for c in cells.COLUMNS if c.key == "share_of_oracle_saving")
    notes = cells.Footnotes()
    found = cells.cell(row, column, notes)
    assert found.mark == 1
    assert notes.reasons == [found.reason]
