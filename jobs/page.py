"""What pictures drawn here have in common: a white page, one font, and how it becomes a file."""

import io

from PIL import Image, ImageDraw, ImageFont

GAP_PX = 4
LINE_PX = 20
"""Of text, one line to the next."""
FONT = ImageFont.load_default(size=13)
TEXT = (20, 20, 20)
WHITE = (255, 255, 255)


def blank_page(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white page of this size in pixels, and a pen for it."""
    page = Image.new("RGB", (width, height), WHITE)
    return page, ImageDraw.Draw(page)


def png(page: Image.Image) -> bytes:
    """The page as a PNG file, the same bytes for the same page."""
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    return buffer.getvalue()


def text_width(*lines: str) -> int:
    """Pixels that the longest of ``lines`` takes."""
    return max((round(FONT.getlength(line)) for line in lines), default=0)


def fitted(text: str, width_px: int) -> str:
    """``text``, its end left out until it fits."""
    if FONT.getlength(text) <= width_px:
        return text
    while text and FONT.getlength(f"{text}...") > width_px:
        text = text[:-1]
    return f"{text}..."


def fitted_end(text: str, width_px: int) -> str:
    """``text``, its beginning left out until it fits, as suits a path."""
    if FONT.getlength(text) <= width_px:
        return text
    while text and FONT.getlength(f"...{text}") > width_px:
        text = text[1:]
    return f"...{text}"
