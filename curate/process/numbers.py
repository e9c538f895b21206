"""How shares are written for people, the one way: curate's notes, findings and reports all say "12.3 %"."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share, 0 to 1, as "12.3 %"; "-" if it is not known."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"
