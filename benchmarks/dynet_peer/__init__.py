"""DyNet with autobatching as a peer, in a process and an environment of its own.

    python -m benchmarks.dynet_peer install        # once

    trainer = dynet_trainer("treelstm", parameters, dim, examples)    # raises ImportError where DyNet is missing
    trainer.step(examples[:64])

Parameters and examples are sent once; a step sends the indices of its examples and gets the loss. The process has one
thread and ends with its trainer, or with the program that made it, however that ends.

| file           | runs in          | holds                                                              |
|----------------|------------------|--------------------------------------------------------------------|
| environment.py | the benchmarks   | where DyNet is, and how it gets there                              |
| plain.py       | the benchmarks   | examples as plain values                                           |
| trainer.py     | the benchmarks   | the other end of the pipe                                          |
| protocol.py    | both             | the messages                                                       |
| server.py      | DyNet's process  | the loop that answers                                              |
| training.py    | DyNet's process  | parameters, and a step of training                                 |
| programs.py    | DyNet's process  | the models                                                         |
"""

from benchmarks.dynet_peer.environment import DynetMissing
from benchmarks.dynet_peer.trainer import DynetTrainer, dynet_trainer

__all__ = ["DynetMissing", "DynetTrainer", "dynet_trainer"]
