"""``python -m curate``, and the installed command: signals first, then everything else."""

from curate.process.stopping import install


def main() -> None:
    """The command line of this process."""
    install()
    from curate.cli import main as command

    command()


if __name__ == "__main__":
    main()
