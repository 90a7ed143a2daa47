"""Results on disk: whole or not there, kept when a suite changes, and damage is named."""

import json
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.rows import rows_of
from helpers.suites import TINY

from benchbench.core.errors import UserError
from benchbench.core.files import write_text
from benchbench.results import store as store_module
from benchbench.results.failures import Failure
from benchbench.results.store import Store
from benchbench.results.tables import SCHEMAS, TABLES, read_results, read_table, to_table
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

SUITE = Suite.model_validate(TINY | {"seeds": 2})
CELLS = expand(SUITE)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", "tiny")


def published(store, cells=CELLS):
    for cell in cells:
        store.publish(cell, rows_of(cell))


@pytest.mark.parametrize("fails_at", [1, 3, 4])
def test_a_cell_counts_when_it_is_whole_and_not_before(store, monkeypatch, fails_at):
    cell, written = CELLS[0], []
    write = store_module._write_parquet

    def breaking(path, table):
        assert not store.is_done(cell.key)
        written.append(path.name)
        if len(written) == fails_at:
            raise OSError(28, "No space left on device")
        write(path, table)

    monkeypatch.setattr(store_module, "_write_parquet", breaking)
    with pytest.raises(OSError, match="No space"):
        store.publish(cell, rows_of(cell))
    assert len(written) == fails_at
    assert not store.is_done(cell.key)
    assert list((store.folder / "cells").iterdir()) == []  # nor is anything left behind
    monkeypatch.undo()
    store.publish(cell, rows_of(cell))
    assert store.is_done(cell.key)
    assert {p.stem for p in store.cell_folder(cell.key).iterdir()} == set(TABLES)


def test_what_a_killed_writer_leaves_is_neither_done_nor_gathered(store, monkeypatch):
    def killed(source, target):
        raise KeyboardInterrupt

    def no_cleaning(*args, **options):
        """As if the process were gone."""

    monkeypatch.setattr(os, "rename", killed)
    monkeypatch.setattr(store_module.shutil, "rmtree", no_cleaning)
    with pytest.raises(KeyboardInterrupt):
        published(store)
    monkeypatch.undo()
    (left,) = (store.folder / "cells").iterdir()
    assert {p.stem for p in left.iterdir()} == set(TABLES)
    assert not any(store.is_done(cell.key) for cell in CELLS)
    store.gather(Grid.of(SUITE))
    assert len(read_results(store.folder).cells) == 0


def test_small_files_appear_whole(tmp_path, monkeypatch):
    path = tmp_path / "suite.json"
    write_text(path, "old")

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_failure_is_remembered_until_the_cell_succeeds(store):
    cell, other = CELLS[:2]
    failure = Failure("diverged", "Diverged: q_loss is nan at update 3", attempts=2)
    store.record_failure(cell, failure)
    store.publish(other, rows_of(other))
    assert store.failure(cell.key) == failure
    assert store.failure(other.key) is None
    store.gather(Grid.of(SUITE))
    cells = read_results(store.folder).cells.set_index("key")
    assert cells["status"].to_dict() == {cell.key: "failed", other.key: "done"}
    assert cells.loc[cell.key, "error"] == str(failure)
    assert str(failure) == "diverged: Diverged: q_loss is nan at update 3 (2 attempts)"
    assert json.loads(cells.loc[cell.key, "settings"]) == cell.settings()
    store.publish(cell, rows_of(cell))
    assert store.failure(cell.key) is None
    store.gather(Grid.of(SUITE))
    assert set(read_results(store.folder).cells["status"]) == {"done"}


def test_gathered_tables_are_the_cells_tables_in_the_suites_order(store):
    published(store, reversed(CELLS))
    store.gather(Grid.of(SUITE))
    results = read_results(store.folder)
    assert list(results.plan["key"]) == [cell.key for cell in CELLS]
    assert list(results.cells["key"]) == [cell.key for cell in CELLS]
    assert len(results.evaluations) == 2 * len(CELLS)
    assert results.suite == SUITE
    for name in TABLES:
        assert pq.read_schema(store.folder / f"{name}.parquet").equals(SCHEMAS[name])
    assert results.training["grad_cosine"].isna().all()  # null, no placeholder
    assert not [p for p in store.folder.iterdir() if p.name.startswith(".")]  # no drafts


def test_cells_that_left_the_suite_stay_on_disk_and_out_of_the_tables(store):
    published(store)
    store.record_failure(CELLS[-1], Failure("killed", "old news"))
    fewer = Suite.model_validate(TINY | {"seeds": 1})
    store.gather(Grid.of(fewer))
    results = read_results(store.folder)
    assert set(results.cells["seed"]) == set(results.evaluations["seed"]) == {0}
    assert len(results.plan) == 3
    assert all(store.is_done(cell.key) for cell in CELLS)
    store.gather(Grid.of(SUITE))  # and they are back when the suite is
    assert len(read_results(store.folder).cells) == 6


def sentence(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_damaged_joined_table_is_named_and_made_again(store):
    published(store)
    store.gather(Grid.of(SUITE))
    path = store.folder / "training.parquet"
    path.write_bytes(path.read_bytes()[:100])
    message = sentence(lambda: read_results(store.folder))
    assert message.startswith(f"{path}: cannot be read as parquet")
    assert message.endswith(f"move {path} away and run again")
    path.unlink()
    store.gather(Grid.of(SUITE))
    assert len(read_results(store.folder).training) == 6


def test_a_cells_damaged_table_is_mended_by_moving_the_cell_away(store):
    published(store)
    folder = store.cell_folder(CELLS[0].key)
    (folder / "ledger.parquet").write_bytes(b"")
    message = sentence(lambda: store.gather(Grid.of(SUITE)))
    assert message.endswith(f"move {folder} away and run again")
    folder.rename(folder.parent.parent / "away")
    assert not store.is_done(CELLS[0].key)
    store.gather(Grid.of(SUITE))


@pytest.mark.parametrize("column", ["settings", "versions"])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_a_column_of_json_that_is_none_is_named(store, column, text):
    published(store)
    store.gather(Grid.of(SUITE))
    path = store.folder / "cells.parquet"
    table = pq.read_table(path)
    texts = pa.array([text] * len(table), pa.string())
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, table.schema.field(column), texts), path)
    message = sentence(lambda: read_results(store.folder))
    assert f"its column '{column}' should be a JSON object, not {text[:80]!r}" in message


def test_other_formats_and_other_tables_are_refused(tmp_path):
    path = tmp_path / "cells.parquet"
    table = to_table("cells", [])
    for metadata, found in (({"benchbench_format": "999"}, "999"), (None, "none")):
        pq.write_table(table.replace_schema_metadata(metadata), path)
        message = sentence(lambda: read_table(path, "cells"))
        assert f"{path}: has results format {found}, this benchbench reads 1" in message
        assert "--results" in message
    pq.write_table(table.drop_columns(["status"]), path)
    assert "is not the table 'cells'" in sentence(lambda: read_table(path, "cells"))
    older = to_table("cells", [{"key": "k", "env": "e", "seed": 0, "variant": "before"}])
    pq.write_table(older.drop_columns(["oracle_state_r2"]), path)  # from before it was measured
    assert read_table(path, "cells").equals(older)
    wrong = table.set_column(0, "key", pa.array([], pa.list_(pa.int64())))
    pq.write_table(wrong, path)
    assert "is not the table 'cells'" in sentence(lambda: read_table(path, "cells"))


def test_a_cell_that_stands_twice_is_named(store):
    published(store)
    store.gather(Grid.of(SUITE))
    path, stored = store.folder / "cells.parquet", store.folder / "suite.json"
    table, text = pq.read_table(path), stored.read_text()
    pq.write_table(pa.concat_tables([table, table]), path)
    assert "has a cell twice" in sentence(lambda: read_results(store.folder))
    pq.write_table(table, path)
    told = json.loads(text)
    write_text(stored, json.dumps(told | {"plan": [*told["plan"], told["plan"][0]]}))
    assert "its plan has a cell twice" in sentence(lambda: read_results(store.folder))


def test_a_name_that_is_no_utf8_is_named(store):
    published(store)
    store.gather(Grid.of(SUITE))
    path = store.folder / "training.parquet"
    path.write_bytes(path.read_bytes().replace(b"vae_loss", b"v\xe4e_loss"))
    assert sentence(lambda: read_results(store.folder)).startswith(f"{path}: cannot be read")


def test_a_suite_of_another_version_is_named(store):
    write_text(store.folder / "suite.json", '{"suite": {}, "plan": []}')
    message = sentence(lambda: read_results(store.folder))
    assert "was written by another version of benchbench" in message
    assert "update benchbench, or run the suite again" in message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan": []}'])
def test_a_damaged_suite_file_is_named(store, text):
    write_text(store.folder / "suite.json", text)
    message = sentence(lambda: read_results(store.folder))
    assert message.startswith(f"{store.folder / 'suite.json'}: is damaged")
    assert message.endswith("run the suite again")


def test_an_empty_folder_is_said_with_the_cure(tmp_path):
    assert "holds no results; make some with" in sentence(lambda: read_results(tmp_path))


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_described_and_every_table_names_its_cell(name):
    schema = SCHEMAS[name]
    for field in schema:
        assert len(field.metadata[b"description"]) > 5, field.name
    assert schema.names[:4] == ["key", "env", "seed", "variant"]
    assert schema.metadata[b"benchbench_format"] == b"1"
    assert len(set(schema.names)) == len(schema.names)


def test_a_row_with_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="the table 'training' has no column colour, vae_los"):
        to_table("training", [{"vae_los": 1.0, "colour": "red"}])


def test_results_passed_on_without_their_cells_are_gone_on_from(store):
    published(store, CELLS[:3])
    store.gather(Grid.of(SUITE))
    before = read_results(store.folder)
    shutil.rmtree(store.folder / "cells")
    (store.folder / "features.parquet").unlink()
    store.unpack(CELLS)
    assert [store.is_done(cell.key) for cell in CELLS] == [True] * 3 + [False] * (len(CELLS) - 3)
    published(store, CELLS[3:])
    store.gather(Grid.of(SUITE))
    after = read_results(store.folder)
    for name in ("cells", "evaluations", "training", "ledger"):
        kept = getattr(after, name)
        kept = kept[kept["key"].isin(before.cells["key"])]
        pd.testing.assert_frame_equal(kept, getattr(before, name))
    assert set(after.features["key"]) == {cell.key for cell in CELLS[3:]}


def test_a_cell_that_was_taken_away_to_be_run_again_stays_away(store):
    published(store)
    store.gather(Grid.of(SUITE))
    shutil.rmtree(store.cell_folder(CELLS[0].key))
    store.unpack(CELLS)
    assert not store.is_done(CELLS[0].key)
