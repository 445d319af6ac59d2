"""A page of the app driven headless, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]


def open_page(patch: pytest.MonkeyPatch, page: str, *folders: Path, **query: str) -> AppTest:
    """A page of the app on folders of runs, with the query parameters of a link."""
    patch.setattr(sys, "argv", ["app.py", "--runs", *map(str, folders)])
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.switch_page(f"analysis/pages/{page}.py")
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def texts(app: AppTest) -> str:
    """All that the page says in words."""
    kinds = (
        "markdown",
        "caption",
        "subheader",
        "text",
        "code",
        "title",
        "error",
        "info",
        "warning",
    )
    return "\n".join(item.value for kind in kinds for item in app.get(kind))


def linked(app: AppTest, name: str) -> str:
    """A query parameter of the address; Streamlit gave lists to tests once."""
    value = app.query_params[name]
    return value if isinstance(value, str) else value[-1]


def charts(app: AppTest) -> list[str]:
    """The specifications of the charts, as text, in order."""
    return [item.proto.spec for item in app.get("vega_lite_chart")]


def sent_ahead(app: AppTest) -> list[str]:
    """Styles that paint pictures in the place of a chart or picture."""
    return [item.proto.body for item in app.get("html") if "::before" in item.proto.body]


def rows_of(app: AppTest, number: int) -> int:
    """How many bytes of rows the chart of a number shows; other rows, another count or content."""
    return hash(app.get("vega_lite_chart")[number].proto.data.data)
