"""Where results live: a folder or a bucket behind one small interface, and what the objects say."""

from classmodels.store.base import Entry, Store, open_store
from classmodels.store.records import FileEntry, Record, RunPlan, Verdict

__all__ = ["Entry", "FileEntry", "Record", "RunPlan", "Store", "Verdict", "open_store"]
