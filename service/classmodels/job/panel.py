"""The panel of a job: which models judge, and how each matches the ascended models' classes to its own."""

from dataclasses import dataclass
from typing import Any

from classmodels.errors import InputError
from classmodels.job.classes import within
from classmodels.job.document import shown
from classmodels.job.findings import Findings
from classmodels.job.identity import digest12
from classmodels.job.models import Models
from classmodels.job.schema import PanelMember
from classmodels.models.labels import did_you_mean, find_class
from classmodels.models.resolve import ResolvedModel


@dataclass(frozen=True)
class Judge:
    """A member of the panel.

    map: from the ascended models' labels to its own, where they differ. unlike: the lists of labels of ascended
    models that are not the judge's own list, so that classes are matched label by label. features: whether its verdicts
    carry what it sees before it decides.
    """

    model: ResolvedModel
    map: dict[str, str | int]
    unlike: tuple[tuple[str, ...], ...] = ()
    features: bool = False

    @property
    def judge12(self) -> str:
        """The judge's model12 where classes are matched by index; else a digest of that and of all that the match is
        made from: where a label or the map is mended, the verdicts are given anew. So they are where features are
        asked for."""
        asked = ["features"] if self.features else []
        if not self.map and not self.unlike:
            return digest12([self.model.model12, *asked]) if asked else self.model.model12
        return digest12([self.model.model12, self.map, self.model.labels, self.unlike, *asked])


def check_panel(panel: Any, models: Models, findings: Findings) -> list[Judge]:
    """The judges that a job's `panel` names."""
    if panel == "all":
        # A stored picture has one channel or three: a network of others cannot be shown it.
        return [_judge(model, {}, models) for model in models.resolved if model.input.channels in (1, 3)]
    if not isinstance(panel, list):
        return []
    by_name = {model.spec.name: model for model in models.resolved}
    judges, names = [], {}
    for index, entry in enumerate(panel):
        member = {"model": entry} if isinstance(entry, str) else entry
        valid = findings.valid(PanelMember, member, quiet=True) if isinstance(member, dict) else None
        if valid is None:
            continue
        if valid.model in by_name:
            model = by_name[valid.model]
            names[index] = valid.model
            judges.append(_judge(model, valid.map, models, valid.features))
            if model.input.channels not in (1, 3):
                channels = model.input.channels
                message = f"judge {valid.model} takes {channels} channels, expected 1 or 3: it is shown a picture"
                findings.add(("panel", index), message)
            _check_map(index, valid.map, model, models, findings)
        elif len(by_name) == models.asked:
            findings.add(
                ("panel", index),
                f"found the unknown model {shown(valid.model)}, expected one of {', '.join(by_name)}"
                f"{did_you_mean(valid.model, list(by_name))}",
            )
    findings.unique(names, "panel", "a judge judges once")
    return judges


def _judge(model: ResolvedModel, mapping: dict[str, str | int], models: Models, features: bool = False) -> Judge:
    others = [other.labels for other in models.ascended if other.model12 != model.model12]
    unlike = tuple({labels: None for labels in others if labels and labels != model.labels})
    return Judge(model, mapping, unlike, features)


def _check_map(
    index: int, mapping: dict[str, str | int], judge: ResolvedModel, models: Models, findings: Findings
) -> None:
    """Problems of a judge's map: a label that no ascended model has, a class that the judge does not have."""
    if len(models.known) < models.asked:
        return  # the models come first
    ascended = [known.labels for known in models.known if known.spec.role == "ascend"]
    theirs = sorted({label for labels in ascended for label in labels or ()})
    for label, own in mapping.items():
        at = ("panel", index, "map", label)
        if label not in theirs and None not in ascended:
            message = f"found {shown(label)}, expected a label of an ascended model{did_you_mean(label, theirs)}"
            findings.add(at, message, key=True)
        try:
            if isinstance(own, int):
                within(own, judge.classes)
            elif judge.labels is not None:
                find_class(own, judge.labels)
            else:
                raise InputError(f"found the class {shown(own)}, expected an index: the judge has no labels")
        except InputError as error:
            findings.add(at, f"judge {judge.spec.name}: {error}")
