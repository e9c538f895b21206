"""A scikit-learn estimator that a caller holds: what its last step reads of the rows are their features.

Knows where an estimator has features, as a network has them before its head: a transformer's output, the steps of a
pipeline before the last, else the numbers that it was given; if those are none, the logarithms of its probabilities.
What a classifier says of rows that it was fitted to repeats their labels (on digits a forest's and nearest neighbours'
logarithms have an average precision of .95 and .59, the numbers they read .999). Leaves what is made of the features to
the scan. The estimator is only asked, never fitted.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import CurateError, DataError, ModelError, UsageError
from curate.models.encoding import COMPONENTS
from curate.process.frames import first_line
from curate.settings.specs import MEMORY, near_path
from curate.sources import Source
from curate.sources.columns import numbers, texts_of
from curate.sources.memory import as_array, is_table, label_values, library_of, with_features

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FILES = (".joblib", ".pkl", ".pickle")
LEAST_PROBABILITY = 1e-6
"""Below it the logarithms of two probabilities are as good as equal."""


def is_estimator(value: Any) -> bool:
    """Whether it answers as scikit-learn's estimators do, whatever library it is of."""
    answers = ("transform", "predict_proba", "predict")
    return hasattr(value, "fit") and any(callable(getattr(value, name, None)) for name in answers)


@dataclass(frozen=True)
class GivenEstimator:
    """A fitted estimator; ``tables`` are those that the caller gave as training and evaluation set, if they are some.

    It is handed columns of these by the names that it was fitted to, with their own types.
    """

    held: Any
    tables: tuple[Any, Any] = (None, None)
    file: str | None = None
    """Where it lies, if it was not given in memory."""
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """What it is called."""
        return type(self.held).__name__

    @property
    def name(self) -> str:
        """What a run says of its model."""
        return self.file or f"{MEMORY}:{self.spec}"

    def sha256(self) -> str | None:
        """Of its state; None if that cannot be written down."""
        import joblib

        try:
            return hashlib.sha256(joblib.hash(self.held, hash_name="sha1").encode()).hexdigest()
        except (PicklingError, TypeError, AttributeError):
            return None

    def read(self, train: Source, evaluation: Source | None, seed: int) -> tuple[Source, Source | None]:
        """Both sets with the estimator's features for their rows; ``seed`` is for reducing many sparse columns.

        Raises ``ModelError`` if it fails on them, ``DataError`` if a column is missing.
        """
        if hasattr(self.held, "get_params"):  # of a stranger's class only its answers tell
            from sklearn.utils.validation import check_is_fitted

            self._ask(check_is_fitted, self.held)
        x = self._inputs(train, self.tables[0])
        features, words = self._features(x)
        notes = [
            f"{self.spec}: rows are compared by {words}, and the probe answers",
            *self._agreement(train, x),
            *self.notes,
        ]
        further = None if evaluation is None else self._features(self._inputs(evaluation, self.tables[1]))[0]
        features, further = _dense(features, further, seed)
        read = with_features(train, features, f"what {self.spec} makes of the rows")
        read.notes = [*train.notes, f"{notes[0]}: {features.shape[1]:,} numbers a row", *notes[1:]]
        return read, evaluation and with_features(evaluation, further, f"what {self.spec} makes of the evaluation rows")

    def _inputs(self, source: Source, given: Any) -> Any:
        """The rows of the source as the estimator was fitted to them: columns, texts or an array ``[n d]``."""
        names = list(getattr(_fitted(self.held), "feature_names_in_", ()))
        columns = source.inputs
        if given is not None and is_table(given) and (names or columns):
            found = self._columns(given, names or [one.name for one in columns], source.positions)
            texts = not names and len(columns) == 1 and columns[0].kind == "text"
            return found[columns[0].name] if texts else found
        if source.media == "record":
            return _frame(source)[names] if names else _frame(source)
        rows = [source.read(index).decode() for index in range(len(source))]
        return rows if source.media == "text" else np.stack([np.asarray(row).reshape(-1) for row in rows])

    def _columns(self, table: Any, names: list[str], positions: list[int]) -> Any:
        library = library_of(table)
        there = getattr(table, "column_names", None) or list(table.columns)
        missing = [name for name in names if name not in there]
        if missing:
            raise DataError(f"{self.spec} was fitted to a column '{missing[0]}', which is not there.", "Add it.")
        if library == "polars":
            return table.select(names)[positions]
        if library != "pandas":
            try:
                table = table.to_pandas()
            except ImportError as error:
                raise UsageError("pandas is not installed.", "It hands columns by name to the estimator.") from error
        return table[names].iloc[positions]

    def _features(self, x: Any) -> tuple[Any, str]:
        """``[n d]``, dense or sparse, and what they are."""
        fitted = _fitted(self.held)
        steps = [step for _, step in fitted.steps] if hasattr(fitted, "steps") else [fitted]
        last, called = _fitted(steps[-1]), type(_fitted(steps[-1])).__name__
        if callable(getattr(fitted, "transform", None)):
            return self._ask(fitted.transform, x), f"what {called} makes of them"
        if len(steps) > 1:
            x = self._ask(fitted[:-1].transform, x)
        if hasattr(x, "tocsr") or (hasattr(x, "dtype") and x.dtype.kind in "biuf"):
            return x, f"what {called} reads of them"
        if not callable(getattr(last, "predict_proba", None)):
            raise ModelError(
                f"{self.spec} reads no numbers and gives no probabilities: there is nothing to compare rows by.",
                "Give features=, numbers made of the rows.",
            )
        given = np.asarray(self._ask(last.predict_proba, x))
        return np.log(np.maximum(given, LEAST_PROBABILITY)), f"the logarithms of {called}'s probabilities"

    def _agreement(self, train: Source, x: Any) -> list[str]:
        """How often it gives the label at hand: a slip in columns or labels shows here."""
        if not hasattr(self.held, "classes_") or not callable(getattr(self.held, "predict", None)):
            return []
        said = label_values(self._ask(self.held.predict, x), f"what {self.spec} predicts")
        pairs = [(one, given) for one, given in zip(said, train.label_texts, strict=True) if given is not None]
        share = sum(one == given for one, given in pairs) / max(1, len(pairs))
        return [f"{self.spec} gives {100 * share:.1f} % of the training rows the label that they have"]

    def _ask(self, method: Any, x: Any) -> Any:
        """What a method of it says; anything may be wrong with a pipeline of somebody's own."""
        try:
            return method(x)
        except CurateError:
            raise
        except Exception as error:  # a boundary: a person's code may raise anything
            unfitted = type(error).__name__ == "NotFittedError"
            raise ModelError(
                f"{self.spec} failed on the rows: {type(error).__name__}: {first_line(error)}",
                "Fit it first." if unfitted else "Give the rows as it was fitted to them.",
            ) from error


def is_estimator_file(spec: str | None) -> bool:
    """Whether a model is named by a file of an estimator."""
    return spec is not None and spec.lower().endswith(FILES)


def load_estimator(spec: str, trust: bool) -> GivenEstimator:
    """The estimator in a file of joblib or pickle, which may run any code. Raises ``ModelError`` unless trusted."""
    path = Path(spec)
    if not path.is_file():
        raise ModelError(f"There is no file {spec}.", near_path(path))
    if not trust:
        raise ModelError(
            f"{spec} is a pickle: loading it may run any code.",
            "Pass --trust-checkpoint if you trust its author, or give the estimator in Python: curate.scan(model=...).",
        )
    import joblib

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            held = joblib.load(path)
    except ImportError as error:
        raise ModelError(f"{spec} needs Python code that is not here: {error}.", "Install what it names.") from error
    except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, EOFError, UnpicklingError) as error:
        raise ModelError(
            f"{spec} cannot be loaded: {first_line(error)}.", "Save it again, with the versions that are here."
        ) from error
    if not is_estimator(held):
        raise ModelError(f"{spec} holds a {type(held).__name__}, no fitted estimator.", "Save what fit() returned.")
    other = [str(one.message).splitlines()[0] for one in said if "version" in str(one.message)]
    return GivenEstimator(held, file=spec, notes=tuple(other[:1]))


def _frame(source: Source) -> Any:
    """Columns of a table by name, numbers as such, a row for each of the source's: blank where one is malformed."""
    try:
        import pandas
    except ImportError as error:
        raise UsageError("pandas is not installed.", "It hands columns by name to the estimator.") from error
    blank = len(source) - len(source.cells(source.inputs[0])) if source.inputs else 0
    columns = {
        column.name: [*numbers(cells, column.comma).tolist(), *[float("nan")] * blank]
        if column.kind == "number"
        else [*texts_of(cells), *[None] * blank]
        for column in source.inputs
        for cells in [source.cells(column)]
    }
    return pandas.DataFrame(columns)


def _fitted(estimator: Any) -> Any:
    """Of a search the estimator that it chose."""
    return getattr(estimator, "best_estimator_", estimator)


def _dense(train: Any, evaluation: Any, seed: int) -> tuple["Array", Any]:
    """Sparse columns, of a count of words say, as so many components at most; dense ones as they are."""
    if not hasattr(train, "tocsr"):
        return as_array(train, "features"), evaluation
    components = min(COMPONENTS, train.shape[0] - 1, train.shape[1] - 1)
    if train.shape[1] <= COMPONENTS:
        return train.toarray(), None if evaluation is None else evaluation.toarray()
    from sklearn.decomposition import TruncatedSVD

    reduced = TruncatedSVD(components, n_iter=7, random_state=seed)
    return reduced.fit_transform(train), None if evaluation is None else reduced.transform(evaluation)
