"""One configuration from a preset, a file and settings; every complaint at once, before any work."""

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tasks
from flows.cli import app
from flows.config import KEYS_OF_STAGES, PipelineConfig
from flows.loading import ConfigError, load_config
from flows.presets import PRESETS
from storage.artifacts import Recipe
from tasks.gpt.dial import from_depth, shape_of
from tasks.gpt.estimate import count_parameters
from tasks.gpt.shape import GPTConfig
from tasks.planning import differences
from tasks.settings import StageConfig
from tasks.stage import Stage


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_complete_configuration(name: str) -> None:
    config = PRESETS[name]()
    assert isinstance(config, PipelineConfig)
    assert load_config(name) == config


@pytest.mark.parametrize(("name", "parameters"), [("gpt2-124m", 124_439_808), ("gpt2-355m", 354_823_168)])
def test_presets_named_after_gpt2_have_the_published_numbers_of_parameters(
    name: str, parameters: int
) -> None:
    config = PRESETS[name]()
    shape = config.train.model
    assert parameters == count_parameters(
        GPTConfig(config.tokenize.vocab_size, shape.layers, shape.heads, shape.width, shape.context)
    )


def test_a_file_overlays_the_preset_and_a_setting_overlays_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntrain:\n  steps: 7\n  seed: 3\n")
    config = load_config("tiny", file, ["train.steps=50", 'sources=["a.warc.gz", "b/*.jsonl"]'])
    assert (config.name, config.train.steps, config.train.seed) == ("mine", 50, 3)
    assert config.sources == ["a.warc.gz", "b/*.jsonl"]
    assert config.train.model == PRESETS["tiny"]().train.model


def test_what_the_dial_prints_is_a_configuration(tmp_path: Path, home: Path) -> None:
    done = CliRunner().invoke(app, ["dial", "--depth", "3", "--vocabulary", "512"])
    file = tmp_path / "three.yaml"
    file.write_text(done.stdout)
    config = load_config("tiny", file)
    assert (config.train.model.layers, config.train.model.width, config.tokenize.vocab_size) == (3, 192, 512)
    assert config.train.steps * config.train.batch_sequences * 256 == pytest.approx(
        20 * count_parameters(shape_of(3, 512, 256)), rel=0.01
    )
    for preset in PRESETS:  # whatever rates the preset beneath has
        assert load_config(preset, file).train.optimizer == from_depth(3, 512).optimizer
    for beyond in (["--depth", "3", "--vocabulary", "65536"], ["--minutes", "inf"]):
        assert CliRunner().invoke(app, ["dial", *beyond]).exit_code == 2  # refused, as by a configuration
    for wrong in ([], ["--depth", "3", "--minutes", "1"]):
        with pytest.raises(ConfigError, match="either how long"):
            CliRunner().invoke(app, ["dial", *wrong], catch_exceptions=False)


def test_all_complaints_come_at_once_with_path_finding_and_mend() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(sets=["train.stepz=5", "train.steps=-5", "tokenize.vocab_size=70000", "name=no spaces"])
    lines = str(caught.value).splitlines()
    assert "  train.stepz: unknown key; did you mean train.steps?" in lines
    assert "  train.steps: found -5; input should be greater than or equal to 1" in lines
    assert any(line.startswith("  tokenize.vocab_size: found 70000;") for line in lines)
    assert any(line.startswith("  name: found 'no spaces';") for line in lines)


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        (["train.steps"], "must read path=value"),
        (["train.steps=[1"], "is not YAML"),
        (["lineage=2024-13-45"], "is not YAML: month must be in 1..12"),
        (["train.steps=0x_"], "is not YAML"),
        (["name=" + "[" * 5000], "is not YAML"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(sets: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config(sets=sets)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("steps", "train.steps"),
        ("train.heads", "train.model.heads"),
        ("extrakt.mode", "extract"),
        ("ingest.crawl.max_page", "ingest.crawl.max_pages"),
        ("train.optimzer.kind", "train.optimizer"),
    ],
)
def test_a_key_without_its_section_or_with_a_slip_is_told_the_one_that_was_meant(
    written: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key; did you mean {meant}\b"):
        load_config(sets=[f"{written}=5"])


def test_sequences_that_are_packed_for_another_context_are_refused_with_both_settings() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(sets=["tokenize.packed_length=256", "train.model.context=64"])
    (complaint,) = str(caught.value).splitlines()[1:]
    assert complaint.startswith("  tokenize.packed_length: sequences of 256 tokens")
    assert "train.model.context of 64" in complaint
    load_config(sets=["tokenize.packed_length=64", "train.model.context=64"])


def test_a_lone_source_is_told_how_a_list_is_written() -> None:
    with pytest.raises(ConfigError, match=r'sources: found .* such as \["语料/\*.warc.gz"\]'):
        load_config(sets=["sources=语料/*.warc.gz"])


@pytest.mark.parametrize(("written", "example"), [("zh=0.5", '["zh=0.5"]'), ("{zh: 0.5}", '["zh=0.5"]')])
def test_weights_that_are_no_list_are_refused_with_the_list_that_was_meant(
    written: str, example: str
) -> None:
    with pytest.raises(ConfigError, match=rf"weights: found .* a list, such as {re.escape(example)}"):
        load_config(sets=[f"tokenize.mixture.weights={written}"])


def test_words_that_yaml_once_took_for_truth_stay_words(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("clean: {language: {keep: [no, en]}, pii: {enabled: off}}")
    config = load_config(file=file, sets=["train.hardware.compile=on", "registry.promote=false"])
    assert config.train.hardware.compile == "on"
    assert config.clean.language.keep == ("no", "en")
    assert (config.clean.pii.enabled, config.registry.promote) == (False, False)


def test_an_unknown_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean small"):
        load_config("smal")


def test_a_missing_file_and_a_file_that_is_no_mapping_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml does not exist"):
        load_config(file=tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(file=tmp_path / "list.yaml")


def test_a_file_that_cannot_be_read_is_named_with_the_place_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load_config(file=tmp_path)
    (tmp_path / "gbk.yaml").write_bytes("notes: 中文\n".encode("gbk"))
    with pytest.raises(ConfigError, match=r"gbk.yaml is not YAML: byte 8 is no UTF-8"):
        load_config(file=tmp_path / "gbk.yaml")
    (tmp_path / "open.yaml").write_text("train: [1,\n")
    with pytest.raises(ConfigError, match=r"open.yaml is not YAML: .* in line 2, column 1$"):
        load_config(file=tmp_path / "open.yaml")


def _fields(model: type, path: str = "") -> list[tuple[str, object]]:
    found = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        place = f"{path}{name}"
        found.append((place, field))
        inner = field.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            found += _fields(inner, f"{place}.")
    return found


def test_every_field_has_a_title_and_a_description() -> None:
    missing = [path for path, field in _fields(PipelineConfig) if not (field.title and field.description)]  # type: ignore[attr-defined]
    assert missing == []


@pytest.mark.parametrize("module", ["tasks.gpt.config", "tasks.evals.config", "tasks.tokens.config"])
def test_bounds_are_written_as_people_write_numbers(module: str) -> None:
    models = [model for model in vars(importlib.import_module(module)).values() if isinstance(model, type)]
    texts = {
        f"{model.__name__}.{name}": str(field.description)
        for model in models
        if model.__module__ == module
        for name, field in model.model_fields.items()  # type: ignore[attr-defined]
    }
    unlike = [name for name, text in texts.items() if re.search(r"\*\*|(?<!al\. )(?<![.\d])\d{4}", text)]
    assert texts
    assert unlike == []


def test_no_field_is_a_union_which_forms_cannot_show() -> None:
    unions = [path for path, field in _fields(PipelineConfig) if "|" in str(field.annotation)]  # type: ignore[attr-defined]
    assert unions == []


def stages() -> list[Stage[Any]]:
    """Every stage of the pipeline."""
    made = [
        importlib.import_module(f"tasks.{module.name}") for module in pkgutil.iter_modules(tasks.__path__)
    ]
    found = [value for module in made for value in vars(module).values() if isinstance(value, Stage)]
    return list({id(stage): stage for stage in found}.values())


def test_every_config_of_a_stage_is_known_by_the_key_that_people_set() -> None:
    for stage in stages():
        hints = typing.get_type_hints(stage.function)
        for argument, hint in hints.items():
            if isinstance(hint, type) and issubclass(hint, StageConfig):
                model: Any = PipelineConfig
                for name in KEYS_OF_STAGES[stage.name][argument].split("."):
                    model = model.model_fields[name].annotation
                assert issubclass(model, hint), f"{stage.name}({argument})"
    known = {(stage.name, argument) for stage in stages() for argument in stage.signature.parameters}
    assert {(stage, argument) for stage, keys in KEYS_OF_STAGES.items() for argument in keys} <= known


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("stage", "argument", "was", "now", "said"),
    [
        ("ingest", "extraction.mode", "fast", "best", "config extract.mode: 'fast' → 'best'"),
        ("ingest", "config.max_records", 1, 2, "config ingest.max_records: 1 → 2"),
        ("ingest", "source.fingerprint", "1", "2", "input source has other content"),
        ("fetch", "config.max_pages", 1, 2, "config ingest.crawl.max_pages: 1 → 2"),
        ("clean", "config.score.model.digest", "", "1", "config clean.score.model has other content"),
        ("clean", "documents.digest", "1", "2", "input documents has other content"),
        (
            "pretrain",
            "base",
            None,
            {"artifact": "a", "digest": "1"},
            "config train.init_from has other content",
        ),
        ("register", "name", "a", "b", "config name: 'a' → 'b'"),
    ],
)
def test_a_difference_names_the_key_that_people_set(
    stage: str, argument: str, was: Any, now: Any, said: str
) -> None:
    before, after = (Recipe(stage=stage, code={}, inputs=nested(argument, value)) for value in (was, now))
    assert set(differences(before, after, KEYS_OF_STAGES[stage])) == {said}


def test_a_preset_cleans_documentation_by_its_own_limits_and_the_web_by_the_papers() -> None:
    from tasks.text.config import CleanConfig
    from tasks.text.documentation_config import documentation

    assert load_config("tiny").clean == documentation()
    assert load_config("tiny", sets=['sources=["a.warc.gz"]']).clean == CleanConfig()
    kept = load_config("tiny", sets=['sources=["a.warc.gz"]', "clean.gopher.min_words=7"]).clean
    assert kept.gopher.min_words == 7


def test_what_config_prints_is_the_same_configuration_whatever_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name, file = f"语料{'很长' * 600}.jsonl", tmp_path / "mine.yaml"
    prompts = ["a :cat: and [b]", "长" * 100]
    sets = [f'sources=["{name}"]', f"evaluate.samples.prompts={json.dumps(prompts)}"]
    command = [sys.executable, "-m", "flows.cli", "config", *(f"--set={setting}" for setting in sets)]
    file.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert load_config(file=file) == load_config(sets=sets)


def test_a_terminal_that_lacks_a_character_does_not_end_a_command() -> None:
    command = [sys.executable, "-m", "flows.cli", "config", '--set=sources=["✓ 语料.jsonl"]']
    environment = {**os.environ, "PYTHONIOENCODING": "gbk"}
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
    assert "? 语料.jsonl" in said.decode("gbk")
