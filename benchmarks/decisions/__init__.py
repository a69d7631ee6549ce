"""Programs that go on by values they have computed; see `program`, and `table` for what is measured."""

from __future__ import annotations

from benchmarks.decisions.program import Program

PROGRAMS: tuple[Program, ...] = (
    Program("parser", "parser, own decisions", 16, method="train_on_own", teacher="train_on_oracle"),
    Program("parser", "parser, parsing", 16, method="parse_only", trains=False),
    Program("beam", "beam search, width 3", 8, (("width", 3),), method="translate", trains=False),
    Program("beam", "beam search, width 4", 8, (("width", 4),), method="translate", trains=False),
    Program("beam", "minimum risk, width 3", 8, (("width", 3),)),
    Program("early_exit", "early exit", 64),
    Program("reinforce", "REINFORCE", 32),
    Program("ode", "adaptive ODE solver", 32),
    Program("nuts", "No-U-Turn Sampler", 32),
    Program("formulas", "1,000 formulas", 1000, trains=False),
)
