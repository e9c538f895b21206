"""Near copies: pairs of rows that are one picture or text, re-encoded, resized, cropped, mirrored or a little edited.

Rows near one another in feature space are candidates; their contents confirm them. How alike contents may be is read
off the set itself: neighbours that are no copies are far less alike than copies, in photos and in garments of 28
pixels alike.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from curate.engine.neighbours import Neighbours
from curate.reports.words import quoted
from curate.rules.finders.found import Contents, Scan
from curate.stages.forward import Forward
from curate.stages.looks import SIDE, PictureLooks, hashes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CANDIDATES = 10
"""Nearest rows that are looked at."""
MOST_BITS = 16
"""Of 64 bits of two perceptual hashes that may differ, in either orientation. Trial on hymenoptera and CIFAR-10N:
copies cropped by 5 % differ in 6 to 20 bits, all others in at most 12, neighbours that are no copies in 14 at least."""
SHARE_OF_USUAL = 0.2
"""Of the usual difference between neighbours, that copies may have. Trial, with `MOST_BITS`: no pair of hymenoptera and
CIFAR-10N that is no copy, half a per cent of the digits of 8 pixels and of the short texts of clinc150."""
ALIKE = 1.2
"""Of pictures the share is no more than so many times the usual difference: where all are much alike, as garments of
one kind, even a fifth of it is between two of them. Trial at half the side, 600 garments (usual difference .06) and 240
photos of hymenoptera (.41): JPEG of quality 50 and crops by 5 % are under this limit in nine of ten of both; of seven
pairs of garments under a fifth six are no copies by eye, and none of those is under it."""
USUAL_PAIRS = 400
"""Pairs of neighbours that the usual difference of a set is the median of."""
FARTHER = 20
"""A row's own usual difference is the median over its neighbours from `CANDIDATES` on to this one: trousers are more
alike than bags are, and copies stand among the nearest. The lesser of both counts; no copy of the trial was lost."""
CUT = 2
"""Pixels of a small picture's side that a copy may lack: six per cent."""
TOGETHER = 128
"""Pairs whose windows are compared at once."""
SHINGLE = 3
"""Letters of a shingle, the parts by which texts are compared (Broder 1997)."""
LONG, SHORT = 9, 5
"""Words from which a text with one word more is a copy, whatever its shingles say, and one with two neighbouring
letters exchanged is. Trial on clinc150: of 10,000 texts that nobody edited 43 pairs differ by a word of so long texts
("..., please"), of six words and more 149; one pair by two letters ("anwser")."""
EDITED = 0.35
"""Difference by shingles up to which an edit is looked for: one of five words makes less."""
NOTHING = "  "
"""The shingle of a text without a letter or digit: such texts are empty, and no copies of one another."""


@dataclass(frozen=True)
class NearCopies:
    """Near copies: ``one[i]`` and ``other[i]``, which differ by ``difference[i]``: 0 if equal, 1 if unrelated."""

    one: Int[np.ndarray, " m"]
    other: Int[np.ndarray, " m"]
    difference: Float[np.ndarray, " m"]

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        return iter(zip(self.one.tolist(), self.other.tolist(), self.difference.tolist(), strict=True))


def said_of(rows: Forward, row: int) -> str:
    """The row's key and label, and its text if it is one: a key made of the content tells a reader nothing."""
    text = f": {quoted(rows.source.text(rows.indices[row]))}" if rows.source.media == "text" else ""
    return f"{rows.keys[row]} ({rows.source.classes[int(rows.labels[row])]}){text}"


def copies_within(scan: Contents) -> NearCopies:
    """Near copies among the training rows, each pair once; of other content than one another."""
    rows = scan.data.train
    indexes = _indexes(scan, scan.judged.near if isinstance(scan, Scan) else None)
    if not indexes:
        return _none()
    found = [near.among(FARTHER + 1) for near in indexes]
    near = [(rows_of[:, : CANDIDATES + 1], similarity) for rows_of, similarity in found]
    one, other, usual = _candidates(near, rows.sha256, rows.sha256)
    # Two rows may each be near to the other: a pair is compared once.
    one, other = np.unique(np.sort(np.stack([one, other], axis=1), axis=1), axis=0).T
    return _confirmed(one, other, usual, found[0][0][:, CANDIDATES + 1 :], _Differences(rows, rows), within=True)


def copies_between(scan: Contents) -> NearCopies:
    """Near copies in a given evaluation set (``one``) of training rows (``other``)."""
    train, evaluation = scan.data.train, scan.data.evaluation
    if scan.data.own_evaluation or evaluation.source.media != train.source.media:
        return _none()
    indexes = _indexes(scan)
    if not indexes:
        return _none()
    queries = [evaluation.features] if evaluation.features.shape[1] else []
    queries += [] if evaluation.looks is None else [_pixels(evaluation)]
    found = [near.nearest(rows, FARTHER) for near, rows in zip(indexes, queries, strict=True)]
    candidates = _candidates([(rows[:, :CANDIDATES], near) for rows, near in found], evaluation.sha256, train.sha256)
    return _confirmed(*candidates, found[0][0][:, CANDIDATES:], _Differences(evaluation, train), within=False)


def _none() -> NearCopies:
    return NearCopies(np.empty(0, int), np.empty(0, int), np.empty(0))


def _indexes(scan: Contents, of_features: Neighbours | None = None) -> list[Neighbours]:
    """Where near rows are looked up: the features, and of pictures the small pictures, whatever a network makes of an
    edit. Empty if there is nothing by which a near copy could be confirmed.

    ``of_features`` is an index of what suspicion has read of the features, whose own neighbours are known already.
    """
    rows = scan.data.train
    if rows.source.media != "text" and rows.looks is None:
        return []
    found = [] if rows.looks is None else [_index(scan, _pixels(rows))]
    if isinstance(scan, Scan):
        return [of_features or scan.neighbours, *found]
    return [_index(scan, rows.features), *found] if rows.features.shape[1] else found


def _index(scan: Contents, rows: Float[torch.Tensor, "n d"]) -> Neighbours:
    return Neighbours(rows, seed=0, passes=scan.data.passes)


def _pixels(rows: Forward) -> Float[torch.Tensor, "n 64"]:
    """Small pictures at eight pixels, about their own mean: near whatever their brightness."""
    assert rows.looks is not None
    pictures = (torch.from_numpy(rows.looks.small(part)).float() for part in _parts(np.arange(len(rows))))
    flat = torch.cat([torch.nn.functional.avg_pool2d(part[:, None], SIDE // 8).flatten(1) for part in pictures])
    return flat - flat.mean(1, keepdim=True)


def _candidates(
    near: list[tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m f"]]], own: Sequence[str], theirs: Sequence[str]
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Int[np.ndarray, "u 2"]]:
    """Pairs of other content that by one of the indexes (nearest rows and their similarities) are no farther apart than
    a row usually is from the one nearest to it, and some usual pairs of the first to compare with."""
    numbers = {sha: number for number, sha in enumerate(dict.fromkeys([*own, *theirs]))}
    mine, others = (np.array([numbers[sha] for sha in part]) for part in (own, theirs))
    pairs, compared = [], np.empty((0, 2), int)
    for found, similarity in reversed(near):
        row, place = np.nonzero(others[found] != mine[:, None])
        first = np.unique(row, return_index=True)[1]  # the nearest of other content
        usual = float(np.median(similarity[row[first], place[first]])) if len(first) else 1.0
        close = similarity[row, place] >= usual
        pairs.append(np.stack([row[close], found[row[close], place[close]].astype(int)], axis=1))
        spread = np.unique(np.linspace(0, max(0, len(first) - 1), min(USUAL_PAIRS, len(first))).astype(int))
        compared = np.stack([row[first], found[row[first], place[first]]], axis=1)[spread].astype(int)
    one, other = np.unique(np.concatenate(pairs), axis=0).T
    return one, other, compared


class _Differences:
    """How much the contents of rows of ``a`` and of ``b`` differ: 0 not at all, 1 wholly. Each text is cut once."""

    def __init__(self, a: Forward, b: Forward) -> None:
        self.looks = None if a.looks is None or b.looks is None else (a.looks, b.looks)
        self.rows = a, b
        self.shingled = None if self.looks else _shingled(a, b)

    def limit(self, usual: float) -> float:
        """Up to which two are copies, if others differ by so much usually."""
        return usual * (SHARE_OF_USUAL if self.looks is None else min(SHARE_OF_USUAL, ALIKE * usual))

    def __call__(self, one: Int[np.ndarray, " p"], other: Int[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Of each pair of rows."""
        pairs = zip(_parts(one), _parts(other), strict=True)
        if self.looks is not None:
            a, b = self.looks
            pictures = ((a.small(mine), b.small(others)) for mine, others in pairs)
            return np.concatenate([difference_of_pictures(mine, others) for mine, others in pictures])
        assert self.shingled is not None
        ours, theirs = self.shingled
        return np.concatenate([_unlike(ours[mine], theirs[others]) for mine, others in pairs])

    def edited(
        self, one: Int[np.ndarray, " p"], other: Int[np.ndarray, " p"], difference: Float[np.ndarray, " p"]
    ) -> Bool[np.ndarray, " p"]:
        """Whether these are texts that differ by one small edit; only those that have much in common are read."""
        found = np.zeros(len(one), dtype=bool)
        if self.looks is None:
            for place in np.flatnonzero(difference <= EDITED).tolist():
                texts = (
                    rows.source.text(rows.indices[row[place]])
                    for rows, row in zip(self.rows, (one, other), strict=True)
                )
                found[place] = one_edit(*(_plain(text or "").split() for text in texts))
        return found


def _confirmed(
    one: Int[np.ndarray, " p"],
    other: Int[np.ndarray, " p"],
    usual: Int[np.ndarray, "u 2"],
    farther: Int[np.ndarray, "n f"],
    differences: _Differences,
    *,
    within: bool,
) -> NearCopies:
    """The candidates whose contents say that they are copies; ``within`` if they are of one set."""
    if not len(one):
        return _none()
    if differences.looks is not None:
        alike = _few_bits(*differences.looks, one, other)
        one, other = one[alike], other[alike]
    difference = differences(one, other)
    kept = difference <= differences.limit(float(np.median(differences(usual[:, 0], usual[:, 1]))))
    copies = _apart(NearCopies(one[kept], other[kept], difference[kept]), farther, differences, within=within)
    edited = differences.edited(one, other, difference)
    found = (one[edited], other[edited], difference[edited])
    return NearCopies(*map(np.concatenate, zip((copies.one, copies.other, copies.difference), found, strict=True)))


def _apart(
    pairs: NearCopies, farther: Int[np.ndarray, "n f"], differences: _Differences, *, within: bool
) -> NearCopies:
    """Of these copies those that differ by little beside the first row's own farther neighbours too, and beside the
    other's if both are of one set."""
    rows = np.unique(np.concatenate([pairs.one, pairs.other]) if within else pairs.one)
    if not len(rows) or not farther.shape[1]:
        return pairs
    apart = differences(np.repeat(rows, farther.shape[1]), farther[rows].ravel().astype(int)).reshape(len(rows), -1)
    usual = dict(zip(rows.tolist(), np.median(apart, axis=1).tolist(), strict=True))
    kept = [
        difference <= differences.limit(min(usual[one], usual[other] if within else 1.0))
        for one, other, difference in pairs
    ]
    return NearCopies(pairs.one[kept], pairs.other[kept], pairs.difference[kept])


def _few_bits(
    ours: PictureLooks, theirs: PictureLooks, one: Int[np.ndarray, " p"], other: Int[np.ndarray, " p"]
) -> np.ndarray:
    """Whether the hashes of each pair differ in few bits, as they are or with one of the pictures mirrored."""

    def of(looks: PictureLooks, rows: Int[np.ndarray, " r"], step: int) -> np.ndarray:
        return np.concatenate([hashes(looks.small(part)[:, :, ::step]) for part in _parts(rows)])

    rows, place = np.unique(other, return_inverse=True)
    plain, mirrored = of(theirs, rows, 1), of(theirs, rows, -1)
    mine, at = np.unique(one, return_inverse=True)
    own = of(ours, mine, 1)
    kept = [
        np.minimum((own[i] != plain[j]).sum(1), (own[i] != mirrored[j]).sum(1)) <= MOST_BITS
        for i, j in zip(_parts(at), _parts(place), strict=True)
    ]
    return np.concatenate(kept)


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """So many at a time that their pictures are no burden."""
    return np.array_split(values, max(1, len(values) // 10_000))


def difference_of_pictures(a: UInt8[np.ndarray, "m 32 32"], b: UInt8[np.ndarray, "m 32 32"]) -> Float[np.ndarray, " m"]:
    """One less the correlation of small pictures at half their side, which an edit hardly changes, in the better
    orientation and with the better window of either."""
    found = [np.empty(0)]
    for start in range(0, len(a), TOGETHER):
        one, other = (_about_mean(part[start : start + TOGETHER]) for part in (a, b))
        found.append(1 - np.maximum(_best_window(one, other), _best_window(other, one)))
    return np.concatenate(found)


def _about_mean(pictures: UInt8[np.ndarray, "m 32 32"]) -> Float[np.ndarray, "m 32 32"]:
    centred: np.ndarray = pictures - pictures.mean((1, 2), dtype=np.float32, keepdims=True)
    return centred


def _best_window(cut: Float[np.ndarray, "m 32 32"], whole: Float[np.ndarray, "m 32 32"]) -> Float[np.ndarray, " m"]:
    """The largest correlation of a window of ``cut`` with ``whole`` or its mirror image; an even picture has none.

    A window is ``cut`` whole, or without `CUT` pixels at its sides in every way, spread to half the whole side: that
    is L P Rᵀ, whose product with W is that of L P with W R, and its square that of (L P)ᵀ (L P) with Rᵀ R. So no window
    is made.
    """
    cuts = [(0, 0), *((left, CUT - left) for left in range(CUT + 1))]
    maps = np.stack([_spread(np.linspace(left, SIDE - 1 - right, SIDE)) for left, right in cuts])
    maps = (maps[:, ::2] + maps[:, 1::2]) / 2  # [c h s]
    whole = (whole[:, ::2] + whole[:, 1::2]) / 2
    whole = (whole[:, :, ::2] + whole[:, :, 1::2]) / 2
    m, c, half = len(cut), len(cuts), SIDE // 2
    high = (maps.reshape(-1, SIDE) @ cut).reshape(m, c, half, SIDE)
    across = maps.transpose(1, 0, 2).reshape(half, -1)  # [h, c x s]
    best: np.ndarray = np.full(m, -1.0)
    wholes = np.maximum(np.linalg.norm(whole.reshape(m, -1), axis=1), 1e-6)
    sums = high.sum(2) @ maps.sum(1).T  # [m c c]
    squares = (high.transpose(0, 1, 3, 2) @ high).reshape(m, c, -1) @ (maps.transpose(0, 2, 1) @ maps).reshape(c, -1).T
    lengths = np.maximum(np.sqrt((squares - sums**2 / half**2).clip(0)), 1e-6)
    for turned in (whole, whole[:, :, ::-1]):  # a window of a mirrored picture is a window's mirror image
        wide = (turned @ across).reshape(m, half, c, SIDE).transpose(0, 2, 1, 3).reshape(m, c, -1)
        products = high.reshape(m, c, -1) @ wide.transpose(0, 2, 1)
        best = np.maximum(best, (products / lengths).max((1, 2)) / wholes)
    return best


def _spread(places: Float[np.ndarray, " s"]) -> Float[np.ndarray, "s 32"]:
    """What takes a side at these places, between two pixels a mean of both."""
    low = np.minimum(places.astype(int), SIDE - 2)
    matrix = np.zeros((len(places), SIDE), dtype=np.float32)
    rows = np.arange(len(places))
    matrix[rows, low], matrix[rows, low + 1] = 1 - (places - low), places - low
    return matrix


def _shingled(a: Forward, b: Forward) -> tuple["csr_matrix", "csr_matrix"]:
    """Which shingles each text of ``a`` and of ``b`` has, in one numbering."""
    from sklearn.feature_extraction.text import CountVectorizer

    texts = [rows.source.text(index) or "" for rows in ((a,) if b is a else (a, b)) for index in rows.indices]
    vectorizer = CountVectorizer(analyzer=shingles, binary=True, dtype=np.int32)
    has = vectorizer.fit_transform(texts)
    has.data[has.indices == vectorizer.vocabulary_.get(NOTHING, -1)] = 0
    has.eliminate_zeros()
    return has[: len(a)], has[-len(b) :]


def _plain(text: str) -> str:
    """Without case and signs."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def one_edit(one: list[str], other: list[str]) -> bool:
    """Whether texts of so many words differ by two neighbouring letters exchanged or, if they are long, by a word that
    one of them has more."""
    short, long = sorted((one, other), key=len)
    if len(long) == len(short) + 1 >= LONG:
        at = next((place for place, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
        return short[at:] == long[at + 1 :]
    a, b = " ".join(one), " ".join(other)
    first, *others = [place for place, letters in enumerate(zip(a, b, strict=False)) if letters[0] != letters[1]] or [0]
    exchanged = others == [first + 1] and a[first : first + 2] == b[first + 1] + b[first]
    return exchanged and len(a) == len(b) and len(long) >= SHORT and not any(map(str.isdigit, a[first : first + 2]))


def shingles(text: str) -> frozenset[str]:
    """All parts of `SHINGLE` letters of a text without case and signs, a blank before and behind it."""
    plain = f" {_plain(text)} "
    return frozenset(plain[at : at + SHINGLE] for at in range(max(1, len(plain) - SHINGLE + 1)))


def _unlike(one: "csr_matrix", other: "csr_matrix") -> Float[np.ndarray, " p"]:
    """One less Jaccard's share of shingles that both have, row by row."""
    both = np.asarray(one.multiply(other).sum(axis=1)).ravel()
    either = np.diff(one.indptr) + np.diff(other.indptr) - both
    unlike: np.ndarray = 1 - both / np.maximum(either, 1)
    return unlike
