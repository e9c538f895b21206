"""Which run a command is about."""

from curate.errors import UsageError
from curate.reports.gather import read_run
from curate.store import Store


def chosen_run(store: Store, run_id: int | None, dataset: str | None) -> int:
    """The run that was asked for, or the newest finished one of the data set."""
    if run_id is None:
        return store.latest_run(dataset)
    run, _ = read_run(store, run_id)
    if dataset is not None and dataset != run.dataset:
        raise UsageError(f"Run {run_id} is of {run.dataset}, not of {dataset}", "Leave out --dataset, or --run")
    return run_id
