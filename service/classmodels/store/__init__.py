"""Where results live: a folder (later also a bucket) behind one small interface, and what the objects say."""

from classmodels.store.base import Store, open_store
from classmodels.store.records import FileEntry, Record, RunPlan, Verdict

__all__ = ["FileEntry", "Record", "RunPlan", "Store", "Verdict", "open_store"]
