"""Configuration of the `pretrain` stage: the model's shape and its recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.gpt.hardware_config import HardwareConfig
from tasks.settings import StageConfig


class ModelShape(StageConfig):
    """The model's shape; the vocabulary comes from the token shards."""

    layers: int = Field(4, title="Layers", description="Transformer blocks, 1 to 96.", ge=1, le=96)
    heads: int = Field(
        3, title="Heads", description="Attention heads; must divide the width, 1 to 128.", ge=1, le=128
    )
    width: int = Field(
        192, title="Width", description="Size of the residual stream, 8 to 16,384.", ge=8, le=16384
    )
    context: int = Field(
        256,
        title="Context",
        description="Tokens in a training sequence, and the longest the model can see, 8 to 8,192.",
        ge=8,
        le=8192,
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelShape:
        if self.width % self.heads:
            fitting = [h for h in range(1, min(self.width, 128) + 1) if self.width % h == 0]
            raise ValueError(
                f"heads: {self.heads} does not divide width {self.width}: choose one of {fitting}"
            )
        return self


class OptimizerConfig(StageConfig):
    """How gradients become steps."""

    kind: Literal["muon", "adamw"] = Field(
        "muon",
        title="Optimizer",
        description="muon: Muon for the layers' matrices and AdamW for the rest; adamw: AdamW for all.",
    )
    matrix_lr: float = Field(
        3e-3,
        title="Matrix learning rate",
        description="Peak rate of the layers' matrices, under Muon or AdamW (Muon's step is scaled to the "
        "size of AdamW's, so the same range serves both), 0 to 1.",
        gt=0,
        le=1,
    )
    embedding_lr: float = Field(
        6e-3,
        title="Embedding learning rate",
        description="Peak AdamW rate of the embeddings, 0 to 1.",
        gt=0,
        le=1,
    )
    vector_lr: float = Field(
        3e-3,
        title="Vector learning rate",
        description="Peak AdamW rate of biases and LayerNorm gains, 0 to 1.",
        gt=0,
        le=1,
    )
    weight_decay: float = Field(
        0.1,
        title="Weight decay",
        description="Decoupled decay of the layers' matrices, as a fraction of the learning rate, 0 to 1.",
        ge=0,
        le=1,
    )
    momentum: float = Field(
        0.95, title="Momentum", description="Muon's momentum, 0 to 0.999.", ge=0, le=0.999
    )
    beta1: float = Field(
        0.9, title="Beta 1", description="AdamW's first moment decay, 0 to 0.999.", ge=0, le=0.999
    )
    beta2: float = Field(
        0.95, title="Beta 2", description="AdamW's second moment decay, 0 to 0.9999.", ge=0, le=0.9999
    )
    newton_schulz_steps: int = Field(
        5,
        title="Newton-Schulz steps",
        description="Iterations of Muon's orthogonalisation, 1 to 10. 5 as published; in trainings of a few "
        "hundred steps 3 do as well, in three fifths of the time.",
        ge=1,
        le=10,
    )
    clip: float = Field(
        1.0,
        title="Gradient clipping",
        description="Largest norm of the whole gradient; 0 does not clip. 0 to 1,000.",
        ge=0,
        le=1000,
    )


class ScheduleConfig(StageConfig):
    """How the learning rate moves over the run."""

    kind: Literal["wsd", "cosine"] = Field(
        "wsd",
        title="Schedule",
        description="wsd: warm up, stay, decay linearly at the end; cosine: warm up, then half a cosine.",
    )
    warmup_steps: int = Field(
        20, title="Warm-up", description="Steps of linear warm-up, 0 to 100,000.", ge=0, le=100_000
    )
    decay_fraction: float = Field(
        0.5,
        title="Decay fraction",
        description="Share of all steps, at the end, over which wsd decays, 0 to 1.",
        ge=0,
        le=1,
    )
    final_fraction: float = Field(
        0.0,
        title="Final fraction",
        description="Learning rate at the end as a share of the peak, 0 to 1.",
        ge=0,
        le=1,
    )


class HeldOutConfig(StageConfig):
    """Held-out loss while training."""

    every_steps: int = Field(
        200,
        title="Every",
        description="Steps between held-out losses; 0 for none. 0 to 1,000,000.",
        ge=0,
        le=1_000_000,
    )
    sequences: int = Field(
        32, title="Sequences", description="Held-out sequences each time, 1 to 100,000.", ge=1, le=100_000
    )
    patience: int = Field(
        0,
        title="Patience",
        description="Stop after this many held-out losses without a new best, and keep the best weights; "
        "0 never stops early. 0 to 1,000.",
        ge=0,
        le=1000,
    )

    @model_validator(mode="after")
    def _patience_has_losses(self) -> HeldOutConfig:
        if self.patience and not self.every_steps:
            raise ValueError(
                f"patience: {self.patience} waits for held-out losses, but every_steps is 0 and there are "
                f"none: set every_steps, or patience to 0"
            )
        return self


class GuardConfig(StageConfig):
    """What counts as a run gone wrong, and what then."""

    spike_nats: float = Field(
        3.0,
        title="Spike",
        description="A step's loss this far above its running mean is a spike, in nats; 0 looks only for "
        "losses that are not numbers. 0 to 100.",
        ge=0,
        le=100,
    )
    action: Literal["stop", "rewind"] = Field(
        "stop",
        title="Action",
        description="stop: end the stage with the step and its documents named; rewind: go back to the last "
        "good checkpoint and on past the batches that led there.",
    )
    checkpoint_steps: int = Field(
        100,
        title="Rewind grid",
        description="With rewind, checkpoints are made every so many steps and not by time, so that where a "
        "run goes back to does not depend on the machine's speed. 1 to 1,000,000.",
        ge=1,
        le=1_000_000,
    )
    rewinds: int = Field(
        3, title="Rewinds", description="Rewinds before the run stops all the same, 1 to 100.", ge=1, le=100
    )


class CheckpointConfig(StageConfig):
    """When to save, and what to keep; never changes the model."""

    every_seconds: float = Field(
        30.0,
        title="Every (seconds)",
        description="Seconds between checkpoints, 0.01 to 86,400.",
        ge=0.01,
        le=86400,
    )
    every_steps: int = Field(
        0,
        title="Every (steps)",
        description="Steps between checkpoints, instead of seconds; 0 goes by seconds. 0 to 1,000,000.",
        ge=0,
        le=1_000_000,
    )
    keep: int = Field(
        2, title="Keep", description="Last checkpoints kept, besides the best, 1 to 100.", ge=1, le=100
    )


class TrainConfig(StageConfig):
    """Everything `pretrain` needs besides the shards and the tokenizer."""

    model: ModelShape = Field(default_factory=ModelShape, title="Model", description="The model's shape.")
    init_from: str = Field(
        "",
        title="Start from",
        description="Weights to go on from, with the schedule warmed up anew: models:/NAME@champion, or a "
        "Hugging Face GPT-2 folder; of the same shape and tokenizer (of another's, set tokenize.adopt to "
        "its folder). Empty draws new ones.",
        json_schema_extra={"affects_result": False},  # what it names does: it is an input of the stage
    )
    steps: int = Field(
        900, title="Steps", description="Optimizer steps, 1 to 10,000,000.", ge=1, le=10_000_000
    )
    batch_sequences: int = Field(
        4,
        title="Batch",
        description="Sequences in one optimizer step, over all processes and micro-batches, 1 to 1,000,000.",
        ge=1,
        le=1_000_000,
    )
    seed: int = Field(
        1337,
        title="Seed",
        description="Of the weights and the data order, 0 to 2,147,483,648.",
        ge=0,
        le=2**31,
    )
    precision: Literal["auto", "bf16", "float32"] = Field(
        "auto",
        title="Precision",
        description="Of the matmuls; auto takes bf16 where the processor has instructions for it.",
    )
    optimizer: OptimizerConfig = Field(
        default_factory=OptimizerConfig, title="Optimizer", description="How gradients become steps."
    )
    schedule: ScheduleConfig = Field(
        default_factory=ScheduleConfig, title="Schedule", description="The learning rate over the run."
    )
    held_out: HeldOutConfig = Field(
        default_factory=HeldOutConfig, title="Held-out", description="Held-out loss while training."
    )
    guard: GuardConfig = Field(
        default_factory=GuardConfig, title="Guard", description="What stops a run that goes wrong."
    )
    checkpoints: CheckpointConfig = Field(
        default_factory=CheckpointConfig,
        title="Checkpoints",
        description="When to save and what to keep.",
        json_schema_extra={"affects_result": False},
    )
    hardware: HardwareConfig = Field(
        default_factory=HardwareConfig,
        title="Hardware",
        description="How the machine is used.",
        json_schema_extra={"affects_result": False},
    )

    @model_validator(mode="after")
    def _processes_share_the_batch(self) -> TrainConfig:
        processes = self.hardware.processes
        if self.batch_sequences % processes:
            fitting = -(-self.batch_sequences // processes) * processes
            raise ValueError(
                f"batch_sequences: {self.batch_sequences} cannot be shared equally by {processes} "
                f"hardware.processes: choose a multiple of them, such as {fitting}"
            )
        return self
