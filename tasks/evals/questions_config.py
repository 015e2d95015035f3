"""Which questions with known answers a model is asked: local files, and tasks of lm-evaluation-harness."""

from __future__ import annotations

from pydantic import Field

from tasks.settings import StageConfig
from tasks.text.files_config import FilesConfig


class TaskFilesConfig(StageConfig):
    """Local files of questions with known answers."""

    minimal_pairs: FilesConfig = Field(
        FilesConfig(),
        title="Minimal pairs",
        description="JSON Lines files in BLiMP's format (sentence_good, sentence_bad); none leaves them out.",
    )
    multiple_choice: FilesConfig = Field(
        FilesConfig(),
        title="Multiple choice",
        description="JSON Lines files in HellaSwag's format (ctx, endings, label) or LAMBADA's (text, or "
        "context and target); none leaves them out.",
    )
    max_items: int = Field(
        1_000, title="Items", description="First items of each file, 1 to 1,000,000.", ge=1, le=1_000_000
    )


class HarnessConfig(StageConfig):
    """Tasks of EleutherAI's lm-evaluation-harness (the extra `lm-eval`), on the exported folder."""

    tasks: tuple[str, ...] = Field(
        (),
        title="Tasks",
        description="Names such as hellaswag or those of your own task files; none leaves the harness out. "
        "Its own tasks fetch their questions from the Hugging Face hub.",
    )
    definitions: FilesConfig = Field(
        FilesConfig(),
        title="Task definitions",
        description="Folders of YAML files that define tasks of your own; relative data_files in them are "
        "found from the folder in which the run was started.",
    )
    max_items: int = Field(
        0,
        title="Items",
        description="First items of each task, 0 to 1,000,000; 0 takes all.",
        ge=0,
        le=1_000_000,
    )
