"""The gallery: a page, a contact sheet and their data, made from the records and verdicts in a store.

Start at `page.write_gallery`; `view` says what a page knows, `units` what of a store is believed.
"""

from classmodels.gallery.page import render_page, write_gallery

__all__ = ["render_page", "write_gallery"]
