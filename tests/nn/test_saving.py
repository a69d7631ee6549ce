"""State dicts on disk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

import autobatch as ab
from autobatch import nn
from autobatch.nn.saving import metadata
from tests.instructions import interrupted

DTYPES = ["bool", "float16", "float32", "float64"]
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_come_back_as_they_were(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    ab.save(tmp_path / "state", {"a.b": array})
    (name, loaded), *rest = ab.load(tmp_path / "state").items()
    assert (name, rest) == ("a.b", [])
    assert loaded.dtype == array.dtype
    assert loaded.shape == shape
    np.testing.assert_array_equal(loaded, array)
    loaded[...] = 1  # a copy that may be changed


def test_values_survive_bit_for_bit(tmp_path: Path) -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, np.pi])
    ab.save(tmp_path / "state", {"x": array})
    assert ab.load(tmp_path / "state")["x"].tobytes() == array.tobytes()


def test_views_and_foreign_byte_orders_are_written_by_value(tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(3, 4)
    views = {"t": array.T, "s": array[::2, 1::2], "r": array[::-1], "big": array.astype(">f8"), "f": array.astype("f")}
    ab.save(tmp_path / "state", views)
    for name, loaded in ab.load(tmp_path / "state").items():
        np.testing.assert_array_equal(loaded, views[name])


def test_a_module_is_saved_as_its_state_dict(tmp_path: Path) -> None:
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    ab.save(str(tmp_path / "layer"), layer)
    state = ab.load(str(tmp_path / "layer"))
    assert set(state) == {"bias", "weight"}
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.weight.numpy(), layer.weight.numpy())


def test_parameters_and_buffers_may_stand_in_a_state(tmp_path: Path) -> None:
    ab.save(tmp_path / "state", {"p": ab.Parameter(np.ones(2)), "b": nn.Buffer(np.array([1, 2]))})
    assert ab.load(tmp_path / "state")["p"].tolist() == [1, 1]
    assert ab.load(tmp_path / "state")["b"].tolist() == [1, 2]


def test_what_cannot_be_written_is_listed(tmp_path: Path) -> None:
    state: dict[Any, Any] = {"good": np.ones(2), "text": "abc", "object": np.array([None]), "c": np.ones(1, complex)}
    with pytest.raises(TypeError) as caught:
        ab.save(tmp_path / "state", state | {3: np.ones(1)})
    listed = [line.strip().split(":")[0] for line in str(caught.value).splitlines()[1:]]
    assert listed == ["'text'", "'object'", "'c'", "3"]
    with pytest.raises(TypeError, match="expected a module or a state dict, got list"):
        ab.save(tmp_path / "state", [np.ones(2)])
    assert names(tmp_path) == []


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for k in range(3):
        ab.save(path, {"x": np.full(4, k)})
    assert ab.load(path)["x"].tolist() == [2, 2, 2, 2]
    assert names(tmp_path) == ["state"]


def test_a_save_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    ab.save(path, {"x": np.zeros(2)})

    def fail(*_: Any) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is gone"):
        ab.save(path, {"x": np.ones(2)})
    monkeypatch.undo()
    assert ab.load(path)["x"].tolist() == [0, 0]
    assert names(tmp_path) == ["state"]


# A file that Ctrl-C catches between `open` and `with` is closed by the garbage collector, which warns.
FILES = tuple(str(Path(ab.__file__).parent / name) for name in ("nn/saving.py", "base/files.py"))


@pytest.mark.parametrize("unnamed", [True, False])
def test_ctrl_c_at_any_line_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    path = tmp_path / "state"
    line, finished = 0, False
    seen = set()
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    while not finished:
        line += 1
        ab.save(path, {"x": np.zeros(2)})
        lines, _ = interrupted(lambda: ab.save(path, {"x": np.ones(2)}), line, FILES)
        finished = lines < line
        values = ab.load(path)["x"].tolist()
        assert values in ([0, 0], [1, 1])
        assert names(tmp_path) == ["state"]
        seen.add(values[0])
    assert seen == {0, 1}


SAVES = """
import os, sys, numpy as np, autobatch as ab
real = os.fsync
def stop(handle):
    real(handle)
    print("written", flush=True)
    sys.stdin.read()
os.fsync = stop
if sys.argv[2] == "named":
    del os.O_TMPFILE
ab.save(sys.argv[1], {"x": np.ones(1000)})
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
@pytest.mark.parametrize("how", ["unnamed", "named"])
def test_a_process_that_is_killed_before_the_end_leaves_the_old_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state"
    ab.save(path, {"x": np.zeros(2)})
    command = [sys.executable, "-c", SAVES, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        process.kill()
    assert ab.load(path)["x"].tolist() == [0, 0]
    left = [name for name in names(tmp_path) if name != "state"]
    assert len(left) == (how == "named")
    for name in left:
        os.utime(tmp_path / name, (1, 1))
    with pytest.MonkeyPatch.context() as patch:
        if how == "named":
            patch.delattr(os, "O_TMPFILE")
        ab.save(path, {"x": np.ones(2)})
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize("name", ["__metadata__", "a\ud800"])
def test_a_name_that_cannot_be_loaded_is_not_saved(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"save: .*name"):
        ab.save(tmp_path / "state", {"x": np.zeros(2), name: np.zeros(2)})
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["", " ", "a/b", 'a"\\\n', "\0", "é\u2028\U0001f333", "x" * 5000])
def test_any_other_name_comes_back(tmp_path: Path, name: str) -> None:
    ab.save(tmp_path / "state", {name: np.arange(2), "x": np.zeros(3, "f2")})
    assert list(ab.load(tmp_path / "state")[name]) == [0, 1]


class Untouched:
    """A module whose state nobody asks for."""

    def state_dict(self) -> Any:
        raise AssertionError("work before the file is known to be writable")


@pytest.mark.parametrize("target", ["missing/state", "folder", "folder/", "new/", "file/state", "closed/state"])
def test_a_target_that_cannot_be_written_is_an_error_before_any_work(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.geteuid() == 0:  # whom modes do not stop
        monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path))
    with pytest.raises(OSError, match="save: the file cannot be written") as caught:
        ab.save(f"{tmp_path}/{target}", Untouched())
    assert caught.value.filename == f"{tmp_path}/{target}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    ab.save(path, {"x": np.zeros(2)})
    full = os.open("/dev/full", os.O_WRONLY)
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(full, data))
    with pytest.raises(OSError, match="No space left") as caught:
        ab.save(path, {"x": np.ones(2)})
    monkeypatch.undo()
    os.close(full)
    assert caught.value.filename == str(path)
    assert ab.load(path)["x"].tolist() == [0, 0]
    assert names(tmp_path) == ["state"]


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_a_saved_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    ab.save(tmp_path / "state", {"x": np.zeros(2)})
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("state", "plain")}
    assert len(modes) == 1


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_saving_through_a_link_replaces_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ab.save(tmp_path / "link", {"x": np.zeros(2)})
    assert (tmp_path / "link").is_symlink()
    assert ab.load(tmp_path / "real")["x"].tolist() == [0, 0]


def test_a_missing_file_or_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ab.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        ab.save(tmp_path / "no folder" / "state", {"x": np.zeros(2)})


def test_a_file_that_is_cut_short_or_something_else_says_so(tmp_path: Path) -> None:
    path = tmp_path / "state"
    ab.save(path, {"x": np.zeros(20)})
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:20], b"", b"PK\x03\x04 something else entirely"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="state is no complete safetensors file"):
            ab.load(path)


def test_files_of_other_libraries(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("safetensors.torch")
    path = str(tmp_path / "state")
    theirs.save_file({"half": torch.tensor([1.5, -2.0, 3e38]).bfloat16(), "x": torch.arange(3)}, path)
    state = ab.load(path)
    assert state["half"].dtype == np.float32
    np.testing.assert_array_equal(state["half"], torch.tensor([1.5, -2.0, 3e38]).bfloat16().float().numpy())
    assert state["x"].tolist() == [0, 1, 2]
    theirs.save_file({"tiny": torch.zeros(2).to(torch.float8_e5m2)}, path)
    with pytest.raises(ValueError, match="dtypes that NumPy lacks\n  tiny: F8_E5M2"):
        ab.load(path)
    ab.save(path, {"x": torch.ones(2, requires_grad=True)})
    assert theirs.load_file(path)["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"dim": 3}, TypeError),
        ({"dim": None}, TypeError),
        ({3: "dim"}, TypeError),
        ({"dim": {"a": "b"}}, TypeError),
        ({"dim": b"3"}, TypeError),
        (["dim"], TypeError),
        ({"dim": "\ud800"}, ValueError),
    ],
)
def test_metadata_that_no_reader_takes_leave_the_old_file(tmp_path: Path, given: Any, kind: type[Exception]) -> None:
    ab.save(tmp_path / "state", {"x": np.zeros(2)})
    with pytest.raises(kind, match=r"^save: (the )?metadata"):
        ab.save(tmp_path / "state", {"x": np.ones(2)}, given)
    assert ab.load(tmp_path / "state")["x"].tolist() == [0, 0]


def test_texts_in_the_header_are_those_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ab.save(path, {"x": np.ones(3)}, {"settings": '{"wörter": 2}', "": ""})
    assert metadata(path) == {"settings": '{"wörter": 2}', "": ""}
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == metadata(path)
    assert ab.load(path)["x"].tolist() == [1, 1, 1]
    ab.save(path, {"x": np.ones(3)})
    assert metadata(path) == {}
    for torn in (b"", b"\xff" * 8, (5).to_bytes(8, "little") + b'"abc"'):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match="no complete safetensors file"):
            metadata(path)
