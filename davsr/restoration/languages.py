"""Languages by the names that QuickTime files know: ISO 639-2 has two names for some, and containers differ."""

from __future__ import annotations

# fmt: off
_QUICKTIME = {
    "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "fre": "fra", "swe": "sve", "rum": "ron",
    "cze": "ces", "slo": "slk", "sqi": "alb", "mkd": "mac", "hye": "arm", "kat": "geo", "bod": "tib", "mya": "bur",
    "msa": "may", "cym": "wel", "eus": "baq",
}
# fmt: on


def quicktime_language(name: str) -> str:
    """The name that a QuickTime file has for a language of ISO 639-2, or the same where it has no other."""
    return _QUICKTIME.get(name, name)
