"""The least that Streamlit can show with a chart; `app_speed` opens it in turn with the app's pages."""

from __future__ import annotations

import streamlit as st

st.set_page_config("Bare", layout="wide")
points = {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]}
axes = {axis: {"field": axis, "type": "quantitative"} for axis in ("x", "y")}
st.vega_lite_chart(spec={"data": points, "mark": "point", "encoding": axes})
