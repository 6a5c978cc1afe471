"""The order of training: which windows share a batch, as a pure function of seed and epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class EpochBatchSampler:
    """Batches of window numbers for a DataLoader, as a pure function of seed and epoch.

    So a resumed training sees the batches of an undisturbed one. Several processes share each batch: this one is
    `rank` of `processes`. A batch has the same windows, however many parts and processes share it. The shuffle is the
    one that accelerate gives the Trainer. With `even`, each batch is a sample of all lengths: the windows are sorted by
    length into as many strata as a batch has windows, and each batch takes one window from each stratum. Such batches,
    and their parts, have nearly the same number of tokens, so packed rows of one size need little filling.

    `lengths` are tokens, an int array of shape (windows,). An optimizer step takes `batch_size` windows, in `parts`
    forward passes. The last batch of an epoch may be smaller.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        parts: int = 1,
        even: bool = False,
        rank: int = 0,
        processes: int = 1,
    ):
        self.lengths, self.seed = np.asarray(lengths), seed
        self.batch_size, self.parts, self.even = batch_size, parts, even
        self.rank, self.processes = rank, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Forward passes of an epoch on each process."""
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole * self.parts + min(rest, self.parts)

    def totals(self, epochs: int) -> np.ndarray:
        """Tokens of each batch of this process in the first `epochs` epochs, an int64 array."""
        before, totals = self.epoch, []
        for epoch in range(epochs):
            self.set_epoch(epoch)
            totals += [self.lengths[batch].sum() for batch in self]
        self.set_epoch(before)
        return np.array(totals, np.int64)

    def order(self) -> np.ndarray:
        """The windows' numbers in the epoch's order, an int64 array of shape (windows,)."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).numpy()
        return self._stratified(order, generator) if self.even else order

    def _stratified(self, order: np.ndarray, generator: Any) -> np.ndarray:
        whole = len(order) // self.batch_size
        chosen, rest = np.split(order, [whole * self.batch_size])
        strata = chosen[np.argsort(-self.lengths[chosen], kind="stable")].reshape(self.batch_size, whole)
        dealt = torch.rand(strata.shape, generator=generator).argsort(dim=1).numpy()
        shape = whole, self.batch_size // self.parts, self.parts
        batches = np.take_along_axis(strata, dealt, axis=1).T.reshape(shape)
        batches[:, 1::2] = batches[:, 1::2, ::-1]  # back and forth, so that no part has all the longer windows
        return np.concatenate([batches.ravel(), rest])

    def __iter__(self) -> Iterator[list[int]]:
        """This process's share of each part. A part with fewer windows than processes repeats some of them."""
        order = self.order()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            for number in range(min(self.parts, len(batch))):
                part = batch[number :: self.parts]
                if len(part) < self.processes:
                    part = np.resize(part, self.processes)
                yield part[self.rank :: self.processes].tolist()
