"""The benchmarks' end of the pipe to the process with DyNet."""

from __future__ import annotations

import os
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.dynet_peer.environment import interpreter
from benchmarks.dynet_peer.plain import plain_examples
from benchmarks.dynet_peer.protocol import packed, receive, send, unpacked
from benchmarks.workload import Parameters

SERVER = Path(__file__).with_name("server.py")
STRATEGIES = {
    "treelstm": 1,
    "treelstm_nodes": 1,
    "bilstm": 1,
    "tagger_chars": 1,
    "lm": 1,
    "mvrnn": 3,
    "childsum": 1,
    "lattice": 1,
    "treefc": 1,
    "mlp": 1,
}
"""The fastest of DyNet's strategies at batch 64; often they differ by less than 3 %. 1 works off an agenda, 2 goes by
depth, 3 is 1 that waits for all of a depth. 2 gives wrong losses on `tagger_chars`; 3 crashes on it and on `lattice`.
`python -m benchmarks.dynet_peer strategies` measures them again."""


def dynet_trainer(workload: str, parameters: Parameters, dim: int, examples: Sequence[Any]) -> DynetTrainer:
    """The program of this workload in DyNet, with its best strategy. Raises DynetMissing, an ImportError."""
    return DynetTrainer(server_command(), workload, parameters, dim, examples, STRATEGIES[workload])


def server_command() -> list[str]:
    """What starts the process with DyNet. Raises DynetMissing, an ImportError."""
    return [str(interpreter()), "-E", "-s", str(SERVER)]


class DynetTrainer:
    """A training program that runs in another process. Its steps take examples of those it was made with."""

    name = "dynet"

    def __init__(
        self,
        command: Sequence[str],
        workload: str,
        parameters: Parameters,
        dim: int,
        examples: Sequence[Any],
        strategy: int,
    ) -> None:
        self._examples = list(examples)  # held, so that the ids below stay theirs
        self._index = {id(example): k for k, example in enumerate(self._examples)}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # A session of its own: Ctrl-C reaches the benchmarks alone, and their end ends this process.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **threads},
            start_new_session=True,
        )
        self._finalizer = weakref.finalize(self, _end, self.process, self._errors)
        content = {"workload": workload, "dim": dim, "strategy": strategy, "parameters": packed(parameters)}
        self._ask("start", {**content, "examples": plain_examples(workload, self._examples)})

    def step(self, examples: Sequence[Any]) -> float:
        """One step by Adam. Returns the summed loss before the update."""
        return self._ask("step", self._indices(examples))

    def loss_and_gradients(self, examples: Sequence[Any]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients, under the names of the parameters; nothing is updated."""
        loss, gradients = self._ask("gradients", self._indices(examples))
        return loss, unpacked(gradients)

    def close(self) -> None:
        """End the process. It also ends with this object, and with the program."""
        self._finalizer()

    def _indices(self, examples: Sequence[Any]) -> list[int]:
        try:
            return [self._index[id(example)] for example in examples]
        except KeyError:
            raise ValueError("dynet: an example that the trainer was not made with") from None

    def _ask(self, kind: str, content: Any) -> Any:
        """Send a request and wait for its reply. Left half-way, the process is ended: its reply would come too late."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            send(self.process.stdin, kind, content)
            reply, result = receive(self.process.stdout)
        except (EOFError, BrokenPipeError, ValueError) as error:
            status = "was closed" if not self._finalizer.alive else f"ended with status {self.process.wait()}"
            said = self._said()
            self.close()
            raise RuntimeError(f"dynet: the process {status}\n{said}") from error
        except BaseException:
            self.close()
            raise
        if reply == "error":
            raise RuntimeError(f"dynet: {kind} failed in its process\n{result}")
        return result

    def _said(self) -> str:
        """The end of what the process wrote to its standard error."""
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode(errors="replace")


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """End the process now, and wait until it has ended."""
    process.kill()
    process.communicate()
    errors.close()
