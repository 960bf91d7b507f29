"""Values in groups -> how alike the values of one group are."""

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted


def icc(values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> float | NotFitted:
    """Tell which share of the values' variance lies between groups: the one-way random-effects ICC(1).

    `groups`, shape (k,) as `values`, numbers the group of each value. The result is 1 when the groups alone decide a
    value and about 0 when they do not matter; it is negative when values of one group are less alike than any two. The
    formula is that of Shrout & Fleiss 1979 and McGraw & Wong 1996, and groups of unequal size enter it by
    n0 = (N - sum n_i^2 / N)/(g - 1), for N values in g groups.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    number, of_groups = values.size, sizes.size
    if of_groups <= 1:
        return NotFitted("fewer than two groups")
    if number == of_groups:
        return NotFitted("no group has two members")
    if values.min() == values.max():
        return NotFitted("every value is the same")
    means = np.bincount(group, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum() / (of_groups - 1))
    within = float(((values - means[group]) ** 2).sum() / (number - of_groups))
    typical_size = float(number - (sizes**2).sum() / number) / (of_groups - 1)
    return (between - within) / (between + (typical_size - 1) * within)
