"""The training loop: it is the loop that users write, and it goes on bit for bit where it was stopped."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.train import Callback, Checkpoint, EarlyStopping, fit

pytestmark = pytest.mark.unchecked

EXAMPLES = [(np.array([k % 3, k % 5], np.float32), k % 2) for k in range(22)]
EPOCHS = 4


class Model(nn.Module):
    def __init__(self) -> None:
        self.hidden, self.out, self.dropout = nn.Linear(2, 4), nn.Linear(4, 2), nn.Dropout(0.3)

    def scored(self, example: Any) -> Any:
        x, label = example
        logits = self.out(self.dropout(ab.tanh(self.hidden(ab.tensor(x)))))
        return ab.cross_entropy(logits, label), logits

    def loss(self, example: Any) -> Any:
        return self.scored(example)[0]


def parts() -> Any:
    ab.seed(1)
    model = Model()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    batches = ab.data.minibatches(EXAMPLES, batch_size=4, shuffle=True)
    return model, batches, optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 6 * EPOCHS)


def trained(*callbacks: Callback, epochs: int = EPOCHS, **options: Any) -> Any:
    model, batches, optimizer, scheduler = parts()
    test = ab.data.minibatches(EXAMPLES[:6], batch_size=4)
    metrics = ab.train.accuracy(lambda example: example[1])
    chosen = {"loss": model.scored, "metrics": metrics, "scheduler": scheduler, "max_norm": 1.0, **options}
    return fit(model, batches, optimizer, epochs, test, callbacks=callbacks, **chosen)


def exact(run: Any) -> Any:
    """All that must be the same, bit for bit."""
    timed = ("seconds", "examples_per_second")
    history = [{name: x for name, x in record.items() if name not in timed} for record in run.history]
    return {name: x.tobytes() for name, x in run.state_dict().items() if name != "seconds"}, history


class After(Callback):
    def __init__(self, steps: int, act: Any) -> None:
        self.left, self.act = steps, act

    def on_step(self, run: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.act(run)


def stop(run: Any) -> None:
    run.stop = True


def test_it_is_the_loop_that_users_write() -> None:
    model, batches, optimizer, scheduler = parts()
    for _ in range(EPOCHS):
        for batch in batches:
            optimizer.zero_grad()
            ab.mean(ab.map(model.loss, batch)).backward()
            optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        model.eval()
        for batch in ab.data.minibatches(EXAMPLES[:6], batch_size=4):
            with ab.no_grad():
                ab.evaluate(ab.map(model.loss, batch))
        model.train()
    mine = trained().model.state_dict()
    assert all((mine[name] == value).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("steps", [6, 9, 24])
def test_it_goes_on_bit_for_bit(tmp_path: Path, steps: int) -> None:
    checkpoint = Checkpoint(tmp_path)
    stopped = trained(checkpoint, After(steps, stop))
    assert len(stopped.history) == (steps - 1) // 6
    assert exact(trained(checkpoint, resume=checkpoint.last)) == exact(trained())


def test_ctrl_c_waits_for_the_minibatch_and_saves(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    model, *_ = parts()
    calls = 0

    def scored(example: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 10:  # in the middle of a minibatch
            os.kill(os.getpid(), signal.SIGINT)
        return Model.scored(held[0], example)

    held = [model]

    class Hold(Callback):
        def on_start(self, run: Any) -> None:
            held[0] = run.model

    with pytest.raises(KeyboardInterrupt):
        trained(Hold(), checkpoint, loss=scored)
    assert signal.getsignal(signal.SIGINT) is before
    assert ab.load(checkpoint.last)["batches.given"] == 3
    assert exact(trained(checkpoint, resume=checkpoint.last)) == exact(trained())


def test_a_second_ctrl_c_acts_at_once() -> None:
    after = []

    class Ends(Callback):
        def on_end(self, run: Any) -> None:
            after.append(run)

    def twice(run: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        after.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        trained(After(2, twice), Ends())
    [run] = after
    assert run.history == []


def test_early_stopping_goes_by_the_history(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)

    class Told(Callback):
        def on_epoch(self, run: Any) -> None:
            run.history[-1]["told"] = [3.0, 1.0, math.nan, 2.0, 1.0, 0.0][len(run.history) - 1]

    stopping = EarlyStopping("told", patience=2)
    run = trained(Told(), checkpoint, stopping, epochs=6)
    assert len(run.history) == 4
    assert len(trained(stopping, epochs=6, resume=checkpoint.last).history) == 4
    assert (run.best_epoch("told"), run.best_epoch("told", "max"), run.is_best("told")) == (1, 0, False)
    with pytest.raises(KeyError, match="expected epoch, loss, accuracy"):
        run.best_epoch("acuracy")


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "told", settings={"width": 2})

    class Told(Callback):
        def on_epoch(self, run: Any) -> None:
            run.history[-1]["told"] = [3.0, 1.0, 2.0][len(run.history) - 1]
            states.append(run.model.state_dict())

    states: list[Any] = []
    trained(Told(), checkpoint, epochs=3)
    model = ab.train.load_model(checkpoint.best, Model())
    assert all((value == states[1][name]).all() for name, value in model.state_dict().items())
    assert ab.train.settings_of(checkpoint.last) == {"width": 2}
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", "last.safetensors"]


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("in the way")
    steps = After(1, lambda run: pytest.fail("it trained"))
    with pytest.raises(OSError, match="file"):
        trained(steps, Checkpoint(tmp_path / "file"))
    with pytest.raises(TypeError, match="JSON"):
        trained(steps, Checkpoint(tmp_path, settings={"path": tmp_path}))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    ab.train.save_model(path, Model())
    with pytest.raises(ValueError, match="no checkpoint to go on from"):
        trained(resume=path)
    checkpoint = Checkpoint(tmp_path)
    trained(checkpoint, epochs=1)
    with pytest.raises(ValueError, match=r"hidden.weight: expected shape \(7, 2\)"):
        wide = Model()
        wide.hidden = nn.Linear(2, 7)
        optimizer = optim.SGD(wide.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
        fit(wide, parts()[1], optimizer, 1, scheduler=schedule, resume=checkpoint.last, callbacks=[])
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="no complete safetensors file"):
        ab.train.settings_of(path)


def test_a_loss_that_is_not_finite_ends_training() -> None:
    model = nn.Linear(1, 1)
    weight = model.bias
    batches = ab.data.minibatches([1.0, 2.0, 3.0], batch_size=1)
    optimizer = optim.SGD([weight], lr=0.1)
    with pytest.raises(FloatingPointError, match="epoch 1 is not finite"):
        fit(model, batches, optimizer, 2, loss=lambda x: ab.log(ab.sum(weight) - x), callbacks=[])


def test_no_examples_and_a_model_without_loss_are_errors() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="nothing to train on"):
        fit(model, ab.data.minibatches([], 1), optim.SGD(model.parameters(), lr=0.1), 1)
    with pytest.raises(TypeError, match="Linear has no method `loss`"):
        fit(model, ab.data.minibatches([1], 1), optim.SGD(model.parameters(), lr=0.1), 1)


def test_arguments_of_other_kinds_are_refused_before_training() -> None:
    model, batches, optimizer, _ = parts()
    other = optim.SGD([ab.Parameter([1.0])], lr=0.1)
    good: dict[str, Any] = {"batches": batches, "optimizer": optimizer, "epochs": 1, "callbacks": []}
    faults: Any = (
        (ValueError, "none of the model's parameters", {"optimizer": other}),
        (TypeError, "test can be iterated once only", {"test": iter([EXAMPLES])}),
        (TypeError, "no minibatches", {"batches": [EXAMPLES]}),
        (ValueError, "epochs is negative", {"epochs": -1}),
        (TypeError, "float", {"epochs": 1.0}),
        *((TypeError, "no list of callbacks", {"callbacks": c}) for c in (Callback(), Callback, [Callback], [print])),
    )
    for kind, text, wrong in faults:
        with pytest.raises(kind, match=text):
            fit(model, **{**good, **wrong})
    for kind, text, make in (
        (ValueError, "no such mode", lambda: EarlyStopping(mode="least")),
        (ValueError, "patience", lambda: EarlyStopping(patience=0)),
        (ValueError, "no such mode", lambda: Checkpoint("nowhere", mode="least")),
        (TypeError, "JSON", lambda: Checkpoint("nowhere", settings={"x": np.ones(2)})),
    ):
        with pytest.raises(kind, match=text):
            make()


def test_only_the_same_run_is_gone_on_with(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    trained(checkpoint, After(2, stop))
    model, batches, optimizer, scheduler = parts()
    others: Any = (
        ("expected scheduler, got no scheduler", {}),
        ("expected batch_size=4, got batch_size=5", {"batches": ab.data.minibatches(EXAMPLES, 5, shuffle=True)}),
        ("expected n_examples=22", {"batches": ab.data.minibatches(EXAMPLES[1:], 4, shuffle=True)}),
    )
    for text, other in others:
        chosen = {"batches": batches, "scheduler": scheduler if other else None, **other}
        with pytest.raises(ValueError, match=text):
            fit(model, optimizer=optimizer, epochs=1, callbacks=[], resume=checkpoint.last, **chosen)


def test_no_file_of_another_run_stays(tmp_path: Path) -> None:
    trained(Checkpoint(tmp_path), ab.train.Curve(tmp_path), epochs=1)
    trained(Checkpoint(tmp_path), ab.train.Curve(tmp_path), After(2, stop))
    assert os.listdir(tmp_path) == ["last.safetensors"]
    # An epoch is not lost to a name that there is not; training goes on from it.
    with pytest.raises(KeyError, match="acuracy"):
        trained(Checkpoint(tmp_path, "acuracy"))
    assert os.listdir(tmp_path) == ["last.safetensors"]
    assert len(trained(Checkpoint(tmp_path), resume=tmp_path / "last.safetensors", epochs=2).history) == 2


def test_evaluation_leaves_the_mode_and_has_no_dropout() -> None:
    model = Model()
    inner = model.dropout
    ab.train.evaluate(model, [EXAMPLES[:3]])
    assert model.training and inner.training
    model.eval()
    first, second = (ab.train.predict(model, EXAMPLES, lambda e: model.scored(e)[1], batch_size=5) for _ in range(2))
    assert len(first) == 22 and not model.training
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_plateau_is_that_of_the_test_loss() -> None:
    model, batches, optimizer, _ = parts()
    seen: list[float] = []

    class Plateau(optim.lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics: Any) -> None:
            seen.append(metrics)

    run = fit(model, batches, optimizer, 2, [EXAMPLES[:3]], scheduler=Plateau(optimizer), callbacks=[])
    assert seen == [record["test_loss"] for record in run.history]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"optimizer": optim.SGD}, TypeError, "fit: this is no optimiser"),
        ({"scheduler": "cosine"}, TypeError, "fit: this is no scheduler"),
        ({"scheduler": optim.lr_scheduler.StepLR}, TypeError, "fit: this is no scheduler"),
        ({"metrics": "accuracy"}, TypeError, "fit: metrics is no function"),
        ({"loss": "loss"}, TypeError, "fit: loss is no function"),
        ({"metrics": ab.train.accuracy(lambda example: example[1])}, TypeError, "accuracy: the loss gives no logits"),
    ],
)
def test_arguments_of_other_kinds_are_named(options: Any, kind: type[Exception], text: str) -> None:
    model, batches, optimizer, _ = parts()
    with pytest.raises(kind, match=text):
        fit(model, batches, **{"optimizer": optimizer, "epochs": 1, "callbacks": [], **options})


def test_the_scheduler_of_another_optimiser_is_refused() -> None:
    """It would leave the learning rate as it is, and nothing would say so."""
    model, batches, optimizer, _ = parts()
    *_, others = parts()
    with pytest.raises(ValueError, match="the scheduler is that of another optimiser"):
        fit(model, batches, optimizer, 1, scheduler=others, callbacks=[])


def test_every_callback_is_called_at_the_end_also_where_one_fails() -> None:
    ended = []

    class Ends(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_end(self, run: Any) -> None:
            ended.append(self.name)
            raise OSError(self.name)

    with pytest.raises(OSError, match="second"):
        trained(Ends("first"), Ends("second"), epochs=0)
    assert ended == ["first", "second"]


def test_a_batch_size_of_any_length_is_kept(tmp_path: Path) -> None:
    model, _, optimizer, _ = parts()
    checkpoint = Checkpoint(tmp_path)
    for epochs, resume in ((1, None), (2, checkpoint.last)):
        batches = ab.data.minibatches(EXAMPLES, batch_size=10**30)
        run = fit(model, batches, optimizer, epochs, callbacks=[checkpoint], resume=resume)
    assert len(run.history) == 2


def test_a_name_that_is_not_in_the_history_is_said_in_lines() -> None:
    run: Any = ab.train.Run(*([None] * 3))
    run.history = [{"loss": 1.0}]
    with pytest.raises(KeyError) as caught:
        run.best_epoch("los")
    assert str(caught.value) == "history: there is no such name\n  expected loss, got 'los'"


@pytest.mark.parametrize(
    ("found", "kind", "text"),
    [
        ({"loss": (1, 1)}, ValueError, "the name 'loss' is taken"),
        ({"seconds": (1, 1)}, ValueError, "the name 'seconds' is taken"),
        ({"test_accuracy": (1, 1)}, ValueError, "the name 'test_accuracy' is taken"),
        ({"accuracy": 0.5}, TypeError, r"expected {\"name\": \(sum, count\)}, got {'accuracy': 0.5}"),
        (None, TypeError, "these are no sums and counts"),
    ],
)
def test_metrics_that_would_be_counted_wrongly_are_refused(found: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        trained(epochs=1, metrics=lambda examples, outputs: found)
    model, batches, *_ = parts()
    with pytest.raises(kind, match=text):
        ab.train.evaluate(model, batches, metrics=lambda examples, outputs: found)


def test_without_a_minibatch_nothing_is_trained() -> None:
    model, _, optimizer, _ = parts()
    batches = ab.data.minibatches(EXAMPLES[:3], batch_size=4, drop_last=True)
    with pytest.raises(ValueError, match="there is no minibatch to train on\n  got 3 examples"):
        fit(model, batches, optimizer, 1, callbacks=[])


def test_the_loop_can_be_read_at_once() -> None:
    source = Path(ab.train.__file__).with_name("loop.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 200
