"""Words on pictures, in the font that comes with Pillow: what it can write, and how much of that fits."""

from functools import cache
from typing import Any

from PIL import ImageFont

from classmodels.gallery.plain import text


@cache
def font(size: int) -> Any:
    """The font with letters of `size` pixels."""
    return ImageFont.load_default(size)


def printable(label: str, otherwise: str) -> str:
    """`label`, or `otherwise` where the font lacks one of its characters."""
    line = text(label, 120)
    try:
        return (
            line
            if line.strip() and all(_drawn(character) for character in line if character != " ")
            else text(otherwise, 120)
        )
    except (UnicodeError, OSError, ValueError):
        return text(otherwise, 120)


def wrapped(words: str, font: Any, width: int, lines: int) -> list[str]:
    """`words` on at most `lines` lines of `width` pixels, broken at spaces; an ellipsis ends what is cut."""
    done = [""]
    rest = words.split()
    while rest:
        longer = f"{done[-1]} {rest[0]}".strip()
        if font.getlength(longer) <= width:
            done[-1] = longer
            rest.pop(0)
        elif len(done) < lines and done[-1]:
            done.append("")
        else:
            break
    if rest:
        line = " ".join([done[-1], *rest]).strip()
        while line and font.getlength(line + "…") > width:
            line = line[:-1].rstrip()
        done[-1] = line + "…"
    return done


@cache
def _drawn(character: str) -> bool:
    """Whether the font has a glyph of its own for `character`, told by its likeness to that of a non-character."""
    large = font(24)
    return bytes(large.getmask(character)) != bytes(large.getmask("\U0010fffe"))
