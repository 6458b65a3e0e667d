"""Memory in which one sees when a kernel leaves its tensors."""

import ctypes
import mmap

import torch
from torch import Tensor

mprotect, PROT_NONE = ctypes.CDLL(None).mprotect, 0


class Guarded:
    """Copies of tensors, each in pages of its own between two that end the process when they are touched.

    `at_end`: the tensor ends where the last page does, and begins anywhere; else it begins where the first page
    does. What is left of its pages holds bytes that are no number and no truth value, and must stay as they are.
    """

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end
        self.rest: list[Tensor] = []

    def copy(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        size = tensor.numel() * tensor.element_size()
        room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        pages = mmap.mmap(-1, room + 2 * mmap.PAGESIZE)
        every = torch.frombuffer(pages, dtype=torch.uint8)
        inside = every[mmap.PAGESIZE : mmap.PAGESIZE + room].fill_(0xFF)
        for guard in (every, every[mmap.PAGESIZE + room :]):
            assert mprotect(ctypes.c_void_p(guard.data_ptr()), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE) == 0
        begin = room - size if self.at_end else 0
        self.rest += [inside[:begin], inside[begin + size :]]
        typed = inside[begin : begin + size].view(tensor.dtype)
        return typed.as_strided(tensor.shape, tensor.stride(), typed.storage_offset()).copy_(tensor)

    def assert_intact(self) -> None:
        for rest in self.rest:
            assert (rest == 0xFF).all()
