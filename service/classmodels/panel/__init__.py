"""The panel: classifiers that look at each finished image, as it is stored, and say what they see."""

from classmodels.panel.judge import judge_images, prepare, same_class

__all__ = ["judge_images", "prepare", "same_class"]
