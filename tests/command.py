"""``curate`` as people run it, in this process: through its real entry point."""

from click.testing import CliRunner, Result

from curate.cli import main


def curate(*arguments: object, status: int | None = 0, **environ: str) -> Result:
    """What the command did; ``status`` is the exit status it must have, None: any."""
    done = CliRunner().invoke(main, list(map(str, arguments)), env=environ)
    assert status is None or done.exit_code == status, done.output
    assert "--debug" in arguments or "CURATE_DEBUG" in environ or "Traceback" not in done.output
    return done
