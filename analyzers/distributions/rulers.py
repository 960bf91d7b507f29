"""What well-known laws of the weights score against the lognormal fitted to them, whatever their scale."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """The log-moments of a law, and its distances from the lognormal with the same mean and variance of ln|w|.

    The names are those of `LognormalFit`. A lognormal scores 0 everywhere but in `log_sigma`.
    """

    family: str
    log_sigma: float
    skewness: float
    excess_kurtosis: float
    divergence: float
    ks_distance: float
    wasserstein: float
    jensen_shannon: float
    hellinger: float


GAUSSIAN = Ruler(
    family="Gaussian",
    log_sigma=1.110721,
    skewness=-1.535142,
    excess_kurtosis=4.0,
    divergence=0.162975,
    ks_distance=0.096352,
    wasserstein=0.227292,
    jensen_shannon=0.037398,
    hellinger=0.208674,
)

RULERS: tuple[Ruler, ...] = (
    GAUSSIAN,
    Ruler(
        family="Gaussian cut at 2 sd",
        log_sigma=1.086628,
        skewness=-1.647228,
        excess_kurtosis=4.372470,
        divergence=0.229701,
        ks_distance=0.103627,
        wasserstein=0.247412,
        jensen_shannon=0.057695,
        hellinger=0.271660,
    ),
    Ruler(
        family="uniform",
        log_sigma=1.0,
        skewness=-2.0,
        excess_kurtosis=6.0,
        divergence=0.418939,
        ks_distance=0.158655,
        wasserstein=0.314420,
        jensen_shannon=0.101911,
        hellinger=0.357940,
    ),
    Ruler(
        family="Laplace",
        log_sigma=1.282550,
        skewness=-1.139547,
        excess_kurtosis=2.4,
        divergence=0.090573,
        ks_distance=0.070680,
        wasserstein=0.169320,
        jensen_shannon=0.020431,
        hellinger=0.151367,
    ),
    Ruler(
        family="Student t10",
        log_sigma=1.135355,
        skewness=-1.433201,
        excess_kurtosis=3.664782,
        divergence=0.134247,
        ks_distance=0.089660,
        wasserstein=0.210449,
        jensen_shannon=0.029516,
        hellinger=0.181045,
    ),
    Ruler(
        family="Student t5",
        log_sigma=1.164599,
        skewness=-1.313093,
        excess_kurtosis=3.317199,
        divergence=0.108345,
        ks_distance=0.082444,
        wasserstein=0.192008,
        jensen_shannon=0.022653,
        hellinger=0.155653,
    ),
    Ruler(
        family="Student t3",
        log_sigma=1.211363,
        skewness=-1.125140,
        excess_kurtosis=2.868264,
        divergence=0.079661,
        ks_distance=0.072407,
        wasserstein=0.165953,
        jensen_shannon=0.015571,
        hellinger=0.127571,
    ),
    Ruler(
        family="generalised normal 1.5",
        log_sigma=1.166929,
        skewness=-1.377001,
        excess_kurtosis=3.337619,
        divergence=0.130139,
        ks_distance=0.085614,
        wasserstein=0.203377,
        jensen_shannon=0.029558,
        hellinger=0.184111,
    ),
    Ruler(
        family="generalised normal 0.5",
        log_sigma=1.606156,
        skewness=-0.780244,
        excess_kurtosis=1.187526,
        divergence=0.045204,
        ks_distance=0.049284,
        wasserstein=0.119020,
        jensen_shannon=0.010332,
        hellinger=0.105722,
    ),
)
"""Log-moments in closed form (polygamma functions), distances by quadrature, six digits after the point."""
