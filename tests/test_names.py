"""Names of classes: files and the built-in ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkbn import names
from darkbn.errors import CfgError, DarkbnError


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_built_in_names() -> None:
    coco, voc = names.names_for(80), names.names_for(20)
    assert (len(set(coco)), coco[0], coco[16], coco[79]) == (80, "person", "dog", "toothbrush")
    assert (len(set(voc)), voc[0], voc[11], voc[19]) == (20, "aeroplane", "dog", "tvmonitor")
    assert names.built_in_names(3) is None
    assert names.names_for(3) == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize("content", ["cat\nhot dog\n", "cat\r\nhot dog\r\n\r\n", "\ufeffcat\n hot dog \n\n"])
def test_names_are_lines(tmp_path: Path, content: str) -> None:
    assert names.read_names(write(tmp_path / "a.names", content)) == ("cat", "hot dog")


def test_numbers_of_classes_stay_right(tmp_path: Path) -> None:
    """An empty line in the middle is a class without a name."""
    assert names.read_names(write(tmp_path / "a.names", "cat\n\ndog\n")) == ("cat", "", "dog")
    assert names.read_names(write(tmp_path / "b.names", b"caf\xe9\n")) == ("caf�",)


def test_data_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.data", "classes= 2\n#names = old\n\nnames = my names/a.names\nnames=b\n; end\n")
    assert names.read_data(path) == {"classes": "2", "names": "my names/a.names"}
    with pytest.raises(CfgError, match=r"b\.data:2: expected key = value, found 'oops'"):
        names.read_data(write(tmp_path / "b.data", "names=x\noops\n"))


def test_data_files_point_to_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Darknet from the current folder, else from the folders of the .data file."""
    data = write(tmp_path / "darknet" / "cfg" / "a.data", "names = data/a.names\n")
    write(tmp_path / "darknet" / "data" / "a.names", "above\n")
    assert names.names_of_data(data) == ("above",)
    write(tmp_path / "darknet" / "cfg" / "data" / "a.names", "beside\n")
    assert names.names_of_data(data) == ("beside",)
    write(tmp_path / "here" / "data" / "a.names", "here\n")
    monkeypatch.chdir(tmp_path / "here")
    assert names.names_of_data(data) == ("here",)
    labels = write(tmp_path / "labels.data", f"labels = {tmp_path}/here/data/a.names\n")
    assert names.names_of_data(labels) == ("here",)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DarkbnError, match=r"no\.names: cannot read the file: No such file"):
        names.read_names(tmp_path / "no.names")
    with pytest.raises(DarkbnError, match=r"empty\.names: no names"):
        names.read_names(write(tmp_path / "empty.names", "\n\n"))
    with pytest.raises(CfgError, match=r"a\.data: names: expected names = FILE"):
        names.names_of_data(write(tmp_path / "a.data", "classes=2\n"))
    with pytest.raises(CfgError, match=r"b\.data: names: no file 'gone\.names'"):
        names.names_of_data(write(tmp_path / "b.data", "names=gone.names\n"))
