"""``python -m curate``, and the installed command: signals and threads first, then everything else."""

import os

from curate.process.stopping import install


def main() -> None:
    """The command line of this process.

    Threads of OpenMP that wait for each other soon sleep, unless the environment says otherwise. By themselves they
    spin, and beside other work on the same cores a scan then takes many times as long. To spin a little first, as
    libgomp does where there are more threads than cores, saves a tenth. It is read when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    install()
    from curate.cli import main as command

    command()


if __name__ == "__main__":
    main()
