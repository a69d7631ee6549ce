"""The kernel cache on disk: faults injected for real. What is read was written by this user, whole; nothing raises."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from autobatch.base import disk
from autobatch.errors import CacheWarning

NAME = "loop-" + "0" * 32 + ".nbc"
OTHER = "loop-" + "1" * 32 + ".nbc"
STRANGER = 54321

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes of POSIX")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder whose parents only this user can write to, whatever the umask of the tests is."""
    old = os.umask(0o022)
    tmp_path.chmod(0o755)
    yield tmp_path
    os.umask(old)


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(home / "cache"))
    for name in ("_trusted", "_temporary", "_warned", "_since_look"):
        monkeypatch.setattr(disk, name, type(getattr(disk, name))())
    return home / "cache"


def modes(*paths: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_what_is_written_is_read_and_nobody_elses_to_write(folder: Path, home: Path, umask: int) -> None:
    os.umask(umask)
    os.environ["AUTOBATCH_CACHE_DIR"] = str(home / "new" / "cache")
    assert disk.read(NAME) is None
    disk.write(NAME, b"code")
    assert disk.read(NAME) == b"code"
    assert modes(home / "new", home / "new" / "cache", home / "new" / "cache" / NAME) == [0o700, 0o700, 0o600]
    assert os.listdir(home / "new" / "cache") == [NAME]


def damaged(folder: Path) -> Iterator[bytes]:
    """What may be in a file that is not whole, or another's."""
    whole = (folder / NAME).read_bytes()
    yield from (whole[:n] for n in (0, 1, 18, 19, 30, 51, 52, len(whole) - 1))
    yield bytes(len(whole))
    yield b"something else entirely" * 10
    yield whole + b"x"
    yield whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    yield (folder / OTHER).read_bytes()


def test_damaged_files_are_not_there_and_are_made_anew_with_one_warning(folder: Path) -> None:
    disk.write(NAME, b"code" * 20)
    disk.write(OTHER, b"code" * 20)
    with pytest.warns(CacheWarning, match=f"damaged or not this user's own, and is rebuilt: {folder}") as warned:
        for content in damaged(folder):
            (folder / NAME).write_bytes(content)
            assert disk.read(NAME) is None
            disk.write(NAME, b"anew")
            assert disk.read(NAME) == b"anew"
    assert len(warned) == 1 and warned[0].filename == __file__


@as_root
@pytest.mark.parametrize("fault", ["owner", "group writes", "others write"])
def test_a_file_that_another_user_could_have_written_is_not_read(folder: Path, fault: str) -> None:
    disk.write(NAME, b"code")
    path = folder / NAME
    if fault == "owner":
        os.chown(path, STRANGER, 0)
    else:
        path.chmod(0o620 if fault == "group writes" else 0o602)
    with pytest.warns(CacheWarning, match="not this user's own"):
        assert disk.read(NAME) is None
    disk.write(NAME, b"anew")
    assert disk.read(NAME) == b"anew"


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_what_is_no_file_is_not_read(folder: Path, home: Path, kind: str) -> None:
    disk.write(OTHER, b"code")
    path = folder / NAME
    if kind == "link":
        path.symlink_to(folder / OTHER)
    elif kind == "dangling link":
        path.symlink_to(home / "nothing")
    elif kind == "pipe":
        os.mkfifo(path)
        disk._warned.add("damaged")  # said before
    else:
        path.mkdir()
        disk._warned.update(("damaged", "elsewhere"))
    assert disk.read(NAME) is None
    disk.write(NAME, b"anew")
    assert disk.read(NAME) == b"anew"
    assert disk.read(OTHER) == b"code"


def spoil(folder: Path, home: Path, fault: str) -> None:
    """Make a folder one that others can write to."""
    folder.mkdir(mode=0o700)
    if fault == "others write":
        folder.chmod(0o777)
    elif fault == "others write, sticky":
        folder.chmod(0o1777)
    elif fault == "group writes":
        os.chown(folder, -1, STRANGER)
        folder.chmod(0o770)
    elif fault == "owner":
        os.chown(folder, STRANGER, STRANGER)
    elif fault == "owner above":
        os.chown(home, STRANGER, STRANGER)
    elif fault == "others write above":
        home.chmod(0o777)
    else:
        folder.rename(home / "real")
        folder.symlink_to(home / "real")
        os.chown(folder, STRANGER, STRANGER, follow_symlinks=False)


FAULTS = ["others write", "others write, sticky", "group writes", "owner", "owner above", "others write above", "link"]


@as_root
@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, home: Path, fault: str) -> None:
    spoil(folder, home, fault)
    planted = b"".join([disk._MAGIC, disk._digest(NAME, b"planted"), b"planted"])
    (folder / NAME).write_bytes(planted)
    (folder / NAME).chmod(0o600)
    with pytest.warns(CacheWarning, match="cannot be used for compiled functions") as warned:
        assert disk.read(NAME) is None
        disk.write(NAME, b"code")
        assert disk.read(NAME) == b"code"
    assert len(warned) == 1
    assert os.listdir(folder) == [NAME] and (folder / NAME).read_bytes() == planted
    private = disk.folder()
    assert private is not None and private in str(warned[0].message)
    assert modes(Path(private)) == [0o700] and os.stat(private).st_uid == os.geteuid()


def test_a_sticky_folder_above_and_links_of_ones_own_are_no_fault(folder: Path, home: Path) -> None:
    home.chmod(0o1777)
    (home / "real").mkdir(mode=0o700)
    folder.symlink_to(home / "real")
    disk.write(NAME, b"code")
    assert disk.read(NAME) == b"code"
    assert os.listdir(home / "real") == [NAME]


@pytest.mark.parametrize("members", [[], ["me"], ["me", "you"]])
def test_a_group_of_one_user_is_nobody_else(folder: Path, members: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd
    from types import SimpleNamespace

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="me"))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name="me", gr_mem=members))
    folder.mkdir()
    folder.chmod(0o770)
    if "you" in members:
        with pytest.warns(CacheWarning, match="other users can write"):
            assert disk.folder() != str(folder)
    else:
        assert disk.folder() == str(folder)


AS_ANOTHER = """
import os, sys, warnings
from autobatch.base import disk
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
warnings.simplefilter("always")
print(disk.read({name!r}))
disk.write({other!r}, b"more")
print(disk.read({other!r}), disk.folder() != {folder!r})
"""


@pytest.fixture
def reachable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user can read."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        monkeypatch.setenv("AUTOBATCH_CACHE_DIR", made)
        yield Path(made)


@as_root
def test_a_folder_of_root_that_is_read_only_is_read(reachable: Path) -> None:
    folder = reachable
    disk.write(NAME, b"code")
    (folder / NAME).chmod(0o644)
    code = AS_ANOTHER.format(uid=STRANGER, name=NAME, other=OTHER, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["b'code'", "b'more' True"]
    assert done.stderr.count("CacheWarning") == 1 and "it is read-only" in done.stderr
    assert os.listdir(folder) == [NAME]


@pytest.mark.parametrize("place", ["missing home", "file", "below a file", "impossible"])
def test_without_a_folder_files_are_kept_until_the_process_ends(
    folder: Path, home: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    wanted = {"file": home / "file", "below a file": home / "file" / "x", "impossible": Path("/proc/no/folder")}
    if place == "missing home":
        for name in ("AUTOBATCH_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "")
        assert disk.chosen() is None
    else:
        monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(wanted[place]))
    with pytest.warns(CacheWarning, match="kernel cache") as warned:
        disk.write(NAME, b"code")
        assert disk.read(NAME) == b"code"
    assert len(warned) == 1
    assert disk.folder() in map(str, disk._temporary)


def test_without_any_folder_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", "/proc/no/folder")

    def fail(**_: object) -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.mkdtemp", fail)
    with pytest.warns(CacheWarning, match="they are not cached"):
        disk.write(NAME, b"code")
        assert disk.read(NAME) is None
        assert disk.folder() is None


def test_where_the_environment_says(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.chosen() == str(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", "~/kernels")  # as nothing but a shell expands it
    assert disk.chosen() == str(home / "kernels")
    monkeypatch.delenv("AUTOBATCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert disk.chosen() == str(home / "xdg" / "autobatch")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    assert disk.chosen() == str(home / ".cache" / "autobatch")


def test_a_folder_that_is_removed_meanwhile_is_made_again(folder: Path) -> None:
    disk.write(NAME, b"code")
    shutil.rmtree(folder)
    assert disk.read(NAME) is None
    disk.write(NAME, b"code")
    assert disk.read(NAME) == b"code"
    assert modes(folder) == [0o700]


@as_root
def test_a_full_disk_is_one_warning(folder: Path) -> None:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        disk.write(OTHER, b"small")
        with pytest.warns(CacheWarning, match="No space left") as warned:
            for _ in range(3):
                disk.write(NAME, bytes(100_000))
        assert len(warned) == 1
        assert os.listdir(folder) == [OTHER]
        assert disk.read(NAME) == bytes(100_000)  # from the temporary folder
        assert disk.read(OTHER) == b"small"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_oldest_go_where_all_take_too_much(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_CACHE_SIZE", "0.05")
    assert disk.limit() == 50_000
    names = [f"loop-{k:032x}.nbc" for k in range(30)]
    (folder.parent / "cache").mkdir()
    (folder / "letter.txt").write_bytes(bytes(60_000))
    for k, name in enumerate(names):
        disk.write(name, bytes(5000))
        os.utime(folder / name, (1000 + k, 1000 + k))
        assert disk.read(names[0]) is not None  # which is a use
    kept = sorted(path.name for path in folder.glob("*.nbc"))
    n_files, n_bytes = disk.usage()
    assert n_files == len(kept) and 25_000 < n_bytes <= 60_000
    assert names[0] in kept and set(kept[1:]) == set(names[-len(kept) + 1 :])
    assert (folder / "letter.txt").exists()


@pytest.mark.parametrize("size", ["much", "-5", "nan", "inf", ""])
def test_a_size_that_is_no_number_is_one_warning(folder: Path, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_CACHE_SIZE", size)
    with pytest.warns(CacheWarning, match=f"no number of megabytes: '{size}'"):
        assert disk.limit() == disk.limit() == 1_000_000_000


def test_many_at_once(folder: Path) -> None:
    faults: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for round in range(60):
                data = disk.read(NAME)
                assert data in (None, b"code" * 1000)
                disk.write(NAME, b"code" * 1000)
                if k == 0 and round % 10 == 9:
                    disk.clear()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert set(os.listdir(folder)) <= {NAME}


def test_the_command_shows_and_clears(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from autobatch.demo.cli import main

    disk.write(NAME, bytes(250_000))
    disk.write(OTHER, bytes(250_000))
    (folder / "letter.txt").touch()
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"{folder}: 2 files, 0.5 MB of at most 1,000 MB\n"
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == f"{folder}: 0 files, 0.0 MB of at most 1,000 MB\n"
    assert os.listdir(folder) == ["letter.txt"]
