"""The Image page on videos: the frame slider and what it leaves as it is."""

from __future__ import annotations

import pytest
from support.driven import open_page, texts
from support.runs import write_run, write_videos


@pytest.fixture
def app(monkeypatch):
    return lambda folder, **query: open_page(monkeypatch, "image", folder, **query)


def slider(page):
    return next(one for one in page.select_slider if one.label.startswith("Frame of video"))


def test_the_slider_leads_through_the_video_of_the_image(app, tmp_path) -> None:
    write_videos(tmp_path / "videos")
    page = app(tmp_path, image="11")
    assert not page.exception and slider(page).label == "Frame of video b"
    assert slider(page).value == 1
    page.slider(key="block").set_value(9).run()
    slider(page).set_value(3).run()
    assert not page.exception and page.subheader[0].value == "Image 13"
    assert slider(page).value == 3 and page.slider(key="block").value == 9
    page.selectbox(key="image").set_value(2).run()
    assert slider(page).label == "Frame of video a" and slider(page).value == 2


def test_a_run_of_a_method_with_state_says_what_unused_tokens_are(app, tmp_path) -> None:
    write_videos(tmp_path / "videos")
    assert "carries state from frame to frame" in texts(app(tmp_path))


@pytest.mark.parametrize("frames", [None, 1])
def test_pictures_and_videos_of_one_frame_have_no_slider(app, tmp_path, frames) -> None:
    if frames is None:
        write_run(tmp_path / "pictures")
    else:
        write_videos(tmp_path / "videos", frames=frames)
    page = app(tmp_path)
    assert not page.exception
    assert not [one for one in page.select_slider if one.label.startswith("Frame")]
