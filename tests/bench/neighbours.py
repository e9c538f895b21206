"""What neighbours among many rows cost and miss: the product's cells, and faiss where it is installed.

    python tests/bench/neighbours.py data --rows 60000

``data`` holds Fashion-MNIST's ``train-images-idx3-ubyte.gz``; its pictures' 128 principal directions are the rows. For
each way: processor seconds of one thread for the index and for the 21 nearest of every row, and the share of the true
ones that it finds, on 500 rows.
"""

import argparse
import gzip
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from curate.engine.cells import CellIndex
from curate.engine.neighbours import PROBED_ROWS, Neighbours

K, ASKED, PART = 21, 500, 4
Found = np.ndarray


def pictures(folder: Path, n: int) -> torch.Tensor:
    """``[n 784]`` float32."""
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784)[:n].astype(np.float32))


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=60_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    near = Neighbours(pictures(asked.data, asked.rows), 0)
    rows = near._index
    some = torch.arange(0, len(rows), max(1, len(rows) // ASKED))
    true = near._by_all(rows[some], K, lambda _: None)[0].numpy()

    def tell(way: str, made: float, search: float, found: Found) -> None:
        hits = np.mean([len(np.intersect1d(*pair)) for pair in zip(true, found, strict=True)]) / K
        print(f"{way:34} {made:8.1f} {search:8.1f} {hits:8.4f}", flush=True)

    print(f"{'':34} {'index s':>8} {'search s':>8} {'recall':>8}")
    kept: list[CellIndex] = []
    made = seconds(lambda: kept.append(CellIndex(rows, 0, near.passes)))
    answers: list[Found] = []
    search = seconds(lambda: answers.append(kept[0].nearest(rows, K, PROBED_ROWS, lambda _: None)[0].numpy()))
    tell("own cells", made, search, answers[0][some])
    try:
        import faiss
    except ImportError:
        print("faiss is not installed")
        return
    faiss.omp_set_num_threads(1)
    x, width, cells = rows.numpy(), rows.shape[1], round(4 * len(rows) ** 0.5)
    lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
    made = seconds(lambda: (lists.train(x[: 40 * cells]), lists.add(x)))
    for probes in (32, 64):
        lists.nprobe = probes
        search = PART * seconds(lambda: lists.search(x[::PART], K))
        tell(f"faiss, {cells} lists, {probes} probed", made, search, lists.search(x[some], K)[1])
    graph = faiss.IndexHNSWFlat(width, 32)
    made, graph.hnsw.efSearch = seconds(lambda: graph.add(x)), 64
    search = PART * seconds(lambda: graph.search(x[::PART], K))
    tell("faiss, a graph (HNSW 32, ef 64)", made, search, graph.search(x[some], K)[1])


if __name__ == "__main__":
    main()
