"""Configuration of the hardware that the `pretrain` stage uses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings import StageConfig


class HardwareConfig(StageConfig):
    """How the machine is used: matters for speed (and for the last bits), not for what is learned."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", title="Device", description="auto takes a GPU where there is one."
    )
    threads: int = Field(
        0,
        title="Threads",
        description="CPU threads of each process; 0 takes every core, up to 16, at the first start and the "
        "same again on resume. 0 to 256.",
        ge=0,
        le=256,
    )
    processes: int = Field(
        1,
        title="Processes",
        description="Training processes on this machine (torchrun), 1 to 64.",
        ge=1,
        le=64,
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        title="Parallelism",
        description="ddp: each process holds the whole model; fsdp: weights and optimizer are sharded.",
    )
    micro_batch: int = Field(
        0,
        title="Micro-batch",
        description="Sequences computed at once in each process; 0 fits them to the memory. 0 to 65,536.",
        ge=0,
        le=65536,
    )
    memory_gb: float = Field(
        0.0,
        title="Memory",
        description="Memory for one micro-batch's activations in GB; 0 takes 4 on a CPU and 70 % of a GPU's "
        "memory less the model's. 0 to 10,000.",
        ge=0,
        le=10000,
    )
    activation_checkpointing: bool = Field(
        False,
        title="Recompute activations",
        description="Keep one activation a layer and recompute the rest: a third more work, far less memory.",
    )
    compile: Literal["off", "on", "auto"] = Field(
        "auto",
        title="torch.compile",
        description="auto: on a GPU, and on a CPU never, however long the run: there it takes 10 to 16 s and "
        "a C++ compiler, and wins a few hundredths; on: everywhere. Where compiling fails the run goes on "
        "without, and says so.",
    )
    shard_cache_gb: float = Field(
        0.0,
        title="Shard cache",
        description="Disk in GB through which training reads token shards of a store on S3, each as it is "
        "needed; 0 brings all of them before training begins. 0 to 100,000.",
        ge=0,
        le=100_000,
    )
    tuned_allocator: bool = Field(
        True,
        title="Tuned allocator",
        description="Keep freed memory in the training process instead of giving it back, and in huge pages "
        "(glibc).",
    )
    heartbeat_seconds: float = Field(
        600.0,
        title="Watchdog",
        description="Seconds without a sign of life after which the training process is killed, 1 to 86,400.",
        ge=1,
        le=86400,
    )
    restarts: int = Field(
        2,
        title="Restarts",
        description="Times a training process that died or hung is started again from its last checkpoint "
        "within one attempt of the stage, 0 to 100.",
        ge=0,
        le=100,
    )
