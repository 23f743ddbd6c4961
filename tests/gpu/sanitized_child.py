"""A process of its own, with AddressSanitizer's library preloaded, that runs cases on sanitized kernels.

Standard input is JSON: `text`, the sources by name, and `operations`, the trials of trials.py to run. It prints DONE at
the end; a wrong address ends it before, with AddressSanitizer's report.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import shimlib
import trials

from vae_np.kernels.gpu import _device

given = json.load(sys.stdin)
with _device.use(shimlib.ShimDevice(order="shuffled", sanitize=True, quick=True, text=given["text"])):
    for operation in given["operations"]:
        trials.run(operation, np.float32)
print("DONE")
