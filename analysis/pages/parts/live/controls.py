"""What a user of the Live page wants changed: the controls, as plain values; no model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd
import streamlit as st

from analysis.pages.parts import session
from analysis.pages.parts.live.parts import STATE_NAMES
from analysis.pages.parts.state import FIELDS, Mark, State
from svit.system.text import counted, escaped

TURN = "turn"  # session state: how often a selection was used
FRESH = ("marks", "dial", "forbid", "remove", "control", "lender")  # edits; without, none is made
TAB, OBJECT = "tab of edits", "Object"
DIALS = {"trained": "as trained", "shift": "threshold", "ratio": "keep ratio"}
CONTROLS = {
    "none": "none",
    "random": "random",
    "shuffle": "shuffled",
    "centre": "middle",
    "centre-square": "middle square",
}
UNDRAWN = ("none", "centre", "centre-square")
HELP = {
    "blocks": "Blocks in which brushed tokens and kept objects are changed.",
    "tokens": "Rows and columns from 1, as the map tells them: 3,4 is a token, 1-4,5 four of a column, "
    "1-4,5-8 a field; several with spaces between. Or click tokens in the map (shift adds more), or drag a "
    "field over them.",
    "shift": "Log-odds by which every gate's threshold moves: to the right fewer tokens are kept.",
    "ratio": "Every gated block gets the threshold at which this picture keeps the share: the base ratio in "
    "the first stage, then its powers as in training.",
    "forbid": "A token that a block left out stays out of all later blocks (the paper's ablation, 4.1).",
    "remove": "Pruned tokens become zero behind the block and never return (Table 2), instead of staying in "
    "the feature map as they are.",
    "object": "The tokens that show a part of the object's box stay on, whatever the gates say.",
    "lender": "Uses the masks that another model or recorded run decided on the same picture.",
    "control": "As many tokens in every block as the edits leave, at other places: what masks of this size "
    "do by chance. Random draws each block anew (once where tokens never come back), shuffled moves each "
    "token's life as a whole; middle takes what is nearest to the middle of the picture, disc or square.",
}


@dataclass(frozen=True)
class Wanted:
    """All choices.

    Attributes:
        dial: one of `DIALS`, with its value.
        lender: who lends masks, or "".
        control: one of `CONTROLS`, with the number of its draw.
    """

    dial: str = "trained"
    value: float = 0.0
    lender: str = ""
    marks: tuple[Mark, ...] = ()
    forbid: bool = False
    remove: bool = False
    control: str = "none"
    draw: int = 0


def open_on() -> None:
    """Chooses the tab that a visit opens on: Object where one was brought along. Call it before `panel`."""
    if session.arrived():
        brought = session.now().object != State.object
        st.session_state[TAB] = OBJECT if brought else None


def start_over() -> None:
    """Callback: no edits any more."""
    st.session_state[TURN] = turn() + 1
    session.change(**{name: FIELDS[name].default for name in FRESH})


def forget_places(key: tuple) -> None:
    """Selected and brushed tokens and lent masks belong to one picture and model: another `key` drops them,
    the brushed and lent unless an address brought them with it."""
    before = st.session_state.get("places of")
    st.session_state["places of"] = key
    if before in (None, key):
        return
    st.session_state[TURN] = turn() + 1
    if not session.addressed("marks"):
        session.change(marks=(), lender="")


def turn() -> int:
    """Part of the chart's key: a new one has no selection."""
    return int(st.session_state.get(TURN, 0))


def marks() -> tuple[Mark, ...]:
    """The marks of this viewer, in the order they act."""
    return session.now().marks


def _add(mark: Mark) -> None:
    session.change(marks=(*marks(), mark))
    st.session_state[TURN] = turn() + 1


def _drop(place: int) -> None:
    session.change(marks=(*marks()[:place], *marks()[place + 1 :]))


def panel(
    depth: int,
    first: int,
    chosen: Sequence[tuple[int, int]],
    valid_hw: tuple[int, int],
    objects: pd.DataFrame | None,
    lenders: Sequence[str],
    gates: bool,
) -> Wanted:
    """All controls in tabs.

    Args:
        depth: blocks of the model.
        first: first gated block, from 0.
        chosen: tokens selected in the grid.
        valid_hw: rows and columns of tokens.
        objects: `changes.change_frame` of the picture's ground truth; None without.
        lenders: who may lend masks.
        gates: whether the model has a threshold.
    """
    names = ["Brush", "Rate", "Rules", OBJECT, "Masks"]
    brush, rate, rules, rescue, borrow = st.tabs(names, default=st.session_state[TAB])
    wanted = Wanted(marks=())
    with brush:
        left, right = st.columns(2, gap="small")
        with left:
            blocks = choose_blocks(depth, first)
        with right:
            tokens = choose_tokens(chosen, valid_hw)
        brushing(blocks, tokens)
    with rate:
        wanted = dial(wanted, gates)
    with rules:
        wanted = rule(wanted)
    with rescue:
        rescuing(blocks, objects)
    with borrow:
        wanted = borrowing(wanted, lenders)
    return replace(wanted, marks=marks())


def choose_blocks(depth: int, first: int) -> tuple[int, ...]:
    """A range of blocks, counted from 1."""
    low, high = session.recalled("blocks", (first + 1, depth))
    if "blocks" not in st.session_state:
        st.session_state["blocks"] = (min(low, depth), min(high, depth))
    low, high = st.slider("Blocks to edit", 1, depth, key="blocks", help=HELP["blocks"])
    session.remember(blocks=(low, high))
    return tuple(range(low, high + 1))


def choose_tokens(
    chosen: Sequence[tuple[int, int]], valid_hw: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """Tokens selected in the grid and those typed."""
    text = st.text_input(
        "Tokens", key=f"typed {turn()}", placeholder="1-4,5 8,2-9", help=HELP["tokens"]
    )
    try:
        return tuple(sorted({*chosen, *typed(text, valid_hw)}))
    except ValueError as error:
        st.caption(f":material/block: {escaped(str(error))}")
        return tuple(chosen)


def brushing(blocks: tuple[int, ...], tokens: tuple[tuple[int, int], ...]) -> None:
    """Buttons that turn the chosen tokens, or all, on or off."""
    with st.container(horizontal=True, gap="small"):
        for label, on in (("Turn on", True), ("Turn off", False)):
            mark = Mark(blocks, on, tokens)
            st.button(label, on_click=_add, args=(mark,), disabled=not tokens)
        for label, on in (("All on", True), ("All off", False)):
            st.button(label, on_click=_add, args=(Mark(blocks, on),), type="tertiary")
    said = f"{counted(len(tokens), 'tokens')} selected" if tokens else "Select tokens in the map"
    st.caption(said)


def typed(text: str, valid_hw: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Tokens by row and column from 1, each a number or a range: "3,4", "1-4,5" (four of a column).

    Args:
        valid_hw: rows and columns that there are.

    Raises:
        ValueError: another text, or a token that the picture does not have.
    """
    for part in text.replace(";", " ").split():
        found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?,(\d{1,5})(?:-(\d{1,5}))?", part)
        if found is None:
            raise ValueError(f"expected row,column as 3,4 or 1-4,5; found {part[:40]!r}")
        ends = [int(found[index] or found[index - 1]) for index in (1, 2, 3, 4)]
        rows, columns = valid_hw
        if min(ends) < 1 or ends[1] > rows or ends[3] > columns:
            raise ValueError(f"{part}: there are rows 1 to {rows} and columns 1 to {columns}")
        yield from product(range(ends[0] - 1, ends[1]), range(ends[2] - 1, ends[3]))


def dial(wanted: Wanted, gates: bool) -> Wanted:
    """How much is kept: as trained, by a moved threshold, or by a share."""
    session.restore("dial", "trained", DIALS)
    chosen = st.segmented_control("Rate", list(DIALS), format_func=DIALS.get, key="dial")
    chosen = chosen or "trained"
    session.remember(dial=chosen)
    if not gates and chosen == "shift":
        st.caption("This model compares no score with a threshold.")
    value = 0.0
    if chosen == "shift":
        session.restore("shift", 0.0, within=(-4.0, 4.0))
        value = st.slider("Threshold", -4.0, 4.0, step=0.05, key="shift", help=HELP["shift"])
        session.remember(shift=value)
    if chosen == "ratio":
        session.restore("ratio", 0.7, within=(0.05, 1.0))
        value = st.slider("Base keep ratio", 0.05, 1.0, step=0.05, key="ratio", help=HELP["ratio"])
        session.remember(ratio=value)
    return replace(wanted, dial=chosen, value=value)


def rule(wanted: Wanted) -> Wanted:
    """What may become of pruned tokens."""
    for name, label in (
        ("forbid", "Forbid reactivation"),
        ("remove", "Remove instead of preserve"),
    ):
        session.restore(name, False)
        on = st.toggle(label, key=name, help=HELP[name])
        session.remember(**{name: on})
        wanted = replace(wanted, **{name: on})
    return wanted


def rescuing(blocks: tuple[int, ...], objects: pd.DataFrame | None) -> None:
    """Keeps the tokens of an annotated object, missed ones first."""
    if objects is None or not len(objects):
        st.caption("This picture comes without objects annotated in the model's classes.")
        return
    order = objects["state"].map({"missed": 0, "lost": 1, "gained": 2, "kept": 3})
    rows = objects.assign(order=order).sort_values("order", kind="stable").set_index("object")

    def label(place: int) -> str:
        row = rows.loc[place]
        corner = f"at {row['left']:.0f}, {row['top']:.0f}"
        return f"{row['class']} {corner}, {STATE_NAMES[row['state']]}"

    places = rows.index.tolist()
    first = session.recalled("object", places[0], places)
    place = st.selectbox(
        "Object",
        places,
        index=places.index(first),
        format_func=label,
        key="object to keep",
        help=HELP["object"],
    )
    row = rows.loc[place]
    box = tuple(float(row[side]) for side in ("left", "top", "right", "bottom"))
    mark = Mark(blocks, True, None, box, str(row["class"]))
    st.button("Keep its tokens", icon=":material/shield:", on_click=_add, args=(mark,))


def borrowing(wanted: Wanted, lenders: Sequence[str]) -> Wanted:
    """Masks of others, and masks by chance."""
    options = ["", *lenders]
    session.restore("lender", "", options)
    lender = st.selectbox(
        "Transplant the masks of",
        options,
        format_func=lambda one: one or "nobody",
        key="lender",
        help=HELP["lender"],
    )
    session.remember(lender=lender)
    session.restore("control", "none", CONTROLS)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    control = left.segmented_control(
        "Control at equal counts",
        list(CONTROLS),
        format_func=CONTROLS.get,
        key="control",
        help=HELP["control"],
    )
    control = control or "none"
    session.remember(control=control)
    session.restore("draw", 0, within=(0, 999))
    draw = right.number_input("Draw", 0, 999, key="draw", disabled=control in UNDRAWN)
    session.remember(draw=int(draw))
    return replace(wanted, lender=lender, control=control, draw=int(draw))


def list_edits(sentences: Sequence[str], first_mark: int) -> None:
    """The edits in the order they act, brushed ones with a button that takes them back.

    Args:
        first_mark: place of the first brushed one among the sentences.
    """
    if not sentences:
        st.caption("No edits: before and after are the same forward, bit for bit.")
        return
    for place, sentence in enumerate(sentences):
        left, right = st.columns([9, 1], vertical_alignment="center")
        left.markdown(f"{place + 1}\\. {escaped(sentence)}")
        mark = place - first_mark
        if 0 <= mark < len(marks()):
            right.button(
                "",
                icon=":material/close:",
                key=f"drop {mark}",
                on_click=_drop,
                args=(mark,),
                type="tertiary",
                help="Take this edit back",
            )
    st.button("Start over", icon=":material/undo:", on_click=start_over, type="tertiary")
