"""All evidence about an answer -> the probability that it is right: a logistic model of a few numbers, fitted to labelled items.

The form is chosen, not assumed: one number alone, or all, with regularisation (ridge). The simplest whose cross-fitted log loss is
within one standard error of the best is taken (Breiman et al., 1984, section 3.4.3; Hastie et al., 2009, section 7.10).
The score is then calibrated by a curve that is fitted to cross-fitted scores, so that no item calibrates a model that has seen it.

Planted errors are no draws from what teachers write. Where teachers wrote enough of the items (`MIN_OWN` of each label), form and
curve are chosen on those; planted ones only help to find the weights, if they do.

An answer of which some evidence is unknown gets the model that was fitted without it (reduced models: Saar-Tsechansky and
Provost, 2007, section 3), not a guess of what is missing.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.calibration import curve as curves
from engine.contract.evidence import Evidence
from engine.contract.judges import Calibrate
from engine.errors import InputError
from engine.records.calibration import CalibrationCurve, LinearModel
from engine.stats.intervals import Array

CLIP = 4.0  # standard deviations; a number beyond says no more
MIN_OWN = 5  # of each label, from which planted items calibrate nothing
STRENGTHS = (0.1, 1.0)  # C of scikit-learn
ALONE = 1.0  # C of a single number
KNOWN = 0.5  # share of the items of which a number must be known


class Items(NamedTuple):
    """Labelled items, in an order of their own, so that the order of a file does not matter."""

    names: tuple[str, ...]
    x: Array  # float [n, d], nan = unknown
    right: Array  # bool [n]
    own: Array  # bool [n], whether a teacher of the contract wrote it
    groups: Array  # str [n]

    def take(self, rows: Array) -> "Items":
        """Return some of the items, by mask or positions."""
        return Items(self.names, self.x[rows], self.right[rows], self.own[rows], self.groups[rows])

    def only(self, names: Sequence[str]) -> "Items":
        """Return the items with the numbers `names`, without those of which one is unknown."""
        x = self.x[:, [self.names.index(name) for name in names]]
        return self._replace(names=tuple(names), x=x).take(~np.asarray(np.isnan(x).any(axis=1)))

    @property
    def population(self) -> Array:
        """Mask of the items that stand for the answers of a run: the teachers' own, if there are enough, else all."""
        own = self.own
        return own if min((self.right & own).sum(), (~self.right & own).sum()) >= MIN_OWN else np.ones(len(own), bool)


class Form(NamedTuple):
    """A model that may be fitted."""

    names: tuple[str, ...]
    strength: float = ALONE
    planted: bool = False  # whether planted items are fitted to, too


class Fused(NamedTuple):
    """A fitted model with its curve."""

    model: LinearModel
    curve: CalibrationCurve
    form: Form
    why: str

    def score(self, x: Array) -> Array:
        """Return the raw probability of each row of numbers, [n, d] in the order of `model.features`."""
        return apply(self.model, x)

    def confidence(self, x: Array) -> Array:
        """Return the calibrated probability of each row of numbers."""
        return curves.probabilities(self.curve, apply(self.model, x))


class CrossFitted(NamedTuple):
    """What models that have not seen an item's group say of it."""

    scores: Array  # [n]
    confidence: Array  # [n]
    folds: int  # 1 = the model was fitted to the items themselves


def usable(items: Items) -> dict[str, str]:
    """Return number -> why it cannot be used; "" if it can."""
    reasons = {}
    for name, values in zip(items.names, items.x.T, strict=True):
        known = values[~np.isnan(values)]
        if len(known) < max(2, KNOWN * len(values)):
            reasons[name] = f"known of {len(known)} of {len(values)} labelled items"
        else:
            reasons[name] = "" if np.ptp(known) > 0 else "the same for every labelled item"
    return reasons


def fuse(items: Items, section: Evidence, calibrate: Calibrate) -> Fused:
    """Return the model that holds on `items`, of which every number is known (`Items.only`).

    Raises:
        InputError: all labels are the same.
    """
    splits = list(folds(items, calibrate.folds))
    form, scores, why = _choose(items, splits, section)
    population = items.population
    curve = curves.fit(scores[population], items.right[population], calibrate.method)
    return Fused(fit(items, form), curve, form, why)


def cross_fit(items: Items, section: Evidence, calibrate: Calibrate) -> CrossFitted:
    """Return score and confidence of each item by models that were chosen, fitted and calibrated without its group."""
    splits = list(folds(items, calibrate.folds))
    scores, confidence = np.zeros(len(items.right)), np.zeros(len(items.right))
    for train, test in splits:
        part = items.take(train)
        if len(set(part.right.tolist())) < 2:
            scores[test] = confidence[test] = part.right.mean()
            continue
        fused = fuse(part, section, calibrate)
        x = items.take(test).only(fused.model.features).x
        scores[test], confidence[test] = fused.score(x), fused.confidence(x)
    return CrossFitted(scores, confidence, len(splits) if len(splits) > 1 else 1)


def folds(items: Items, most: int) -> Iterator[tuple[Array, Array]]:
    """Yield (train, test) positions: groups stay whole, labels are spread. With one group of a label, all items are both."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min([most, *(len(set(items.groups[items.right == label].tolist())) for label in (True, False))])
    if count < 2:
        everything = np.arange(len(items.right))
        yield everything, everything
        return
    strata = items.right + 2 * items.own
    if np.unique(strata, return_counts=True)[1].min() < count:
        strata = items.right.astype(int)
    yield from StratifiedGroupKFold(count).split(items.x, strata, items.groups)


def fit(items: Items, form: Form) -> LinearModel:
    """Return the ridge logistic model of a form; without weights if its items have one label only."""
    from sklearn.linear_model import LogisticRegression

    part = items.only(form.names)
    part = part if form.planted else part.take(part.population)
    means, scales = part.x.mean(axis=0), part.x.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    if len(set(part.right.tolist())) < 2:
        rate = (part.right.sum() + 1) / (len(part.right) + 2)
        weights, intercept = np.zeros(len(form.names)), np.log(rate / (1 - rate))
    else:
        model: Any = LogisticRegression(C=form.strength, solver="newton-cholesky")
        model.fit(np.clip((part.x - means) / scales, -CLIP, CLIP), part.right)
        weights, intercept = model.coef_[0], model.intercept_[0]
    columns = (tuple(float(value) for value in values) for values in (means, scales, weights))
    return LinearModel(features=form.names, **dict(zip(("means", "scales", "weights"), columns, strict=True)), intercept=intercept)


def apply(model: LinearModel, x: Array) -> Array:
    """Return the raw probability of each row of numbers, [n, d]."""
    z = np.clip((x - np.array(model.means)) / np.array(model.scales), -CLIP, CLIP)
    return 1 / (1 + np.exp(-(z @ np.array(model.weights) + model.intercept)))


def cross_scores(items: Items, form: Form, splits: Sequence[tuple[Array, Array]]) -> Array:
    """Return the score of each item, [n], by a model that was fitted without its fold."""
    scores = np.zeros(len(items.right))
    columns = [items.names.index(name) for name in form.names]
    for train, test in splits:
        scores[test] = apply(fit(items.take(train), form), items.x[test][:, columns])
    return scores


def losses(scores: Array, right: Array) -> Array:
    """Return the log loss of each item, nats, after a Platt curve of the scores; [n]."""
    probabilities = curves.probabilities(curves.fit(scores, right, "platt"), scores)
    return -np.log(np.where(right, probabilities, 1 - probabilities))


def clustered(differences: Array, groups: Array) -> tuple[float, float]:
    """Return the mean and its standard error, of which the unit is a group (Liang and Zeger, 1986)."""
    mean = float(differences.mean())
    sums = [float((differences[groups == group] - mean).sum()) for group in np.unique(groups)]
    return mean, float(np.sqrt(np.square(sums).sum())) / len(differences)


def all_forms(items: Items, names: tuple[str, ...], section: Evidence) -> list[Form]:
    """Return the forms of several numbers that the items are enough for."""
    population = items.population
    rarer = {planted: _rarer(items.right if planted else items.right[population]) for planted in (False, True)}
    kinds = [planted for planted in (False, True) if rarer[planted] >= section.per_feature * len(names)]
    kinds = kinds[:1] if population.all() else kinds
    return [Form(names, strength, planted) for planted in kinds for strength in STRENGTHS]


def _choose(items: Items, splits: Sequence[tuple[Array, Array]], section: Evidence) -> tuple[Form, Array, str]:
    """Return the form that holds, its cross-fitted scores, and why."""
    population = items.population
    right, groups = items.right[population], items.groups[population]

    def best(forms: Sequence[Form]) -> tuple[Form, Array, Array]:
        scores = [cross_scores(items, form, splits) for form in forms]
        each = [losses(of_form[population], right) for of_form in scores]
        first = min(range(len(forms)), key=lambda index: (round(float(each[index].mean()), 9), forms[index]))
        return forms[first], scores[first], each[first]

    if len(set(right.tolist())) < 2:
        curves.fit(np.zeros(len(right)), right, "platt")  # raises: says how many there are of each label
    single, scores, loss = best([Form((name,)) for name in items.names])
    [name], count = single.names, len(items.names)
    if count == 1:
        return single, scores, f"{name} alone: no other evidence differs among the labelled items"
    several = all_forms(items, items.names, section)
    if not several:
        why = f"{_rarer(items.right)} labelled items of the rarer label are too few for {count} numbers"
        return single, scores, f"{name} alone: {why} (judges.evidence.per_feature: {section.per_feature})"
    fused, fused_scores, fused_loss = best(several)
    gain, error = clustered(loss - fused_loss, groups)
    numbers = f"{gain:.4f} nats, standard error {error:.4f}"
    if gain > error:
        return fused, fused_scores, f"all {count} numbers: their log loss is lower than that of {name} alone by {numbers}"
    return single, scores, f"{name} alone: the log loss of all {count} numbers is not lower by a standard error ({numbers})"


def _rarer(right: Array) -> int:
    return int(min(right.sum(), (~right).sum()))


def require_labels(items: Items) -> None:
    """Check that there is something to fit.

    Raises:
        InputError: no evidence differs among the items.
    """
    if not items.names or not len(items.right):
        raise InputError(
            "judges.evidence: none of the evidence is known of at least half of the labelled items and differs among them. "
            "Add labelled items, name other evidence, or take `evidence` out of the contract."
        )
