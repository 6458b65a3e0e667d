"""classmodels: see what each class means to an image classifier.

`classmodels.ascend(model, classes)` for notebooks; the command `classmodels` for jobs. `run/` holds both.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ascend"]

if TYPE_CHECKING:
    from classmodels.run.api import ascend


def __getattr__(name: str) -> Any:
    # Imported when first used: `import classmodels` and `classmodels --help` do without torch.
    if name == "ascend":
        from classmodels.run.api import ascend

        return ascend
    raise AttributeError(f"module 'classmodels' has no attribute {name!r}")
