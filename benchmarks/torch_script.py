"""What a user would write with torch: mean and standard deviation of ln|w|, one tensor at a time."""

import sys

from safetensors import safe_open

with safe_open(sys.argv[1], framework="pt") as file:
    for name in file.keys():  # noqa: SIM118 - not a dict
        x = file.get_tensor(name).float().abs().log()
        print(name, x.mean().item(), x.std().item())
