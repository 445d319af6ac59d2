"""The Rates page's slices: what pruning costs on one kind of picture and on another."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from matplotlib.style import context

from analysis.figures import palette
from analysis.figures.output import DrawOptions, Product, RenderError
from analysis.figures.rates import slices as figure
from analysis.pages.parts import drawings, shell
from analysis.sources import evaluations, slices
from analysis.sources.collection import Collection
from analysis.sources.evaluations import Evaluation
from svit.system.text import escaped

COMMAND = (
    "svit evaluate --weights FILE --dataset JSON --image-root FOLDER "
    "--intervene learned,centre,shuffle --out results/NAME"
)


def show(found: Collection, key: tuple) -> None:
    """The view.

    Args:
        key: changes whenever a result does.
    """
    st.markdown("##### By kind of picture", help=shell.definition(figure.__doc__))
    groups = told(found, key)
    if not groups:
        message = "No evaluation here kept its matches and its table of images. This makes some:"
        shell.empty(message, COMMAND)
        return
    about = shell.choose_name("Images", "data", list(groups))
    try:
        products = drawn(groups[about], about, key)
    except RenderError as error:
        st.info(escaped(str(error)), icon=":material/info:")
        return
    for product in products:
        with st.container(border=True):
            shell.printed(drawings.picture(product), f"{product.name}: {about}", product.name)
            st.caption(
                escaped(
                    f"{about}. AP of the images of a slice alone; lines are paired 95 % intervals."
                )
            )
            shell.downloads(product.name, product.table, lambda product=product: product.figure)


@st.cache_data(max_entries=2, show_spinner=False)
def told(_found: Collection, key: tuple) -> dict[str, list[Evaluation]]:
    """By what they saw: the evaluations that are compared by slices."""
    groups = evaluations.data_groups(_found.results)
    compared = {about: slices.compared(group) for about, group in groups.items()}
    return {about: group for about, group in compared.items() if group}


@st.cache_resource(max_entries=4, show_spinner="Drawing the images of each slice anew")
def drawn(_group: Sequence[Evaluation], about: str, key: tuple) -> list[Product]:
    """A drawing a slice.

    Raises:
        RenderError: no model has another to be compared with.
    """
    with shell.drawing(), context(palette.STYLE):
        return list(figure.draw(Collection(results=_group), DrawOptions()))
