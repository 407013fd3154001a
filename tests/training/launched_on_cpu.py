"""`train_sft.py` for `accelerate launch` where there is no GPU: what runs on GPUs, in CPU processes.

accelerate turns FSDP on for kinds of GPUs alone, and DeepSpeed for none that is asked to be a CPU. What they then do
is the same.
"""

import os
import sys
from unittest import mock

from accelerate import PartialState
from accelerate.utils import DistributedType

from train_sft import main
from training.arguments import TrainingConfig


def pass_for_gpus() -> None:
    """Let CPU processes count as GPU processes, so that accelerate turns FSDP on."""
    initialise = PartialState.__init__

    def as_gpu(state: PartialState, *args, **kwargs) -> None:
        initialise(state, *args, **kwargs)
        if state.distributed_type == DistributedType.MULTI_CPU:
            state.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = as_gpu


def leave_device_to_deepspeed() -> None:
    """Ask for no CPU: DeepSpeed finds it by itself (`DS_ACCELERATOR=cpu`)."""
    finish = TrainingConfig.__post_init__

    def without_use_cpu(config: TrainingConfig) -> None:
        config.ddp_backend = "gloo"
        with mock.patch("torch.accelerator.is_available", return_value=True):
            finish(config)

    TrainingConfig.__post_init__ = without_use_cpu


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        pass_for_gpus()
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        leave_device_to_deepspeed()
    sys.exit(main())
