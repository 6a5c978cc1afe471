"""The order of training: which windows share a batch, as a pure function of seed and epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np


class EpochBatchSampler:
    """Batches of window numbers for a DataLoader, as a pure function of seed and epoch.

    So a resumed training sees the order of an undisturbed one, on any number of processes: each batch is dealt out to
    them (`rank` of `processes`). The shuffle is the one that accelerate gives the Trainer. With `even`, each batch is a
    sample of all lengths, one window from each of as many strata as it has windows: so batches have nearly as many
    tokens, and rows of one size hold them with little to fill up. With `length_groups` above 1, windows of similar
    length come together: sorted by length within shuffled groups of so many batches, and the batches shuffled; the one
    with the longest window comes first, so that memory runs out at once or never. `lengths` are tokens, an int array of
    shape (windows,). `batch_size` windows make an optimizer step, computed in `parts`; the last batch of an epoch may
    be smaller.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        parts: int = 1,
        length_groups: int = 1,
        even: bool = False,
        rank: int = 0,
        processes: int = 1,
    ):
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.part, self.length_groups, self.even = batch_size // parts, length_groups, even
        self.rank, self.processes = rank, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Forward passes of an epoch on each process."""
        return -(-len(self.lengths) // self.part)

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
        import torch

        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).numpy()
        if self.length_groups > 1:
            return self._in_length_groups(order, generator)
        return self._stratified(order, generator) if self.even else order

    def _stratified(self, order: np.ndarray, generator: Any) -> np.ndarray:
        import torch

        whole = len(order) // self.part
        chosen, rest = np.split(order, [whole * self.part])
        strata = chosen[np.argsort(-self.lengths[chosen], kind="stable")].reshape(self.part, whole)
        dealt = torch.rand(strata.shape, generator=generator).argsort(dim=1).numpy()
        return np.concatenate([np.take_along_axis(strata, dealt, axis=1).T.ravel(), rest])

    def _in_length_groups(self, order: np.ndarray, generator: Any) -> np.ndarray:
        import torch

        group = self.batch_size * self.length_groups
        groups = [order[start : start + group] for start in range(0, len(order), group)]
        order = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in groups])
        whole = len(order) // self.batch_size
        batches, rest = (
            order[: whole * self.batch_size].reshape(whole, self.batch_size),
            order[whole * self.batch_size :],
        )
        batches = batches[torch.randperm(whole, generator=generator).numpy()]
        if whole:
            longest = int(self.lengths[batches].max(axis=1).argmax())
            batches[[0, longest]] = batches[[longest, 0]]
        return np.concatenate([batches.ravel(), rest])

    def __iter__(self) -> Iterator[list[int]]:
        """This process's piece of each batch. Where windows are fewer than processes, some are computed twice."""
        order = self.order()
        for start in range(0, len(order), self.part):
            batch = order[start : start + self.part]
            if len(batch) < self.processes:
                batch = np.resize(batch, self.processes)
            yield batch[self.rank :: self.processes].tolist()
