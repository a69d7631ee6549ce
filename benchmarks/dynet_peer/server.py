"""The process with DyNet. It runs in DyNet's environment, as a script: `python server.py`.

DyNet reads its settings once, when it is imported, so everything that imports it waits for the first message. What it
prints goes to the standard error, for the standard output carries the replies.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import protocol

MEGABYTES = "1000,1000,200,50"
"""Forward, backward, parameters, scratch: enough for 256 examples of each workload. DyNet cannot take more later on
when it batches."""


def start(content: dict[str, Any]) -> protocol.Program:
    import dynet_config

    dynet_config.set(mem=MEGABYTES, random_seed=1, autobatch=content["strategy"])
    import programs

    gc.disable()  # neither programs nor graphs make cycles
    return programs.make(content["workload"], content["parameters"], content["dim"], content["examples"])


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    protocol.serve(sys.stdin.buffer, replies, start)
