"""The refits of a check as jobs, each stored as it ends: an interrupted check goes on where it was. Several processes
deal them out, some to each at a time.

Knows what is left out in each and under which name the database keeps it; leaves training to `refit` and `convex`.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from curate.engine.passes import slices
from curate.experiments.training import TrainingFunction, TrainingSet
from curate.experiments.verify.plan import Plan, choose_groups, choose_rows
from curate.experiments.verify.setting import Setting
from curate.models.loading import state_sha256
from curate.stages.forward import Forward
from curate.stages.prepare import Data
from curate.store import Store
from curate.store.verifications import add_refits, refits


@dataclass(frozen=True)
class Job:
    """One refit: the training rows that are left out, and which order the others come in."""

    name: str
    """The row's key; a digest of the keys of a group; empty where nothing is left out."""
    rows: tuple[int, ...]
    ordering: int = 0

    @classmethod
    def unchanged(cls, ordering: int = 0) -> "Job":
        """The refit on all rows, as the others are compared with it."""
        return cls("", (), ordering)

    @property
    def again(self) -> "Job":
        """In another order."""
        return replace(self, ordering=self.ordering + 1)

    @property
    def place(self) -> tuple[str, int]:
        """Under which the database keeps it."""
        return self.name, self.ordering


@dataclass(frozen=True)
class Jobs:
    """All that a plan asks for."""

    rows: dict[Job, str]
    """Why each was chosen."""
    groups: list[Job]
    again: list[Job]

    @classmethod
    def of(cls, plan: Plan, predicted: Float[np.ndarray, "n k"], train: Forward, seed: int) -> "Jobs":
        """The refits of a plan: rows chosen by what is predicted of them, and groups."""
        generator = torch.Generator().manual_seed(seed)
        chosen = choose_rows(torch.from_numpy(predicted[:, :3]), plan.rows, generator)
        keys = train.keys
        rows = {Job(keys[row], (row,)): reason for row, reason in chosen.items()}
        groups = choose_groups(len(train), plan.groups, plan.group_size, generator)
        many = [Job(_digest(keys[row] for row in group), tuple(group)) for group in groups]
        every = max(1, len(rows) // max(1, plan.repeats))
        return cls(rows, many, [job.again for job in list(rows)[::every][: plan.repeats]])

    def mixed(self, seed: int) -> list[Job]:
        """In an order that leaves something of every kind where time runs out."""
        jobs = [*self.rows, *self.groups, *self.again]
        return [jobs[place] for place in torch.randperm(len(jobs), generator=torch.Generator().manual_seed(seed))]


class Refits:
    """Losses of the targets after each refit, nats, the mean first; those of the database where they are there."""

    def __init__(self, store: Store | None, identity: str, setting: Setting) -> None:
        """``store``: of the first process; the others are told, and what they fit is stored by the first."""
        self._store, self._identity, self._setting = store, identity, setting
        stored = setting.data.passes.told(lambda: {} if store is None else refits(store, identity))
        self.found = {place: np.array(losses) for place, (losses, _) in stored.items()}
        self.seconds = {place: seconds for place, (_, seconds) in stored.items()}
        self.made = self.reused = 0
        """Jobs that were fitted, and those that were there."""

    def losses(self, logits: Float[Tensor, "E C"]) -> Float[np.ndarray, " k"]:
        """The mean loss of the target rows, and that of each row that stands alone."""
        losses = F.cross_entropy(logits[self._setting.targets.rows].double(), self._setting.labels, reduction="none")
        return torch.cat([losses.mean()[None], losses[self._setting.at_head.alone]]).numpy()

    def make(self, jobs: list[Job], advance: Callable[[int], None], until: float = float("inf")) -> None:
        """Those that are not there yet; none is begun after ``until`` (`time.monotonic`)."""
        waiting = [job for job in jobs if job.place not in self.found]
        self.reused += len(jobs) - len(waiting)
        advance(len(jobs) - len(waiting))
        passes = self._setting.data.passes
        for some in slices(len(waiting), self._setting.refit.batch * passes.count):
            if passes.told(lambda: time.monotonic() > until):
                return
            part = waiting[some]
            made = passes.gathered(self._made(part[passes.own(len(part))]))
            losses = dict(pair for of_rank in made for pair in of_rank)
            if self._store is not None:
                add_refits(self._store, self._identity, losses)
            for place, (found, seconds) in losses.items():
                self.found[place], self.seconds[place] = np.array(found), seconds
            self.made += len(part)
            advance(len(part))

    def _made(self, jobs: list[Job]) -> "list[tuple[tuple[str, int], tuple[list[float], float]]]":
        """Losses and seconds of refits that this process makes at once; of one order if there are several."""
        started, whole = time.monotonic(), TrainingSet.of(self._setting.data.train)
        trainings = [whole.without(torch.tensor(job.rows, dtype=torch.long)) for job in jobs]
        many = self._setting.refit.many(trainings, jobs[0].ordering) if jobs else ()
        losses = [self.losses(logits).tolist() for logits in many]
        seconds = (time.monotonic() - started) / max(1, len(jobs))
        return [(job.place, (found, seconds)) for job, found in zip(jobs, losses, strict=True)]

    def change(self, job: Job) -> Float[np.ndarray, " k"]:
        """Against the refit without any change in the same order."""
        difference: Float[np.ndarray, " k"] = self.found[job.place] - self.found[Job.unchanged(job.ordering).place]
        return difference

    def held(
        self, jobs: list[Job], predicted: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "m _"]]:
        """Predicted and actual changes of those that were made: to first order, a group's is the sum of its rows'."""
        made = [job for job in jobs if job.place in self.found]
        if not made:
            return np.zeros((0, predicted.shape[1])), np.zeros((0, predicted.shape[1]))
        return np.stack([predicted[list(job.rows)].sum(0) for job in made]), np.stack(
            [self.change(job) for job in made]
        )


def identity(data: Data, setting: Setting, retrain: str | TrainingFunction | None, seed: int) -> str:
    """A digest of all that a refit's losses depend on: rows, weights, recipe, targets, seed.

    Of a function in memory nobody can say what code it is: its refits are not used again.
    """
    rows = [
        [key, sha, label]
        for part in (data.train, data.evaluation)
        for key, sha, label in zip(part.keys, part.sha256, part.labels.tolist(), strict=True)
    ]
    asked = setting.targets.rows[setting.at_head.alone].tolist()
    code = ""
    if callable(retrain):
        code = secrets.token_hex()
    elif retrain is not None:
        file = Path(retrain.rpartition(":")[0])
        code = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    weights = "" if data.network is None else state_sha256(data.network.module)
    what = [rows, weights, setting.at, setting.refit.recipe, code, setting.targets.rows.tolist(), asked, seed]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _digest(keys: Iterable[str]) -> str:
    return "sha256:" + hashlib.sha256("\0".join(keys).encode()).hexdigest()
