"""Interventions: what a detector loses when its masks are replaced, by edits of the probes.

AP alone cannot tell whether masks mean anything: small models may not need their blocks at all
(training.md). So AP with the learned masks is set beside AP with

    learned   the masks as the method decides them;
    random    in every layer as many tokens as learned, at positions drawn anew for each layer; for
              masks whose tokens never come back, drawn once an image for all layers;
    shuffle   the learned masks with their positions permuted: one permutation an image for all
              layers, so each token's life over the layers stays, at another place;
    invert    in every layer as many tokens as learned, those with the lowest scores;
    oracle    in every layer as many tokens as learned, those that objects of the ground truth cover
              most; between equal ones where an outline passes, then by one draw an image;
    centre    in every layer as many tokens as learned, those nearest to the middle of the picture
              (Euclid: discs); centre-square by the larger of both distances (Chebyshev: squares);
    off       gated blocks use no token: they are skipped;
    on        gated blocks use every token.

random, shuffle, invert, oracle and centre keep the number of tokens of each image and layer exactly, and that
of its image (valid) and padding tokens separately (`svit.probing.equal_counts`). A control may do what the
masks do that it replaces: where those never call a token back (`Traits.reactivates`), random does not either,
and shuffle, oracle and centre never do on masks that only shrink. A token that a model removes is gone
whoever decided, so there random draws once an image, too, and invert is refused. Behind a block that drops
tokens for good and is not named no control is made of some blocks. Of a model that merges tokens, random and
shuffle move groups with their carriers; under oracle and centre every token goes to the nearest of as many
carriers; off prunes and on leaves every token by itself. The learned masks they start from are decided in a
forward of their own, before any edit, so the counts are those of the unedited model. They may be decided by
another model (`source`): its masks are transplanted, which also tells whether masks help a model that was
never trained with any. Every draw depends on the seed and the image's id alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from svit.data.samples import Sample
from svit.detectors.base import Detector
from svit.probing.apply_edits import applied
from svit.probing.edits import Brush, Edit, EditError, nests
from svit.probing.equal_counts import CONTROLS, Control
from svit.pruning.base import Method
from svit.system.text import blocks

INTERVENTIONS = (*CONTROLS, "off", "on")


@contextmanager
def intervene(
    detector: Detector,
    name: str,
    samples: Sequence[Sample],
    *,
    layers: Sequence[int] | None = None,
    source: Detector | None = None,
) -> Iterator[None]:
    """Inside the `with`, `detector.predict(samples)` runs on changed masks; the seed is the detector's.

    Args:
        name: one of `INTERVENTIONS`; the head of this file says what each does.
        layers: zero-based blocks it may change; None is `gated_layers`.
        source: the model whose masks are changed; None is the detector itself.

    Raises:
        EditError: an unknown name, blocks where no gate decides, masks of a model that prunes nothing or
            has other blocks or tokens, no scores to invert, or no ground truth for the oracle.
    """
    edits = intervention(name, source or detector, layers)
    if name == "learned" and source is None:  # the plain model
        yield
        return
    with applied(detector, samples, edits, lender=source):
        yield


def intervention(
    name: str, chooser: Detector, layers: Sequence[int] | None = None
) -> tuple[Edit, ...]:
    """The edits that a name stands for.

    Args:
        chooser: the model whose masks are changed.
        layers: zero-based blocks; None is `gated_layers`.

    Raises: EditError as `intervene`, as far as no image is needed to tell.
    """
    if name not in INTERVENTIONS:
        raise EditError(f"intervention: expected one of {', '.join(INTERVENTIONS)}, found {name!r}")
    where = intervened_layers(chooser, layers)
    if name in ("off", "on"):
        return (Brush(where, None, name == "on", padding=True),)
    if name != "learned" and min(chooser.backbone.method.target_ratios()) >= 1:
        raise EditError(
            f"{name} needs learned masks and {chooser.config.name!r} prunes nothing; name a pruned "
            "model that lends its masks (--masks-from FILE)"
        )
    return (Control(name, layers=where),)


def draws_once(name: str, chooser: Detector, detector: Detector) -> bool:
    """Whether an intervention draws one set of positions for all layers where it would else draw them anew.

    Args:
        chooser: the model whose masks are changed.
        detector: the one that runs on them.
    """
    if name != "random":
        return False
    return not detector.backbone.method.traits.preserves or nests(chooser.backbone.method)


def intervened_layers(chooser: Detector, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The zero-based blocks that an intervention changes.

    Raises:
        EditError: there are none, or in one of them no gate decides, so that nothing would be measured.
    """
    gated = gated_layers(chooser.backbone.method)
    wanted = gated if layers is None else sorted(set(layers))
    wrong = [layer for layer in wanted if layer not in gated]
    if wrong or not wanted:
        raise EditError(
            f"expected blocks where a gate of {chooser.config.name!r} decides, {blocks(gated)}; "
            f"found {blocks(wrong) if wrong else 'none'}"
        )
    return tuple(wanted)


def gated_layers(method: Method) -> list[int]:
    """Zero-based blocks with a target below 1; of a method that prunes nothing, those the paper gates:
    all after the first quarter."""
    found = [layer for layer, ratio in enumerate(method.target_ratios()) if ratio < 1]
    return found or list(range(method.depth // 4, method.depth))
