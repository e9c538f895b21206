"""The lowest and the newest versions of what curate stands on, on each Python that it names: environments by uv.

    python tests/bench/matrix.py                        all six, one after the other; the suite in each
    python tests/bench/matrix.py --python 3.12 --resolution lowest-direct
    python tests/bench/matrix.py --tests tests/test_store.py --keep FOLDER

An environment takes about 5 GB where torch comes with CUDA (--index for a build without it). Ends with 1 where a suite
fails or versions cannot be found together.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = ("lowest-direct", "highest")
"""uv's words; lowest-direct: of what pyproject.toml names the floor, of all else what fits."""


def run(*command: str, **environment: str) -> bool:
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, cwd=HERE, env={**os.environ, **environment}).returncode == 0


def one(python: str, resolution: str, folder: Path, asked: argparse.Namespace) -> bool:
    """Whether the versions can be installed together and the suite passes on them."""
    place = folder / f"{python}-{resolution}"
    inside = str(place / "bin" / "python")
    more = ["--index", asked.index] if asked.index else []
    requirements = str(folder / f"{python}-{resolution}.txt")
    steps = [
        # The plan first: what cannot be met is told before gigabytes are fetched.
        ["uv", "pip", "compile", "pyproject.toml", "--extra", "test", "--python-version", python, "--resolution",
         resolution, *more, "--output-file", requirements, "--quiet"],
        ["uv", "venv", "--quiet", "--python", python, str(place)],
        ["uv", "pip", "install", "--quiet", "--python", inside, *more, "-r", requirements, "-e", "."],
        [inside, "-m", "pytest", "-q", *asked.tests],
    ]  # fmt: skip
    return all(run(*step) for step in (steps[:1] if asked.plan else steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", choices=PYTHONS, action="append")
    parser.add_argument("--resolution", choices=RESOLUTIONS, action="append")
    parser.add_argument("--index", help="another index for all packages")
    parser.add_argument("--tests", nargs="*", default=[], help="files instead of the whole suite")
    parser.add_argument("--plan", action="store_true", help="only find versions that fit together; install nothing")
    parser.add_argument("--keep", type=Path, help="make the environments in this folder, and leave them there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-matrix-") as made:
        folder = asked.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        passed = {
            f"Python {python}, {resolution}": one(python, resolution, folder.resolve(), asked)
            for python in asked.python or PYTHONS
            for resolution in asked.resolution or RESOLUTIONS
        }
    for name, well in passed.items():
        print(f"{name}: {'passed' if well else 'FAILED'}")
    sys.exit(not all(passed.values()))


if __name__ == "__main__":
    main()
