"""Networks of torch on a device: transfers that overlap with its computing, and less at a time where its memory does not hold all.

On the CPU every function does the plain thing, with the same result.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from blockwise.gpu import is_out_of_memory, release_memory

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Result = TypeVar("Result")


@dataclass(slots=True)
class Limit:
    """Most that is computed at once. It is halved when the memory of the device does not hold it, and stays so."""

    most: int = sys.maxsize

    def fit(self, amount: int, compute: Callable[[int], Result], *, least: int = 1) -> Result:
        """`compute(n)` for the largest n, up to `amount`, that fits; what it gives must not depend on n.

        Parameters
        ----------
        amount : all there is to compute, in the caller's unit.  least : less is not tried.

        Raises
        ------
        MemoryError, torch.cuda.OutOfMemoryError : not even `least` fits.
        """
        while True:
            at_once = max(least, min(self.most, amount))
            try:
                return compute(at_once)
            except Exception as error:
                if at_once <= least or not is_out_of_memory(error):
                    raise
            release_memory()  # here, where the error no longer holds what was computed
            self.most = at_once // 2


def upload(array: Array, device: str) -> "torch.Tensor":
    """An array on the device; on a GPU copied from pinned memory, without waiting for it."""
    import torch

    host = torch.from_numpy(np.ascontiguousarray(array))
    return host.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else host.to(device)


def download(*tensors: "torch.Tensor") -> list[Array]:
    """Tensors as arrays; from a GPU all through pinned memory, with one wait for them together."""
    import torch

    if not tensors[0].is_cuda:
        return [t.cpu().numpy() for t in tensors]
    hosts = [_to_pinned(t) for t in tensors]
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [host.numpy() for host in hosts]


def _to_pinned(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def streamed(arrays: Iterable[Array], compute: Callable[["torch.Tensor"], "torch.Tensor"], device: str) -> Iterator[Array]:
    """What `compute` makes of each array, in order; on a GPU the next is brought and the last is fetched while one is computed."""
    if not device.startswith("cuda"):
        yield from (download(compute(upload(array, device)))[0] for array in arrays)
        return
    import torch

    here = torch.device(device)
    main, up, down = torch.cuda.current_stream(here), torch.cuda.Stream(here), torch.cuda.Stream(here)
    fetched: list[tuple[torch.Tensor, torch.cuda.Event]] = []
    for array in arrays:
        with torch.cuda.stream(up):
            x = upload(array, device)
        main.wait_stream(up)
        x.record_stream(main)  # its memory is not given to another upload before it was used
        y = compute(x)
        down.wait_stream(main)
        with torch.cuda.stream(down):
            y.record_stream(down)
            fetched.append((_to_pinned(y), down.record_event()))
        if len(fetched) > 1:
            yield _finished(*fetched.pop(0))
    yield from (_finished(*pair) for pair in fetched)


def _finished(host: "torch.Tensor", event: "torch.cuda.Event") -> Array:
    event.synchronize()
    return host.numpy()
