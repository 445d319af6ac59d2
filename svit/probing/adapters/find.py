"""Which modules of a model are its transformer blocks, by an adapter or by their look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from svit.probing.adapters import detectron2_vitdet, huggingface, timm
from svit.probing.adapters.host import Host, HostError

ADAPTERS = (timm.host, huggingface.host, detectron2_vitdet.host)
Blocks = str | Sequence[str | nn.Module]


def host_of(model: nn.Module, blocks: Blocks = "auto") -> Host:
    """The host that a model is or holds.

    Args:
        blocks: "auto", a pattern of dotted names (`backbone.blocks.*`), or names or modules in order.

    Raises:
        HostError: no blocks, several lists of them, or a model that is traced or compiled.
    """
    _refuse_compiled(model)
    known = [host for name, module in model.named_modules() for host in _adapted(name, module)]
    if blocks != "auto":
        return _with_blocks(_named(model, blocks), known)
    if len(known) == 1:
        return known[0]
    found = [host.blocks for host in known] or list(_lists_of_blocks(model))
    if not found:
        raise HostError(
            f"no transformer blocks found in {type(model).__name__}: name them, as "
            'blocks="backbone.blocks.*" (model.named_modules() lists the names)'
        )
    if len(found) > 1:
        told = ", ".join(f"{_pattern(names)} ({len(names)} blocks)" for names in found)
        raise HostError(
            f'several lists of blocks found: {told}: name one, as blocks="{_pattern(found[0])}"'
        )
    return Host("unknown", "", found[0])


def _adapted(name: str, module: nn.Module) -> Iterator[Host]:
    yield from filter(None, (adapter(name, module) for adapter in ADAPTERS))


def _refuse_compiled(model: nn.Module) -> None:
    for name, module in model.named_modules():
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        if compiled or isinstance(module, (torch.jit.ScriptModule, torch.fx.GraphModule)):
            what = "compiled" if compiled else "traced"
            raise HostError(
                f"{name or type(model).__name__} is {what}: hooks see nothing inside it; attach to the model "
                f"as it was before it was {what}"
            )


def _named(model: nn.Module, blocks: Blocks) -> tuple[str, ...]:
    """Dotted names of the blocks that were asked for."""
    names = {module: name for name, module in model.named_modules()}
    if isinstance(blocks, str):
        depth = blocks.count(".")
        found = [
            name
            for name in names.values()
            if name.count(".") == depth and fnmatchcase(name, blocks)
        ]
    else:
        found = [one if isinstance(one, str) else names.get(one) for one in blocks]
    if not found or any(name not in set(names.values()) for name in found):
        raise HostError(
            f"blocks={blocks!r} names no modules of {type(model).__name__}: "
            "model.named_modules() lists the names"
        )
    return tuple(found)


def _with_blocks(names: tuple[str, ...], known: Iterable[Host]) -> Host:
    """The host whose blocks these are, or an unknown one."""
    for host in known:
        if set(names) <= set(host.blocks):
            places = [host.blocks.index(name) for name in names]
            return replace(host, blocks=names, windows=tuple(host.windows[at] for at in places))
    return Host("unknown", "", names)


def _lists_of_blocks(model: nn.Module) -> Iterator[tuple[str, ...]]:
    """Outermost lists of at least two modules of one class that hold attention."""
    taken: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or len(module) < 2:
            continue
        alike = len({type(block) for block in module}) == 1
        inside = any(name.startswith(f"{other}.") for other in taken)
        if alike and not inside and _attends(module[0]):
            taken.append(name)
            yield tuple(f"{name}.{child}" for child, _ in module.named_children())


def _attends(block: nn.Module) -> bool:
    return any("attn" in name or "attention" in name for name, _ in block.named_modules())


def _pattern(names: Sequence[str]) -> str:
    return f"{names[0].rpartition('.')[0]}.*"


def patch_embedding(model: nn.Module, host: Host) -> nn.Conv2d:
    """The convolution that cuts pictures into patches: as wide as its steps, 1 to 4 channels in.

    Raises:
        HostError: there is none, or several.
    """
    place = host.trunk if host.known else host.blocks[0].rpartition(".")[0]
    while True:  # from the blocks' list upwards
        found = [one for one in model.get_submodule(place).modules() if _cuts(one)]
        if found or not place:
            break
        place = place.rpartition(".")[0]
    if len(found) == 1:
        return found[0]
    told = "no patch embedding" if not found else f"{len(found)} patch embeddings"
    raise HostError(
        f"{told} found beside {_pattern(host.blocks)}: give the grid, as grid=(rows, columns) or "
        "grid=lambda pictures: (pictures.shape[-2] // 16, pictures.shape[-1] // 16)"
    )


def _cuts(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels <= 4
        and module.stride == module.kernel_size
        and module.stride[0] == module.stride[1] > 1
    )
