"""What a user would write with npm-weibull-py: what it finds in each array of a file, and in how many seconds."""

import json
import sys
import time

import numpy as np
from npm_weibull import compare_distributions, extract_to_histogram, weibull_fit

with np.load(sys.argv[1]) as arrays:
    for name in arrays.files:
        weights = arrays[name]
        start = time.perf_counter()
        histogram = extract_to_histogram(weights)
        found = compare_distributions(histogram)
        seconds = time.perf_counter() - start
        answer = {
            "order": [each["name"] for each in found["aic_ranking"]],
            "weibull": found["params_per_dist"]["weibull"],
            "gamma": found["params_per_dist"]["gamma"],
            "lognormal": found["params_per_dist"]["lognormal"],
            "ks_distance": found["ks_per_dist"]["lognormal"],
            "plotted_k": weibull_fit(histogram)["k"],
            "seconds": seconds,
        }
        print(json.dumps(answer))
