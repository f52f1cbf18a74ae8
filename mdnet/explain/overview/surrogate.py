"""A rule in the model's place: a small decision tree over the aspects' classes that mimics the diagnosis.

The model never sees its own answers to the aspects when it concludes; a tree that gives the same
diagnosis from them says by which rule it could have concluded, and its fidelity says how far. Fidelity
is measured on studies that the tree was neither fitted nor chosen on.

References:
    1. Craven & Shavlik, "Extracting Tree-Structured Representations of Trained Networks", NeurIPS 1995.
    2. Breiman et al., "Classification and Regression Trees", 1984 (the smallest tree near the best).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError, DataError
from mdnet.evaluation.record import StudyRecord, groups_of
from mdnet.inference.finding import FloatArray

__all__ = ["RuleComparison", "Surrogate", "fit_surrogate"]

Rule = Callable[[Mapping[str, str]], str]

_DEEPEST = 8
_FOLDS = 5
_SLACK = 0.01  # of fidelity that a smaller tree may give away
_FEWEST = 40  # studies: below, half of them is too few to fit on


@dataclass(frozen=True)
class Question:
    """One column that the tree can ask about.

    Attributes:
        aspect: Whose.
        label: The class of a yes-or-no column; None for the grades of an ordered aspect, whose value is
            the place of the class.
    """

    aspect: Aspect
    label: str | None

    def value(self, record: StudyRecord) -> float:
        labels = record.labels[self.aspect.name]
        return float(self.aspect.index(labels[0]) if self.label is None else self.label in labels)

    def answers(self, threshold: float, possible: Possible) -> tuple[Possible, Possible]:
        """Which columns' values remain at or below the threshold, and above it."""
        own = possible.get(self, tuple(range(len(self.aspect.classes) if self.label is None else 2)))
        below = tuple(value for value in own if value <= threshold)
        return {**possible, self: below}, {**possible, self: own[len(below) :]}

    def words(self, values: Sequence[int]) -> str:
        name = self.aspect.name
        if self.label is None:
            return f"{name} is {' or '.join(self.aspect.classes[value] for value in values)}"
        return f"{name} is {'' if 1 in values else 'not '}{self.label}"


Possible = dict[Question, tuple[int, ...]]


@dataclass(frozen=True)
class RuleComparison:
    """The tree beside a rule that is known, such as the one that drew synthetic studies.

    Attributes:
        fidelity: Share of held-out studies where the rule, given the model's aspects, says the model's
            diagnosis.
        agreement: Share where it says what the tree says.
        can_say: Diagnoses that the rule can give to studies of which every aspect has a class.
        studies_it_can_say: Held-out studies with such a diagnosis by the model.
        fidelity_there: The rule's fidelity on them.
        tree_there: The tree's.
    """

    fidelity: float
    agreement: float
    can_say: tuple[str, ...]
    studies_it_can_say: int
    fidelity_there: float | None
    tree_there: float | None


@dataclass(frozen=True)
class Surrogate:
    """A tree that mimics the diagnosis, and how well.

    Attributes:
        depth: The smallest that comes within a point of the best, by cross-validation on the fitting half.
        leaves: Of the tree, those that say the same below one branch counted once.
        fitted_on: Studies.
        held_out: Studies that fidelity is measured on; no patient stands on both sides.
        fidelity: Share of them where the tree says the model's diagnosis.
        majority: The same for always saying the model's commonest diagnosis of the fitting half.
        accuracy: Share of the held-out labelled studies where the tree says the truth; None without labels.
        model_accuracy: The same for the model.
        by_depth: Depth to mean fidelity in cross-validation.
        rules: The tree, a line a leaf or branch, in class names.
        rule: Compared with a known rule, where one was given.
    """

    depth: int
    leaves: int
    fitted_on: int
    held_out: int
    fidelity: float
    majority: float
    accuracy: float | None
    model_accuracy: float | None
    by_depth: Mapping[int, float]
    rules: tuple[str, ...]
    rule: RuleComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_surrogate(
    records: Sequence[StudyRecord],
    space: LabelSpace,
    *,
    rule: Rule | None = None,
    seed: int = 0,
) -> Surrogate:
    """Fits a tree on half of the patients and measures it on the other half.

    Args:
        records: What the model said.
        space: The model's aspects, one of which concludes.
        rule: From aspect to class, to a diagnosis; to compare with.
        seed: Of the halves and folds.

    Raises:
        ConfigurationError: No diagnosis, one of several labels, or no other aspect to read.
        DataError: Too few studies.
    """
    from sklearn.tree import DecisionTreeClassifier

    if space.diagnosis is None or space[space.diagnosis].multi_label or len(space.aspects) < 2:
        raise ConfigurationError("a surrogate needs one diagnosis a study, and other aspects to read")
    groups = np.unique([repr(group) for group in groups_of(records)], return_inverse=True)[1]
    if len(np.unique(groups)) < _FEWEST:
        raise DataError("studies", f"{groups.max() + 1} patients", f"a surrogate needs at least {_FEWEST}")
    questions = _questions(space)
    x = np.array([[question.value(record) for question in questions] for record in records])
    y = np.array([record.labels[space.diagnosis][0] for record in records])
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    fitting = np.isin(groups, order[: (len(order) + 1) // 2])

    by_depth = _fidelity_by_depth(x[fitting], y[fitting], groups[fitting], seed)
    best = max(by_depth.values())
    depth = min(depth for depth, fidelity in by_depth.items() if fidelity >= best - _SLACK)
    tree = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(x[fitting], y[fitting])
    rules = tuple(_rule_lines(tree, questions))
    said = tree.predict(x[~fitting])
    own = y[~fitting]
    held_out = [record for record, used in zip(records, fitting, strict=True) if not used]
    names, counts = np.unique(y[fitting], return_counts=True)
    truth = [record.study.labels.get(space.diagnosis) for record in held_out]
    known = np.array([label is not None for label in truth])
    right = np.array([str(label) for label in truth])
    return Surrogate(
        depth=int(tree.get_depth()),
        leaves=sum(not line.endswith(":") for line in rules),
        fitted_on=int(fitting.sum()),
        held_out=len(held_out),
        fidelity=float((said == own).mean()),
        majority=float((own == names[counts.argmax()]).mean()),
        accuracy=float((said == right)[known].mean()) if known.any() else None,
        model_accuracy=float((own == right)[known].mean()) if known.any() else None,
        by_depth=by_depth,
        rules=rules,
        rule=None if rule is None else _compared(rule, held_out, space, said, own),
    )


def _questions(space: LabelSpace) -> list[Question]:
    """The columns; one of two classes that exclude each other is enough."""
    columns = []
    for aspect in space.aspects:
        if aspect.name == space.diagnosis:
            continue
        if not aspect.multi_label and (aspect.ordered or len(aspect.classes) == 2):
            columns.append(Question(aspect, None))
        else:
            columns += [Question(aspect, label) for label in aspect.classes]
    return columns


def _fidelity_by_depth(
    x: FloatArray, y: npt.NDArray[np.str_], groups: npt.NDArray[np.intp], seed: int
) -> dict[int, float]:
    from sklearn.model_selection import GroupKFold
    from sklearn.tree import DecisionTreeClassifier

    folds = list(GroupKFold(_FOLDS, shuffle=True, random_state=seed).split(x, y, groups))
    return {
        depth: float(
            np.mean(
                [
                    DecisionTreeClassifier(max_depth=depth, random_state=seed)
                    .fit(x[train], y[train])
                    .score(x[test], y[test])
                    for train, test in folds
                ]
            )
        )
        for depth in range(1, _DEEPEST + 1)
    }


def _rule_lines(tree: Any, questions: Sequence[Question]) -> Iterator[str]:
    """The tree as indented lines; a branch whose leaves all say the same is one leaf."""
    nodes = tree.tree_
    names = [str(name) for name in tree.classes_[nodes.value[:, 0].argmax(axis=1)]]

    def leaves(node: int) -> set[str]:
        left, right = nodes.children_left[node], nodes.children_right[node]
        return {names[node]} if left < 0 else leaves(left) | leaves(right)

    def leaf(node: int) -> str:
        shares = nodes.value[node, 0] / nodes.value[node, 0].sum()
        return f"{names[node]} ({shares.max():.0%} of {nodes.n_node_samples[node]})"

    def lines(node: int, indent: str, possible: Possible) -> Iterator[str]:
        question = questions[nodes.feature[node]]
        children = (nodes.children_left[node], nodes.children_right[node])
        for child, remaining in zip(
            children, question.answers(float(nodes.threshold[node]), possible), strict=True
        ):
            condition = f"{indent}if {question.words(remaining[question])}:"
            if len(leaves(child)) == 1:
                yield f"{condition} {leaf(child)}"
            else:
                yield condition
                yield from lines(child, indent + "  ", remaining)

    if len(leaves(0)) == 1:
        yield f"always: {leaf(0)}"
    else:
        yield from lines(0, "", {})


def _compared(
    rule: Rule,
    records: Sequence[StudyRecord],
    space: LabelSpace,
    said: npt.NDArray[np.str_],
    own: npt.NDArray[np.str_],
) -> RuleComparison:
    by_rule = np.array(
        [
            rule({name: labels[0] for name, labels in record.labels.items() if name != space.diagnosis})
            for record in records
        ]
    )
    can_say = tuple(name for name in space[str(space.diagnosis)].classes if name in by_rule)
    there = np.isin(own, can_say)
    return RuleComparison(
        fidelity=float((by_rule == own).mean()),
        agreement=float((by_rule == said).mean()),
        can_say=can_say,
        studies_it_can_say=int(there.sum()),
        fidelity_there=float((by_rule == own)[there].mean()) if there.any() else None,
        tree_there=float((said == own)[there].mean()) if there.any() else None,
    )
