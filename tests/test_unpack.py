import io
import stat
import zipfile

import pytest

from blockwise.errors import ModelError
from blockwise.unpack import LIMIT_FILES, unpack


def make_zip(path, members):
    """`members`: name or ZipInfo -> content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return path


def special(name, kind):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("top", ["", "model/", "a model (1)/"])
def test_a_folder_at_the_top_is_left_out(tmp_path, top):
    archive = make_zip(tmp_path / "m.zip", {f"{top}config.yaml": b"a", f"{top}more/x.h5": b"b", f"{top}empty/": b""})
    assert files(unpack(archive, tmp_path / "out" / "m")) == {"config.yaml": b"a", "more/x.h5": b"b"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "outside its folder: '../evil'"),
        ("a/../../evil", "outside its folder"),
        ("/tmp/evil", "outside its folder"),
        ("C:/evil", "outside its folder"),
        ("..\\evil", "outside its folder"),
        (special("link", stat.S_IFLNK), "a link or device: 'link'"),
        (special("pipe", stat.S_IFIFO), "a link or device: 'pipe'"),
    ],
    ids=str,
)
def test_an_evil_archive_is_refused_whole(tmp_path, name, message):
    archive = make_zip(tmp_path / "m.zip", {"config.yaml": b"a", name: b"/etc/passwd"})
    with pytest.raises(ModelError, match=message):
        unpack(archive, tmp_path / "out" / "m")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["m.zip", "out"]


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_file_and_folder_is_refused(tmp_path, names):
    archive = make_zip(tmp_path / "m.zip", {"config.yaml": b"a", **dict.fromkeys(names, b"x")})
    with pytest.raises(ModelError, match=r"m\.zip is not a zip that can be unpacked"):
        unpack(archive, tmp_path / "out" / "m")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["m.zip", "out"]


def test_size_is_bounded_while_writing(tmp_path):
    archive = make_zip(tmp_path / "bomb.zip", {"a": bytes(3_000_000), "b": bytes(3_000_000)})
    with pytest.raises(ModelError, match="more than its limit"):
        unpack(archive, tmp_path / "m", limit_bytes=5_000_000)
    assert unpack(archive, tmp_path / "m", limit_bytes=6_000_000).is_dir()


def test_the_number_of_files_is_bounded(tmp_path):
    archive = make_zip(tmp_path / "m.zip", dict.fromkeys(map(str, range(LIMIT_FILES + 1)), b""))
    with pytest.raises(ModelError, match=f"{LIMIT_FILES + 1} members, more than {LIMIT_FILES}"):
        unpack(archive, tmp_path / "m")


@pytest.mark.parametrize("damage", ["no zip", "cut", "flipped"])
def test_a_damaged_archive_is_refused(tmp_path, damage):
    content = make_zip(tmp_path / "m.zip", {"config.yaml": bytes(range(256)) * 9}).read_bytes()
    flipped = content[:60] + bytes([content[60] ^ 255]) + content[61:]
    (tmp_path / "m.zip").write_bytes({"no zip": b"<html>", "cut": content[:-9], "flipped": flipped}[damage])
    with pytest.raises(ModelError, match=r"m\.zip is not a zip that can be unpacked"):
        unpack(tmp_path / "m.zip", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_fails_its_check_gets_no_name(tmp_path):
    def check(folder):
        raise ModelError(f"{len(files(folder))} file is too few")

    archive = make_zip(tmp_path / "m.zip", {"top/config.yaml": b"a"})
    with pytest.raises(ModelError, match="1 file is too few"):
        unpack(archive, tmp_path / "m", check=check)
    assert [p.name for p in tmp_path.iterdir()] == ["m.zip"]


def test_the_faster_of_two_wins(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.yaml").write_text("first")
    archive = io.BytesIO(make_zip(tmp_path / "m.zip", {"config.yaml": b"second"}).read_bytes())
    (tmp_path / "again.zip").write_bytes(archive.getvalue())
    assert files(unpack(tmp_path / "again.zip", tmp_path / "m")) == {"config.yaml": b"first"}
