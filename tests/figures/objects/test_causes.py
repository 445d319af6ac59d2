"""Objects that are not found, beside what brings them back."""

from __future__ import annotations

import pytest
from matplotlib import style
from matplotlib.figure import Figure
from support.runs import write_misses

from analysis.figures import palette
from analysis.figures.objects import causes
from analysis.figures.output import DrawOptions, RenderError
from svit.runs.rescue import rescue_path, write_part
from svit.runs.run import RunWriter, open_run

NONE = float("nan")


def asked(run):
    """Answers: the first of three missed objects comes back, half of the draws bring it back, too."""
    facts = {"blocks": [4, 5], "draws": 2, "score": 0.5, "iou": 0.5, "kind": "box", "seed": 0}
    rows = [
        {
            **{"image_id": image_id, "object": 1, "before": NONE, "after": after, "added": 3},
            **{"random": [NONE, after], "random_added": [3, 3]},
        }
        for image_id, after in zip(run.image_ids, (0.8, NONE, NONE), strict=True)
    ]
    write_part(rescue_path(run.path, (4, 5)), {**facts, "created": run.created}, rows)
    return run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    sparse = asked(write_misses(folder / "sparse"))
    return sparse, write_misses(folder / "dense", "dense", find=True)


def test_groups_count_what_comes_back_beside_chance_and_the_dense_run(pair):
    table = causes.frame(*pair, score=0.3).set_index(["by", "group"])
    whole = table.loc[("all", "all")]
    assert whole[["objects", "found_there", "asked", "rescued", "chance"]].tolist() == [
        3,
        3,
        3,
        1,
        0.5,
    ]
    assert whole["difference"] == 0.5 and whole["low"] <= 0.5 <= whole["high"]
    assert (
        table.loc[("last", "4"), "objects"] == 3 and table.loc[("error", "missed"), "rescued"] == 1
    )
    assert ("class", "ball") in table.index
    assert causes.frame(pair[0], None, score=0.5)["found_there"].isna().all()


def test_a_line_a_group_shows_both_shares_and_the_dense_run(pair):
    with style.context(palette.STYLE):
        (product,) = causes.draw(pair, DrawOptions(score=0.3))
        table = causes.frame(*pair, score=0.3).query("by == 'all'")
        ax = causes.print(table, Figure().subplots(), other="dense")
    chance, own, *_, there, _ = (one.get_offsets()[:, 0].tolist() for one in ax.collections[1:])
    assert (own, chance, there) == ([pytest.approx(1 / 3)], [pytest.approx(1 / 6)], [1.0])
    ticks = {float(tick.get_text().rstrip("%")) for tick in ax.get_xticklabels()}
    assert ticks == {round(100 * place, 6) for place in ax.get_xticks()}
    assert ax.get_yticklabels()[0].get_text().startswith("all (3) +0.5 [")
    assert product.figure.subfigs[0].get_suptitle().startswith("sparse: 3 objects not found")
    assert set(product.table["by"]) == {"all", "error", "size", "last", "class"}


def test_runs_that_nobody_asked_about_are_refused_with_the_command(pair, tmp_path):
    for given in ([pair[1]], [write_misses(tmp_path / "other")]):
        with pytest.raises(RenderError, match="holds no.*svit evaluate --record RUN --rescue"):
            list(causes.draw(given, DrawOptions()))
    with pytest.raises(RenderError, match="asked about objects below 0.5, found 0.6"):
        list(causes.draw([pair[0]], DrawOptions(score=0.6)))


def test_a_slice_called_as_a_column_of_objects_is_a_group_beside_it(tmp_path):
    plain = write_misses(tmp_path / "plain")
    with RunWriter(tmp_path / "sliced", plain.provenance) as writer:
        for trace, found, target in plain.samples("trace", "detections", "target"):
            extra = {f"size={'wide' if trace.image_id == 1 else 'tall'}": 1.0}
            writer.add(trace, found, target.decoded(), extra=extra)
    table = causes.frame(asked(open_run(tmp_path / "sliced")), None, score=0.3)
    groups = set(map(tuple, table[["by", "group"]].to_numpy()))
    assert {("size (slice)", "wide"), ("size (slice)", "tall")} <= groups
    assert {group for by, group in groups if by == "size"} <= {"small", "medium", "large"}
