"""The pages people look at: the gallery of 1,000 findings in a browser, and the served review queue at 100,000 rows.

    python tests/bench/pages.py [FLAGGED] [ROWS]

Needs Chromium with chromedriver, and the extras review and test. The thumbnails are noise, the largest that a JPEG of
that size gets; with real pictures the page is smaller.
"""

import asyncio
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import chromium
from PIL import Image
from stored import begin, finish

from curate.reports import Report
from curate.reports.html import HtmlReport
from curate.reports.report import Looks
from curate.review.web import server
from curate.store import ExampleRecord, FindingRecord, Store

WHY = "90% of its 20 nearest rows are c1, 0% c2; without its own label, c1 is 93% likely, c2 4%"
DETECTORS = ("loss", "margin", "self_influence", "probe_self_influence", "leave_one_out_loss", "leave_one_out_margin",
             "neighbours", "early_loss", "early_margin")  # fmt: skip
SPOKE = dict.fromkeys(DETECTORS, 0.9312)


def noise(number: int) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (96, 96), os.urandom(96 * 96 * 3)).save(out, "JPEG", quality=80)
    return out.getvalue() + bytes([number % 256])


def fill(path: Path, rows: int, flagged: int, pictures: bool = True) -> int:
    with Store.open(path, create=True) as store:
        dataset = store.dataset("made", "made", "images")
        store.set_labels(dataset, [(f"c{label}", label) for label in range(10)])
        run = begin(store, dataset)
        with store.transaction():
            ids = store.add_examples(
                dataset,
                [
                    ExampleRecord("train", f"c{row % 10}/{row:06}.png", row, f"{row:064x}", f"c{row % 10}",
                                  f"made/c{row % 10}/{row:06}.png", seen=True,
                                  thumbnail=noise(row) if pictures and row < flagged else None)
                    for row in range(rows)
                ],
            )  # fmt: skip
            store.add_scores(
                run,
                [
                    {"example_id": example, "suspicion": 1 - place / rows, "rank": place + 1, "loss": 1.0, "harm": 0.01,
                     "suggested_label": f"c{(place + 1) % 10}", "suggested_probability": 0.5}
                    for place, example in enumerate(ids)
                ],
            )  # fmt: skip
            evidence = {"detectors": SPOKE, "more_suspect_than": SPOKE}
            store.add_findings(
                run, [FindingRecord(example, "mislabeled", "error", 0.95, evidence, WHY) for example in ids[:flagged]]
            )
            store.add_influences(
                run, [(ids[-1 - pair], ids[place], -0.1, -1 - pair) for place in range(flagged) for pair in range(10)]
            )
        finish(store, run)
    return run


def gallery(folder: Path, flagged: int) -> None:
    run = fill(folder / "gallery.db", 2 * flagged, flagged)
    begun = time.process_time()
    with Store.open(folder / "gallery.db") as store:
        text = HtmlReport().render(Report.of_run(store, run, looks=Looks(gallery=True)))
    took = time.process_time() - begun
    file = folder / "gallery.html"
    file.write_text(text, encoding="utf-8")
    print(f"gallery of {flagged:,} findings: {file.stat().st_size / 1e6:.1f} MB, made in {took:.2f} processor seconds")
    browser = chromium()
    try:
        browser.get("about:blank")
        times = []
        for _ in range(5):
            browser.get("about:blank")
            browser.get(file.as_uri())
            assert browser.execute_script("return document.querySelectorAll('.card').length") == flagged
            times.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
        print(f"  opens in {min(times) / 1000:.2f} s at best, {max(times) / 1000:.2f} s at worst of {len(times)}")
        took = browser.execute_script(
            "const f = document.getElementById('order'), begun = performance.now(); f.value = 'key';"
            "f.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight;"
            "return performance.now() - begun"
        )
        print(f"  sorts in {took / 1000:.2f} s")
    finally:
        browser.quit()


PAGES = ("/-/review", "/-/review?page=2", "/-/review?given=c3", "/-/review?q=c7", "/-/review?order=harm&verdict=all",
         "/made/review_queue")  # fmt: skip


def served(folder: Path, rows: int, flagged: int) -> None:
    path = folder / f"{flagged}" / "made.db"
    fill(path, rows, flagged, pictures=False)
    print(f"served queue: {rows:,} rows, {flagged:,} of them flagged")
    asyncio.run(_pages(path))


async def _pages(path: Path) -> None:
    made = server(path)
    begun = time.process_time()
    await made.invoke_startup()
    print(f"  start: {time.process_time() - begun:.2f} processor seconds")
    for number, page in enumerate(("/-/review", *PAGES)):
        walls, works = [], []
        for place in range(7):
            if number == 0:
                with Store.open(path) as store:
                    store.mark(f"c{place}/{place:06}.png", "keep", reviewer="bench")
            begun, worked = time.perf_counter(), time.process_time()
            answer = await made.client.get(page)
            walls.append(time.perf_counter() - begun)
            works.append(time.process_time() - worked)
            assert answer.status_code == 200
        wall, work = 1000 * statistics.median(walls), 1000 * statistics.median(works)
        what = "after a verdict" if number == 0 else page
        print(f"  {what}: {wall:.0f} ms, of them {work:.0f} of the processor (medians of {len(walls)})")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        gallery(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
        rows = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
        served(Path(place), rows, rows // 20)
        served(Path(place), rows, rows)
