"""The one place that reads and writes the view: a viewer's `State` in the session, widgets and address.

A page calls `restore` before a widget whose key is a field of `State`, and `remember` after it. `arrive`
and `publish` stand around every run of a page (app.py); a fragment ends with `publish`.

An address comes from a link, or from Back and Forward. One that this session wrote stands for the state it
was written of; of any other what it lacks stays as it was. Between a touch and the browser's new address
an old one may still arrive: where a widget was touched, the address is not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import urlencode

import streamlit as st

from analysis.pages.parts import state as states
from analysis.pages.parts.state import FIELDS, State, spoken
from svit.system.text import escaped

Option = TypeVar("Option")

PAGE = "page on show"
STATE = "state of the view"
LINKED = "fields of a link"  # not looked at yet by the page
ADDRESSED = "fields of the address"  # that led to this run
WRITTEN, LAST = "addresses written", "address written last"  # page and query -> state
TOUCHED, RUNNING = "touched by a callback", "whole page runs"
ARRIVED = "page was opened"  # by this run
BARE = "state at a bare address"  # that Back led to
REMEMBERED = 200  # addresses that Back finds again


def now() -> State:
    """What this viewer sees."""
    return st.session_state.setdefault(STATE, State())


def arrive(page: str) -> None:
    """Begins a run of a page: takes over what the address says, if a link, Back or Forward led here."""
    session, query = st.session_state, st.query_params.to_dict()
    address, before = _address(page, query), session.get(PAGE)
    session[PAGE], session[RUNNING], session[LINKED], session[ADDRESSED] = page, True, set(), set()
    session[ARRIVED] = page != before
    session.pop(BARE, None)  # of a run that another one cut short
    known = session.setdefault(WRITTEN, {})
    if page != before:  # Streamlit hands a key on to a page that has one of this name, but no value
        _forget(FIELDS)
    elif address == session.get(LAST) or _touched():
        return
    elif not query:
        session[BARE] = now()
    if not query:
        return
    if address in known:
        values = {name: getattr(known[address], name) for name in states.of_page(page)}
    else:
        values, said = states.from_query(query)
        for sentence in said:
            st.warning(escaped(sentence))
        session[LINKED] = set(values)
    session[STATE], session[ADDRESSED] = states.changed(now(), **values), set(values)
    _forget(values)


def arrived() -> bool:
    """Whether another page was on show before this run."""
    return bool(st.session_state.get(ARRIVED))


def addressed(name: str) -> bool:
    """Whether the address that led to this run says anything about a field."""
    return name in st.session_state.get(ADDRESSED, set())


def _address(page: str, query: dict[str, str]) -> str:
    return f"{page}?{urlencode(sorted(query.items()))}"


def _forget(names: Iterable[str]) -> None:
    """Widgets of these fields get their value from the state again."""
    for name in names:
        st.session_state.pop(name, None)


def _touched() -> bool:
    """Whether the viewer touched a widget since the last run."""
    session = st.session_state
    if session.get(TOUCHED):
        return True
    known = {name: value for name, value in vars(now()).items() if value is not None}
    return any(
        session.get(name) is not None and _plain(session[name]) != _plain(value)
        for name, value in known.items()
    )


def _plain(value: object) -> str:
    """For comparing what a widget holds with what the state does."""
    return str(tuple(value) if isinstance(value, list) else value)


def publish() -> None:
    """Writes the address of what is shown; in a whole run only its end does."""
    session = st.session_state
    if session.get(RUNNING):
        return
    page = session[PAGE]
    query = states.to_query(now(), page)
    known = session[WRITTEN]
    session[LAST], session[TOUCHED] = _address(page, query), False
    known.pop(session[LAST], None)
    known[session[LAST]] = now()
    while len(known) > REMEMBERED:
        known.pop(next(iter(known)))
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


def leave() -> None:
    """Ends a run of a page.

    Back to the bare address of a page, which the menu wrote, shows the page as it was and writes nothing: at
    a second press the browser would already be elsewhere, and what this run writes would land there.
    """
    st.session_state[RUNNING] = False
    if st.session_state.pop(BARE, None) != now():
        publish()


def remember(**values: object) -> None:
    """Takes values of fields into the state; the widgets of fields that these drop begin anew."""
    before, after = now(), states.changed(now(), **values)
    st.session_state[STATE] = after
    others = FIELDS.keys() - values.keys()
    _forget(name for name in others if getattr(before, name) != getattr(after, name))


def change(**values: object) -> None:
    """As `remember`, for callbacks: the widgets of these fields show the values, too."""
    remember(**values)
    _forget(values)
    st.session_state[TOUCHED] = True


def recalled(
    name: str,
    default: Option,
    among: Iterable[Option] | None = None,
    within: tuple[float, float] | None = None,
) -> Option:
    """What the state holds under `name`, or else `default`.

    Args:
        among: the values allowed; the state names one by its `str`. Wrong ones are passed over, with a note
            on the page where they came from a link.
        within: smallest and largest number allowed, likewise.
    """
    value: Any = getattr(now(), name)
    if value is None:
        return default
    if among is not None:
        known = {str(option): option for option in among}
        if str(value) in known:
            return known[str(value)]
    elif within is None or within[0] <= value <= within[1]:
        return value
    object_to(name, "which is not here")
    return default


def recalled_token(shape: tuple[int, int]) -> tuple[int, int] | None:
    """Row and column of the chosen token, if an image of so many rows and columns has it."""
    token, (rows, columns) = now().token, shape
    if token is None or (token[0] < rows and token[1] < columns):
        return token
    object_to("token", f"but the image has rows 1 to {rows} and columns 1 to {columns}")
    return None


def object_to(name: str, why: str, text: str = "") -> None:
    """Says on the page that a link asks for what it cannot show; of a value from elsewhere says nothing.

    Args:
        text: what it asks for, where that is not all that the field holds.
    """
    linked = st.session_state.get(LINKED, set())
    if name in linked:
        linked.discard(name)
        said = escaped((text or states.text_of(name, getattr(now(), name)))[:80])
        st.warning(f"The link asks for {spoken(name)} “{said}”, {why}.")


def restore(
    name: str,
    default: Option,
    among: Iterable[Option] | None = None,
    within: tuple[float, float] | None = None,
) -> None:
    """Gives the widget of key `name` its recalled value, unless it has a possible one already.

    Call it before the widget, and `remember` after it. Arguments as `recalled`.
    """
    among = None if among is None else list(among)
    known = name in st.session_state
    if not known or (among is not None and st.session_state[name] not in among):
        st.session_state[name] = recalled(name, default, among, within)


def share() -> None:
    """A button in the sidebar that shows the link of the view, and says what it cannot hold."""
    about = "The address of this view, to be copied. What it cannot hold is said there."
    if st.sidebar.button("Link to this view", icon=":material/link:", type="tertiary", help=about):
        _show_link()


@st.dialog("Link to this view")
def _show_link() -> None:
    page = st.session_state[PAGE]
    query = urlencode(states.to_query(now(), page))
    st.code(f"{st.context.url or ''}?{query}", language=None, wrap_lines=True)
    for sentence in states.left_behind(now(), page):
        st.warning(sentence, icon=":material/link_off:")
    st.caption("It opens wherever this app is reached and shows the same folders of runs.")


def whole(page: str, query: dict[str, str]) -> None:
    """Makes a link of a page to one of all of its view: what it does not name is not chosen there."""
    values, _ = states.from_query(query)
    st.session_state[WRITTEN].setdefault(_address(page, query), State(**values))


def link(**values: object) -> dict[str, str]:
    """Query parameters of a link within the app: these fields, all else stays as it is."""
    given = {name: value for name, value in values.items() if value is not None}
    return {name: states.text_of(name, value) for name, value in given.items()}
