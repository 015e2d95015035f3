"""What was read of modules' code is kept for later runs, and never outlives the source."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import source_code
from tasks.source_code import Code, KnownCode, parse


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module's source, where Python may write."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "module.py"
    path.write_text("import json\nfrom storage import store, locks\nX = 1\n")
    return path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the modules that were parsed."""
    names: list[str] = []

    def noting(name: str, source: bytes) -> Code:
        names.append(name)
        return parse(name, source)

    monkeypatch.setattr(source_code, "parse", noting)
    return names


def test_code_is_parsed_once_for_all_runs(module: Path, parsed: list[str]) -> None:
    codes = KnownCode(module.with_name("codes.json"))
    code = codes.read("module", module)
    assert code.imports == (("json", ""), ("storage", "locks"), ("storage", "store"))
    codes.keep()
    assert KnownCode(module.with_name("codes.json")).read("module", module) == code
    assert parsed == ["module"]


def test_a_changed_source_is_read_anew_and_takes_the_place_of_the_former(
    module: Path, parsed: list[str]
) -> None:
    file = module.with_name("codes.json")
    for value in (1, 2):
        module.write_text(f"X = {value}\n")
        codes = KnownCode(file)
        codes.read("module", module)
        codes.keep()
    assert parsed == ["module", "module"]
    assert len(json.loads(file.read_text())["codes"]) == 1


def test_processes_keep_what_the_others_found(module: Path, parsed: list[str]) -> None:
    file = module.with_name("codes.json")
    one, other = KnownCode(file), KnownCode(file)
    one.read("one", module)
    other.read("other", module)
    one.keep()
    other.keep()
    KnownCode(file).read("one", module)
    KnownCode(file).read("other", module)
    assert parsed == ["one", "other"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"reader": "another", "codes": {}}', "null", "\0"])
def test_a_file_that_is_broken_or_of_another_version_is_written_anew(
    module: Path, parsed: list[str], content: str
) -> None:
    file = module.with_name("codes.json")
    file.write_text(content)
    for _ in range(2):
        codes = KnownCode(file)
        codes.read("module", module)
        codes.keep()
    assert parsed == ["module"]


def test_where_nothing_can_be_written_code_is_read_each_time(
    module: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = module / "no folder" / "codes.json"
    codes = KnownCode(file)
    codes.read("module", module)
    codes.keep()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    unwritten = KnownCode(module.with_name("codes.json"))
    unwritten.read("module", module)
    unwritten.keep()
    assert [path.name for path in module.parent.iterdir()] == [module.name]
    assert parsed == ["module", "module"]


def test_stages_find_their_code_where_python_keeps_its_bytecode(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    program = "from tasks.fingerprint import code_digests; code_digests('tasks.clean')"
    subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPYCACHEPREFIX": str(tmp_path)},
        cwd=Path(source_code.__file__).parents[1],
        check=True,
    )
    [file] = tmp_path.rglob("source_code.*.json")
    known = {key.partition(" ")[0] for key in json.loads(file.read_text())["codes"]}
    assert {"tasks.clean", "tasks.text.cleaning"} <= known
