"""How shares, times and sizes are written for people, the one way: notes, findings and reports all say "12.3 %"."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share, 0 to 1, as "12.3 %"; "-" if it is not known."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """Seconds as "4.2 s", "3 min 5 s" or "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def about(seconds: float) -> str:
    """A guess, which is not told to a tenth of a second: "about 42 s"; "under 1 s"."""
    whole = f"{seconds:.0f} s" if seconds < 59.5 else duration(round(seconds))
    return "under 1 s" if seconds < 1 else f"about {whole}"


def memory(size: int) -> str:
    """Bytes as whole MB, or GB from 10⁹ on."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
