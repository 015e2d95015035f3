"""What goes into a cache key: every module and value that counts, and nothing that does not."""

import math
import sys
import textwrap
from pathlib import Path

import pytest
from pydantic import Field

from storage.errors import UnstableInputError
from tasks import fingerprint
from tasks.fingerprint import canonical, code_digests, read_code
from tasks.settings import StageConfig
from tasks.source_code import KnownCode


class Rules(StageConfig):
    min_words: int = Field(5, title="Fewest words", description="words")
    workers: int = Field(2, title="Workers", description="n", json_schema_extra={"affects_result": False})


def test_a_config_is_its_fields_that_affect_the_result() -> None:
    assert canonical(Rules(), "x") == {"min_words": 5}
    assert canonical(Rules(workers=9), "x") == canonical(Rules(), "x")
    assert canonical(Rules(min_words=6), "x") != canonical(Rules(), "x")


@pytest.mark.parametrize("value", [math.nan, {1, 2}, object(), b"bytes", {1: "a"}, print])
def test_what_has_no_stable_form_is_refused_by_name(value: object) -> None:
    with pytest.raises(UnstableInputError, match=r"clean\(rules\)\[0\]"):
        canonical([value], "clean(rules)")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of stage code that can be edited."""
    root = tmp_path / "tasks_demo"
    (root / "text").mkdir(parents=True)
    (root / "__init__.py").touch()
    (root / "text" / "__init__.py").touch()
    (root / "text" / "rules_config.py").write_text("LIMIT = 1\n")
    (root / "text" / "rules.py").write_text(
        textwrap.dedent('''
        """Rules."""
        from tasks_demo.text import rules_config

        def rule(x):
            """Docs."""
            return x > 1  # why
        ''')
    )
    (root / "clean.py").write_text(
        "def work(x):\n    from tasks_demo.text.rules import rule\n    return rule(x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fingerprint, "ROOTS", frozenset({"tasks_demo"}))
    monkeypatch.setattr(fingerprint, "CODE_PACKAGES", ("tasks_demo.text",))
    codes = KnownCode(tmp_path / "codes.json")
    monkeypatch.setattr(fingerprint, "kept_codes", lambda: codes)
    yield root
    for name in [n for n in sys.modules if n.startswith("tasks_demo")]:
        del sys.modules[name]


def digests() -> dict[str, str]:
    read_code.cache_clear()
    return code_digests("tasks_demo.clean")


def test_a_helper_imported_inside_a_function_counts(project: Path) -> None:
    assert list(digests()) == ["tasks_demo.clean", "tasks_demo.text.rules"]


def test_a_changed_helper_changes_its_own_digest_alone(project: Path) -> None:
    before, rules = digests(), project / "text" / "rules.py"
    rules.write_text(rules.read_text().replace("x > 1", "x > 2"))
    after = digests()
    assert after["tasks_demo.text.rules"] != before["tasks_demo.text.rules"]
    assert after["tasks_demo.clean"] == before["tasks_demo.clean"]


def test_comments_docstrings_and_layout_do_not_count(project: Path) -> None:
    before, rules = digests(), project / "text" / "rules.py"
    rules.write_text(
        rules.read_text().replace("# why", "# because").replace("Docs.", "Other.").replace("\n\n", "\n\n\n")
    )
    assert digests() == before


def test_every_stage_module_names_what_it_builds_on() -> None:
    read_code.cache_clear()
    for path in sorted(Path(fingerprint.__file__).parent.glob("*.py")):
        if "@stage(" in path.read_text():
            assert f"tasks.{path.stem}" in code_digests(f"tasks.{path.stem}")
