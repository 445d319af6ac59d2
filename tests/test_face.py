"""The face of the package: every name a user needs, from one address, without torch until one is touched."""

from __future__ import annotations

import subprocess
import sys

import pytest

import svit


@pytest.mark.parametrize("name", svit.__all__)
def test_every_name_of_the_face_is_there_and_documented_in_its_head(name: str) -> None:
    assert getattr(svit, name) is not None
    assert name == "__version__" or name in (svit.__doc__ or "")


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'svit' has no attribute 'evalute'"):
        _ = svit.evalute


@pytest.mark.parametrize(
    "touched", ["", "svit.open_run, svit.RunWriter, svit.TokenTrace, svit.load_config, dir(svit)"]
)
def test_neither_the_face_nor_its_torch_free_names_load_torch(touched: str) -> None:
    code = f"import sys, svit; _ = ({touched}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
