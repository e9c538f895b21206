"""Records and texts as features, where no model reads them: scikit-learn's encoders, fitted on the training rows.

Numbers: missing ones filled with the median beside a column that says so, standardised. Categories: one column each,
rare ones together. Texts: TF-IDF, projected to ``COMPONENTS`` dimensions (latent semantic analysis). Knows the
encoders; leaves columns to ``tables``.
"""

from array import array
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import DataError, UnreadableRow
from curate.sources.base import Item, Source
from curate.sources.columns import InputColumn, numbers, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]

COMPONENTS = 256
"""Dimensions of an encoded text."""
FITTED_TEXTS = 20_000
"""Texts, drawn at random, that the dimensions are found from."""
POWER_STEPS = 2
"""Of the randomised decomposition (Halko, Martinsson & Tropp 2011): more find the last dimensions more exactly, and
wrong labels no better (docs/explanation/scale.md)."""
MOST_TERMS = 100_000
"""Words, and as many parts of words, that a text is counted by at most."""
MOST_CATEGORIES = 100
"""Categories of a column that get a column each; rarer ones share one."""
FARTHEST = 8.0
"""Standard deviations at which an encoded number is cut off: one wild cell must not rule a row's length."""


LARGEST = 1e150
"""Beyond it a number counts as this one: its square, which the spread is made of, would be infinite."""


class EncodedSource(Source):
    """A source whose rows are encoded: ``read`` gives features, everything else is the source's own."""

    def __init__(self, source: Source, rows: "Array", notes: list[str], names: tuple[str, ...] = ()) -> None:
        self._source, self._encoded, self.feature_names = source, rows, names
        self.kind, self.media, self.name, self.location = source.kind, source.media, source.name, source.location  # type: ignore[misc]
        self.classes, self.keys, self.labels = source.classes, source.keys, source.labels
        self.label_texts, self.positions, self.malformed = source.label_texts, source.positions, source.malformed
        self.notes = [*source.notes, *notes]

    def read(self, index: int) -> Item:
        item = self._source.read(index)
        return Item(item.content_sha256, lambda: self._encoded[index])

    @property
    def columns(self) -> tuple[InputColumn, ...]:
        return self._source.columns

    def media_path(self, index: int) -> str | None:
        return self._source.media_path(index)

    def values(self, column: str, option: str = "--slice") -> list[str | None]:
        return self._source.values(column, option)

    def text(self, index: int) -> str | None:
        return self._source.text(index)


def encode_sources(train: Source, evaluation: Source | None, seed: int) -> tuple[Source, Source | None]:
    """Both sources with features for rows, where they hold records or texts; unchanged where not.

    Memory: float32 ``[n d]`` for each. Raises ``DataError`` where a text column holds no word twice.
    """
    if train.media not in ("text", "record"):
        return train, evaluation
    encoder = Encoder(train, seed)
    encoded = EncodedSource(train, encoder.rows(train), [encoder.note], encoder.names)
    return encoded, None if evaluation is None else EncodedSource(evaluation, encoder.rows(evaluation), [])


class Encoder:
    """Fitted on the training set; ``rows(source)`` encodes any source with the same columns, ``[n d]`` float32."""

    def __init__(self, train: Source, seed: int) -> None:
        self._train = train
        self.columns = train.inputs or (InputColumn("text", "text"),)
        by_kind = {kind: [c for c in self.columns if c.kind == kind] for kind in ("number", "category", "text")}
        self._numbers, self._categories, self._texts = by_kind.values()
        self._fitted = {kind: self._fit(kind, train, seed) for kind, columns in by_kind.items() if columns}
        said = {
            "number": "numbers standardised, missing ones filled with the median",
            "category": "categories as one column each",
            "text": f"texts by TF-IDF and {COMPONENTS} components at most",
        }
        self.note = "encoded with scikit-learn: " + "; ".join(said[kind] for kind in self._fitted)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns: `age`, `missingindicator_age`, `colour_red`, `title: component 3`."""
        names: list[str] = []
        for kind, fitted in self._fitted.items():
            if kind == "text":
                for column, one in zip(self._texts, fitted, strict=True):
                    width = one.transform([""]).shape[1]
                    names += [f"{column.name}: component {number}" for number in range(width)]
            else:
                columns = self._numbers if kind == "number" else self._categories
                names += list(fitted.get_feature_names_out([column.name for column in columns]))
        return tuple(names)

    def rows(self, source: Source) -> "Array":
        """The source's rows as numbers, scaled and coded as on the training rows."""
        parts = []
        for kind, fitted in self._fitted.items():
            if kind == "number":
                scaled = fitted.transform(self._number_cells(source))
                parts.append(np.clip(scaled, -FARTHEST, FARTHEST))
            elif kind == "category":
                parts.append(fitted.transform(self._category_cells(source)))
            elif source is self._train:
                parts += [one.of_training for one in fitted]
            else:
                parts += [one.transform(texts) for one, texts in zip(fitted, self._text_cells(source), strict=True)]
        others = sum(part.shape[1] for part, kind in zip(parts, self._fitted, strict=False) if kind != "text")
        if others and self._texts:
            # A text's row has length one; beside standardised columns it would not be heard.
            parts = [*parts[: -len(self._texts)], *(part * others**0.5 for part in parts[-len(self._texts) :])]
        encoded = np.concatenate(parts, axis=1).astype(np.float32)
        blank = np.zeros((len(source) - len(encoded), encoded.shape[1]), np.float32)
        return np.concatenate([encoded, blank])  # malformed rows stand at the end; nobody reads them

    def _fit(self, kind: str, train: Source, seed: int) -> Any:
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        if kind == "number":
            cells = self._number_cells(train)
            imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
            return make_pipeline(imputer, StandardScaler()).fit(cells)
        if kind == "category":
            rare = max(1, min(10, len(train) // 200))
            return OneHotEncoder(
                handle_unknown="infrequent_if_exist",
                min_frequency=rare,
                max_categories=MOST_CATEGORIES,
                sparse_output=False,
            ).fit(self._category_cells(train))
        return [
            _fit_text(texts, seed, column.name)
            for texts, column in zip(self._text_cells(train), self._texts, strict=True)
        ]

    def _number_cells(self, source: Source) -> "Array":
        cells = np.stack([numbers(source.cells(column), column.comma) for column in self._numbers], axis=1)
        clipped: Array = np.clip(cells, -LARGEST, LARGEST)
        return clipped

    def _category_cells(self, source: Source) -> "Array":
        cells = [
            ["missing" if text is None else text for text in texts_of(source.cells(column))]
            for column in self._categories
        ]
        return np.array(cells, dtype=object).T

    def _text_cells(self, source: Source) -> list[list[str]]:
        if source.inputs:
            return [[text or "" for text in texts_of(source.cells(column))] for column in self._texts]
        return [[_readable(source, index) for index in range(len(source))]]


def _readable(source: Source, index: int) -> str:
    try:
        return str(source.read(index).decode())
    except UnreadableRow:  # the forward pass will say so
        return ""


@dataclass(frozen=True)
class FittedText:
    """An encoding of texts, and what it makes of those that it was fitted to."""

    counts: Any
    reduced: Any
    of_training: "Array"

    def transform(self, texts: list[str]) -> "Array":
        """Rows of texts, ``[m d]``."""
        rows: Array = self.reduced.transform(self.counts.transform(texts))
        return rows


def _fit_text(texts: list[str], seed: int, name: str) -> FittedText:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, Normalizer

    least = 2 if len(texts) > 100 else 1
    settings = {"sublinear_tf": True, "min_df": least, "strip_accents": "unicode", "dtype": np.float32}
    # Words carry the topic of long texts; parts of words stand for spelling, endings and tongues without spaces.
    vectorizer = make_union(
        TfidfVectorizer(ngram_range=(1, 2), max_features=MOST_TERMS, **settings),
        PartsOfWords(MOST_TERMS, least),
    )
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError as error:
        raise DataError(
            f"The texts of '{name}' hold no words to learn from.", "Name another column with --input."
        ) from error
    if counts.shape[1] <= COMPONENTS:
        reduced = FunctionTransformer(_dense, accept_sparse=True).fit(counts)
    else:
        some = counts
        if counts.shape[0] > FITTED_TEXTS:
            some = counts[np.sort(np.random.default_rng(seed).permutation(counts.shape[0])[:FITTED_TEXTS])]
        components = min(COMPONENTS, some.shape[0] - 1, some.shape[1] - 1)
        svd = TruncatedSVD(components, n_iter=POWER_STEPS, power_iteration_normalizer="QR", random_state=seed)
        reduced = make_pipeline(svd, Normalizer()).fit(some)
    return FittedText(vectorizer, reduced, reduced.transform(counts))


class PartsOfWords:
    """Texts by their words' parts of two to five characters, as scikit-learn's TF-IDF has them ("char_wb").

    The parts of a word are made once, and those of a text are the sum over its words: one product of sparse matrices.
    """

    def __init__(self, most: int, least: int) -> None:
        """The ``most`` frequent parts are kept, of those that ``least`` texts have."""
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        self._most, self._least = most, least
        self._prepared = CountVectorizer(strip_accents="unicode").build_preprocessor()
        self._cut: Callable[..., Any] = partial(
            CountVectorizer, analyzer="char_wb", ngram_range=(2, 5), lowercase=False, dtype=np.float32
        )
        self._weigh = TfidfTransformer(sublinear_tf=True)

    def fit_transform(self, texts: list[str], y: None = None) -> Any:
        """TF-IDF of the texts that it is fitted to, sparse ``[n F]``. Raises `ValueError` if they have no part."""
        counts, words = self._counted(texts)
        cut = self._cut()
        found = counts @ cut.fit_transform(words)
        enough = np.flatnonzero(np.bincount(found.indices, minlength=found.shape[1]) >= self._least)
        if not len(enough):
            raise ValueError("no part of a word is in texts enough")
        frequent = np.argsort(-np.asarray(found.sum(axis=0)).ravel()[enough])[: self._most]
        kept = np.sort(enough[frequent])
        self._known = self._cut(vocabulary=cut.get_feature_names_out()[kept])
        return self._weigh.fit_transform(found[:, kept])

    def transform(self, texts: list[str]) -> Any:
        """The same of any texts."""
        counts, words = self._counted(texts)
        return self._weigh.transform(counts @ self._known.transform(words))

    def _counted(self, texts: list[str]) -> tuple[Any, list[str]]:
        """How often each text has each word, sparse ``[n w]``, and the words."""
        from scipy.sparse import csr_matrix

        numbers: dict[str, int] = {}
        columns, counts, ends = array("i"), array("f"), [0]
        for text in texts:
            of_text = Counter(self._prepared(text).split())
            columns.extend(numbers.setdefault(word, len(numbers)) for word in of_text)
            counts.extend(of_text.values())
            ends.append(len(columns))
        shape = (len(texts), len(numbers))
        parts = np.frombuffer(counts, np.float32), np.frombuffer(columns, np.int32), np.array(ends)
        return csr_matrix(parts, shape=shape), list(numbers)


def _dense(rows: Any) -> "Array":
    dense: Array = rows.toarray()
    return dense
