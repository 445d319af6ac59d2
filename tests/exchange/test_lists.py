"""Kept indices and groups that others list: what forms mean, and what cannot be meant is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svit.core.types import TokenTrace
from svit.exchange.lists import ListsError, numbered, read_lists

HW = (40, 60)  # of the picture
GRID = {"grid": [2, 3], "file_name": "a.jpg"}


def trace(tmp_path: Path, **entry: object) -> TokenTrace:
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"images": [{**GRID, **entry}]}))
    return read_lists(path).trace(0, "a.jpg", HW)


def kept(found: TokenTrace) -> list[list[int]]:
    return [np.flatnonzero(layer).tolist() for layer in found.keep]


def test_indices_count_row_by_row_and_null_keeps_all(tmp_path: Path) -> None:
    found = trace(tmp_path, keep=[None, [5, 0], []])
    assert kept(found) == [[0, 1, 2, 3, 4, 5], [0, 5], []]
    assert found.keep[1, 1, 2] and found.grid.image_hw == HW and found.grid.resized_hw == (32, 48)


def test_tokens_of_class_and_text_are_left_out_where_it_is_said_where_the_image_begins(
    tmp_path: Path,
) -> None:
    assert kept(trace(tmp_path, first=35, keep=[[0, 34, 35, 40, 41, 99]])) == [[0, 5]]
    with pytest.raises(
        ListsError, match="image 1 .'a.jpg'.*layer 1: index 6 is none of 6.*`first`"
    ):
        trace(tmp_path, keep=[[0, 6]])


def test_relative_indices_count_what_the_layer_before_kept(tmp_path: Path) -> None:
    found = trace(tmp_path, relative=True, keep=[None, [1, 3, 5], [2, 0], [1]])
    assert kept(found) == [[0, 1, 2, 3, 4, 5], [1, 3, 5], [1, 5], [5]]
    with pytest.raises(ListsError, match="layer 3: index 2 is none of 2 tokens"):
        trace(tmp_path, relative=True, keep=[None, [1, 3], [2]])


def test_a_token_is_used_carried_or_dropped_by_its_group(tmp_path: Path) -> None:
    found = trace(tmp_path, group=[None, [0, 0, 2, 2, -1, 5]])
    assert kept(found) == [[0, 1, 2, 3, 4, 5], [0, 2, 5]]
    assert np.flatnonzero(found.carried[1]).tolist() == [1, 3]
    both = trace(tmp_path, group=[[0, 0, 2, 2, 4, 5]], keep=[[0, 2]])
    assert kept(both) == [[0, 2]] and np.flatnonzero(both.carried[0]).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"keep": [[0, 0]]}, "an index stands there twice"),
        ({"keep": [[0.5]]}, "whole numbers"),
        ({"keep": [["a"]]}, "whole numbers"),
        ({"keep": 3}, "an entry a layer"),
        ({"keep": []}, "an entry a layer"),
        ({}, "expected `keep` or `group`"),
        ({"keep": [None], "grid": [2]}, "`grid` as two whole numbers"),
        ({"keep": [None], "resized": [90, 90]}, "a grid"),
        ({"keep": [None], "patch": 0}, "resized_hw as two positive numbers"),
        ({"group": [[0, 0, 1, 3, 4, 5]]}, "a carrier that another token carries"),
        ({"group": [[0, 1]]}, "expected 6 whole numbers"),
        (
            {"group": [None, [-1, 0, 2, 3, 4, 5]]},
            r"`group` of layer 2: .*token 1 carried by 0, which is dropped",
        ),
        ({"group": [[-1, 0, 2, 3, 4, 5]], "keep": [[2]]}, "token 1 carried by 0, which is dropped"),
        ({"group": [[0, 1, 2, 3, 4, 6]]}, "carriers from 0 to 5"),
        ({"group": [None, None], "keep": [None]}, "`keep` has 1 layers and `group` 2"),
        ({"group": [[0, 0, 2, 3, 4, 5]], "keep": [None]}, "a used token that another one carries"),
        ({"keep": [None], "scores": [[1, 2]]}, "expected 6 numbers"),
        ({"keep": [None], "scores": [[1, 2, 3, 4, 5, 7e4]]}, "beyond 65504.*found 70000"),
        ({"keep": [[0]], "relative": True, "first": 1}, "leave `first` out"),
        ({"keep": [[0]], "relative": "false"}, "`relative` as true or false"),
        ({"keep": [[0]], "first": 0.5}, "`first` as a whole number"),
        ({"keep": [[0]], "patch": 14.5}, "`patch` as a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, entry: dict, words: str
) -> None:
    with pytest.raises(ListsError, match=f"lists.json, image 1 .'a.jpg'.*{words}"):
        trace(tmp_path, **entry)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([0.7, 0.5], "2 `targets`, and image 1 has 3 layers: give one a layer"),
        ([70, 50, 50], "above 0 and at most 1, found"),
        (["a", "b", "c"], "above 0 and at most 1, found"),
        (0.7, "above 0 and at most 1, found 0.7"),
    ],
)
def test_targets_of_some_layers_or_in_per_cent_are_not_taken_for_shares_of_the_first(
    tmp_path: Path, targets: object, words: str
) -> None:
    path = tmp_path / "lists.json"
    keep = {**GRID, "images": [{"file_name": "a", "keep": [None, [1], [1]]}]}
    path.write_text(json.dumps({**keep, "targets": targets}))
    with pytest.raises(ListsError, match=words):
        read_lists(path)
    path.write_text(json.dumps({**keep, "targets": [1, 0.7, 0.5]}))
    assert read_lists(path).facts["targets"] == [1, 0.7, 0.5]


def test_entries_nobody_knows_and_files_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    for text, words in (
        ("[1]", "a list `images`"),
        ("{", "neither json nor npz"),
        (
            '{"images": [{"file_name": "a", "kept": []}]}',
            "does not know 'kept'; entries are method",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ListsError, match=words):
            read_lists(path)
    with pytest.raises(ListsError, match="nowhere.json: No such file"):
        read_lists(tmp_path / "nowhere.json")
    path.write_text('{"images": [{"file_name": "a"}, {"file_name": "a"}]}')
    with pytest.raises(ListsError, match="image 2 .'a'.: expected an id of its own"):
        list(numbered(read_lists(path)))


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=3))
def test_lists_of_indices_and_arrays_of_masks_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, masks: list[list[bool]]
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    whole = np.array(masks)
    np.savez(folder / "a.npz", file_name=["a.jpg"], grid=[2, 3], keep=whole[None])
    indices = [np.flatnonzero(mask).tolist() for mask in whole]
    (folder / "a.json").write_text(json.dumps({**GRID, "images": [{"keep": indices}]}))
    found = [read_lists(folder / f"a.{kind}").trace(0, 1, HW) for kind in ("npz", "json")]
    assert np.array_equal(found[0].keep, found[1].keep)
    assert np.array_equal(found[0].keep.reshape(len(masks), 6), whole)


def test_arrays_of_groups_and_scores_are_read(tmp_path: Path) -> None:
    group = np.array([[[0, 0, 2, 3, 4, 5]], [[0, 1, 2, 3, 4, 4]]])
    scores = np.arange(12.0).reshape(2, 1, 6)
    path = tmp_path / "b.npz"
    np.savez(
        path,
        file_name=["a.jpg", "b.jpg"],
        id=[7, 8],
        group=group,
        scores=scores,
        grid=[2, 3],
        patch=8,
    )
    lists = read_lists(path)
    assert list(numbered(lists)) == [(0, 7), (1, 8)]
    second = lists.trace(1, 8, HW)
    assert kept(second) == [[0, 1, 2, 3, 4]] and second.grid.patch == 8
    assert second.scores[0].ravel().tolist() == list(range(6, 12))
    np.savez(path, file_name=["a.jpg", "b.jpg"], keep=group[:1] > 0, grid=[2, 3])
    with pytest.raises(ListsError, match="as many rows in keep"):
        read_lists(path)
