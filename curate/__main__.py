"""``python -m curate``, and the installed command: signals and threads first, then everything else."""

import os

from curate.process.stopping import install


def main() -> None:
    """The command line of this process.

    Threads of OpenMP that wait for each other sleep, unless the environment says otherwise. By themselves they spin,
    and beside other work on the same cores a scan then takes many times as long. It is read when torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    install()
    from curate.cli import main as command

    command()


if __name__ == "__main__":
    main()
