"""The darkbn command: output, exit status, what goes where."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from darkbn.cli.main import app
from darkbn.images import read_pixels

RED, BLUE = (80, 160, 160, 240), (240, 0, 320, 80)
PICTURE = np.kron(colours.picture(red=(8, 16, 16, 24), blue=(24, 0, 32, 8)), np.ones((10, 10, 1), np.uint8))


def run(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


@pytest.fixture
def net(tmp_path: Path) -> list[str]:
    """Paths of cfg and weights of a detector."""
    return colours.save(colours.detector(), tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one that is broken, and a file that is none."""
    path = tmp_path / "photos"
    path.mkdir()
    for name in ("b.png", "a.PNG"):
        Image.fromarray(PICTURE).save(path / name, "PNG")
    (path / "broken.jpg").write_bytes(b"nothing")
    (path / "notes.txt").write_text("no picture")
    return path


def corners(box: dict[str, float], size: int = 320) -> tuple[int, ...]:
    x, y, w, h = (box[k] * size for k in "xywh")
    return round(x - w / 2), round(y - h / 2), round(x + w / 2), round(y + h / 2)


# detect


def test_objects_are_listed(net: list[str], picture: Path) -> None:
    done = run("detect", *net, picture)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{picture}: 320 x 320, 2 objects, ")
    assert sorted(lines[1:]) == [
        "  class 0  100.0%   x  80 - 160   y 160 - 240",
        "  class 1  100.0%   x 240 - 320   y   0 -  80",
    ]
    assert done.stderr == ""


def test_nothing_found(net: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "black.png")
    done = run("detect", *net, tmp_path / "black.png")
    assert done.exit_code == 0
    assert "9 x 9, nothing found" in done.stdout


def test_json_goes_alone_to_standard_output(net: list[str], picture: Path) -> None:
    done = run("detect", *net, picture, "--json", "-")
    (entry,) = json.loads(done.stdout)
    assert (entry["image"], entry["width"], entry["height"]) == (str(picture), 320, 320)
    found = {d["class_id"]: d for d in entry["detections"]}
    assert {k: corners(d["box"]) for k, d in found.items()} == {0: RED, 1: BLUE}
    assert found[0]["label"] == "class 0"
    assert found[0]["probability"] > 0.999


def test_a_bad_picture_does_not_stop_the_rest(net: list[str], folder: Path, tmp_path: Path) -> None:
    done = run("detect", *net, folder, tmp_path / "gone.png", "--json", tmp_path / "out.json")
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines() if "objects" in line] == [
        str(folder / "a.PNG"),
        str(folder / "b.png"),
    ]
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert "broken.jpg: cannot read the image" in errors[0]
    assert "gone.png: cannot read the image: no such file" in errors[1]
    entries = json.loads((tmp_path / "out.json").read_text())
    assert ["error" in e for e in entries] == [False, False, True, True]


def test_annotated_pictures(net: list[str], picture: Path, folder: Path, tmp_path: Path) -> None:
    done = run("detect", *net, picture, "--out", tmp_path / "found.jpg")
    assert done.exit_code == 0
    assert "wrote" in done.stderr
    assert np.abs(read_pixels(tmp_path / "found.jpg").astype(int) - PICTURE).max() > 100
    assert np.array_equal(read_pixels(picture), PICTURE)
    done = run("detect", *net, picture, folder, folder / "a.PNG", "-o", tmp_path / "new" / "found")
    assert done.exit_code == 1, "one picture is broken"
    written = sorted(p.name for p in (tmp_path / "new" / "found").iterdir())
    assert written == ["a.PNG", "a_2.PNG", "b.png", "picture.png"]
    assert "wrote 4 pictures" in done.stderr


def test_pictures_are_not_overwritten(net: list[str], picture: Path, folder: Path) -> None:
    for out, images in ((picture, [picture]), (folder, [folder])):
        done = run("detect", *net, *images, "--out", out)
        assert done.exit_code == 2
        assert "would overwrite" in done.stderr
    assert np.array_equal(read_pixels(picture), PICTURE)


def test_unwritable_pictures_are_reported(net: list[str], picture: Path, tmp_path: Path) -> None:
    done = run("detect", *net, picture, "--out", tmp_path / "a.xyz")
    assert done.exit_code == 1
    assert "names no format" in done.stderr
    (tmp_path / "file").write_text("")
    done = run("detect", *net, picture, "--out", tmp_path / "file" / "below")
    assert done.exit_code == 2
    done = run("detect", *net, picture, "--json", tmp_path / "nowhere" / "a.json")
    assert done.exit_code == 2
    assert "cannot write" in done.stderr


def test_names(net: list[str], picture: Path, tmp_path: Path) -> None:
    names = tmp_path / "my.names"
    names.write_text("rouge\nbleu\n")
    (tmp_path / "my.data").write_text("names = my.names\n")
    for option in (("--names", names), ("--data", tmp_path / "my.data")):
        done = run("detect", *net, picture, *option)
        assert "  rouge  100.0%" in done.stdout
        assert "  bleu   100.0%" in done.stdout
    names.write_text("rouge\n")
    done = run("detect", *net, picture, "--names", names)
    assert done.exit_code == 2
    assert "1 names, but the network has 2 classes" in done.stderr
    names.write_text("rouge\nbleu\nvert\n")
    done = run("detect", *net, picture, "--names", names)
    assert done.exit_code == 0
    assert "warning" in done.stderr
    assert run("detect", *net, picture, "--names", names, "--data", names).exit_code == 2


def test_built_in_names_are_used_and_said(tmp_path: Path, picture: Path) -> None:
    cfg = colours.DETECTOR.format(net="", yolo="").replace("classes=2", "classes=20").replace("filters=7", "filters=25")
    (tmp_path / "voc.cfg").write_text(cfg)
    import darkbn

    network = darkbn.load(tmp_path / "voc.cfg")
    network.layers[0].weights.fill(0)
    network.layers[0].biases[...] = -20
    network.layers[0].biases[[4, 16]] = 20  # everywhere a dog
    network.save_weights(tmp_path / "voc.weights")
    done = run("detect", tmp_path / "voc.cfg", tmp_path / "voc.weights", picture)
    assert done.exit_code == 0
    assert "  dog  100.0%" in done.stdout
    assert "built-in names of VOC" in done.stderr


def test_options_reach_the_detector(net: list[str], tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.fromarray(colours.picture(64, 32, red=(16, 16, 32, 32))).save(wide)

    def count(*options: str) -> int:
        (entry,) = json.loads(run("detect", *net, wide, "--json", "-", *options).stdout)
        return len(entry["detections"])

    assert count() == 1, "dialect darknet letterboxes"
    assert count("--no-letterbox") == 2
    assert count("--letterbox") == 1
    assert count("--dialect", "alexeyab") == 2
    assert count("--threshold", "1") == 0
    assert count("--device", "reference", "--threads", "1") == 1


def test_errors_are_one_line(net: list[str], picture: Path, tmp_path: Path) -> None:
    cfg, weights = net
    (tmp_path / "short.weights").write_bytes(Path(weights).read_bytes()[:99])
    (tmp_path / "empty").mkdir()
    for arguments, problem in [
        (("detect", "gone.cfg", weights, picture), "gone.cfg"),
        (("detect", cfg, "gone.weights", picture), "gone.weights"),
        (("detect", cfg, tmp_path / "short.weights", picture), "short.weights"),
        (("detect", *net, picture, "--device", "quantum"), "quantum"),
        (("detect", *net, tmp_path / "empty"), "no pictures in this folder"),
        (("detect", *net, picture, picture, "--out", "a.jpg"), "need a folder"),
        (("classify", *net, picture), "darkbn detect runs detectors"),
        (("info", "gone.cfg"), "gone.cfg"),
    ]:
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert problem in line


def test_debug_shows_where_errors_come_from(net: list[str], picture: Path) -> None:
    done = run("detect", "gone.cfg", net[1], picture, "--debug")
    assert type(done.exception).__name__ == "CfgError"


def test_warnings_of_the_files_are_shown(net: list[str], picture: Path) -> None:
    cfg = Path(net[0])
    cfg.write_text(cfg.read_text().replace("[yolo]", "\n".join(["[yolo]", *(f"odd{i}=1" for i in range(8))])))
    done = run("detect", *net, picture)
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 6
    assert "odd0" in lines[0]
    assert "3 more warnings" in lines[5]
    assert run("info", *net).stderr.count("warning: ") == 8


# classify, info, doctor


def test_classes_are_listed(tmp_path: Path, picture: Path) -> None:
    net = colours.save(colours.classifier(), tmp_path, colours.CLASSIFIER)
    done = run("classify", *net, picture, tmp_path / "gone.png", "--top", "2")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{picture}: ")
    assert lines[1:] == ["    6.25%  class 0", "    6.25%  class 2"]
    done = run("classify", *net, picture, "--json", "-", "--dialect", "alexeyab")
    (entry,) = json.loads(done.stdout)
    assert [c["class_id"] for c in entry["classes"]] == [0, 2, 1]


def test_info(net: list[str]) -> None:
    done = run("info", *net)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last has the path of the weights
    assert any("convolutional" in line and "32x32x3" in line and "4x4x7" in line for line in lines)
    assert any("1,351 parameters" in line for line in lines)
    document = json.loads(run("info", net[0], "--json", "-").stdout)
    assert document["parameters"] == 1351
    assert [layer["type"] for layer in document["layers"]] == ["convolutional", "yolo"]
    assert document["layers"][1]["output"] == [7, 4, 4]


def test_info_of_layers_that_name_others(tmp_path: Path) -> None:
    cfg = tmp_path / "route.cfg"
    cfg.write_text(colours.CLASSIFIER + "[route]\nlayers=-1\n[route]\nlayers=1,0\n")
    routes = [line.split() for line in run("info", cfg).stdout.splitlines() if "route" in line]
    assert routes == [["1", "route", "0", "1x1x3", "1x1x3"], ["2", "route", "1", "0", "1x1x3", "1x1x6"]]


def test_doctor() -> None:
    done = run("doctor")
    assert done.exit_code == 0
    for word in ("darkbn", "NumPy", "SIMD level", "OpenMP", "threads", "GPU"):
        assert word in done.stdout


def test_help_fits_eighty_columns() -> None:
    for arguments in ((), ("detect",), ("classify",), ("info",), ("doctor",)):
        done = run(*arguments, "--help")
        assert done.exit_code == 0
        assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
        assert ("Examples" in done.stdout) == (arguments != ("doctor",) and arguments != ())
    assert run("--version").stdout.startswith("darkbn ")


# As a program


def program(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from darkbn.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_help_needs_no_picture_library() -> None:
    code = "import sys; sys.argv = ['darkbn', '--version']; from darkbn.cli.main import app; app(standalone_mode=False)"
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("darkbn ")
    assert "darkbn.cli.detect" in done.stderr
    for module in ("PIL", "darkbn.detect", "darkbn.images", "rich.progress"):
        assert f" {module}\n" not in done.stderr, module


def test_piped_output_is_plain(net: list[str], picture: Path) -> None:
    """No colours, no wrapped lines, no progress bar, nothing of the library's own on standard error."""
    far = picture.with_name("a" * 150 + ".png")
    picture.rename(far)
    done = program("detect", *net, far, far, COLUMNS="40")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 6
    assert done.stdout.startswith(str(far))


def test_names_of_files_in_no_encoding(net: list[str], picture: Path) -> None:
    odd = os.fsencode(picture.parent) + b"/caf\xe9.png"
    os.rename(picture, odd)
    done = program("detect", *net, os.fsdecode(odd), "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["image"].endswith("caf�.png")
    os.truncate(odd, 50)
    for options in ((), ("--json", "-"), ("--json", picture.parent / "a.json")):
        done = program("detect", *net, os.fsdecode(odd), *options)
        assert done.returncode == 1
        assert "caf�.png: cannot read the image" in done.stderr
    assert "caf�.png: cannot read" in json.loads((picture.parent / "a.json").read_text())[0]["error"]


def test_a_terminal_shows_progress(net: list[str], folder: Path) -> None:
    """The bar goes to the terminal on standard error; results that go elsewhere stay plain."""
    terminal, other_end = os.openpty()
    code = "from darkbn.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, "detect", *net, str(folder)],
        stdout=subprocess.PIPE,
        stderr=other_end,
        text=True,
        env=os.environ | {"COLUMNS": "80", "TERM": "xterm"},
    ) as done:
        os.close(other_end)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that the program is gone
            while part := os.read(terminal, 4096):
                shown += part
        os.close(terminal)
        assert done.stdout is not None
        lines = done.stdout.read().splitlines()
    assert done.returncode == 1
    assert len(lines) == 6
    assert all("\x1b" not in line for line in lines)
    assert b"3/3" in shown
    assert b"broken.jpg: cannot read the image" in shown
