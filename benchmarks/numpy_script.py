"""What a user would write with NumPy: mean and standard deviation of ln|w|, one tensor at a time."""

import json
import sys
from pathlib import Path

import numpy as np

file = Path(sys.argv[1])
with file.open("rb") as stream:
    size = int.from_bytes(stream.read(8), "little")
    header = json.loads(stream.read(size))
data = np.memmap(file, np.uint8, "r", offset=8 + size)
for name, entry in header.items():
    start, end = entry["data_offsets"]
    stored = data[start:end]
    if entry["dtype"] == "BF16":
        weights = (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        weights = stored.view(np.float32)
    with np.errstate(divide="ignore"):
        x = np.log(np.abs(weights))
    print(name, x.mean(), x.std())
