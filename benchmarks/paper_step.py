"""A training step on paper: the real modules on tensors that have shapes and no data.

What a step costs is counted, not estimated: the language model, LoRA, the ECG encoder, TRL's head and autograd run as
they do in training, on PyTorch's fake tensors, and each operation's FLOPs and allocations are summed up. A model of any
size so takes no memory and about 0.1 s a layer.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary, finalize

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry
from transformers import AutoModelForCausalLM, PreTrainedConfig
from trl.trainer.utils import add_fused_lm_head

from modeling_meit import ECGEncoderConfig, ECGLlamaConfig, ECGLlamaForCausalLM
from training.arguments import TuningArguments
from training.tuning import for_tuning

NF4_BLOCK, NF4_BLOCKS_PER_GROUP = 64, 256
PHASES = ("encoder", "layers", "head", "layers backward", "encoder backward")
# Of `SFTTrainer`.
_HEAD_OUTPUTS = ("log_probs", "entropy", "is_top1")


@dataclass(frozen=True)
class StepShape:
    """A forward and backward pass: `batch` texts of `tokens`, the last `labelled` of which are of the report."""

    batch: int
    tokens: int
    labelled: int
    samples: int = 5000


@dataclass(frozen=True)
class StepCount:
    """What a step takes.

    Attributes:
        flops: by operation, of matrix products, attention and convolutions; a multiplication and an addition are two.
        peak_bytes: by phase (`PHASES`): the most bytes held beyond weights, gradients and optimizer.
    """

    flops: Counter[str]
    peak_bytes: dict[str, int]


def nf4_bytes(num_weights: int) -> float:
    """Bytes of weights in NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314, section 3).

    4 bits each, 8 bits for the scale of each block of 64, 32 bits for that of each 256 scales: 4.127 bits a weight.
    """
    return num_weights * (1 / 2 + 1 / NF4_BLOCK + 4 / NF4_BLOCK / NF4_BLOCKS_PER_GROUP)


class NF4Linear(nn.Module):
    """A frozen linear layer as bitsandbytes runs it: unpacked for each product, forward and backward."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        packed = torch.empty(round(nf4_bytes(linear.weight.numel())), dtype=torch.uint8, device=linear.weight.device)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        product = _UnpackedProduct.apply(hidden, self.weight, self.out_features)
        return product if self.bias is None else product + self.bias


class _UnpackedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
        ctx.shape = (out_features, hidden.shape[-1])
        hidden = hidden.to(torch.bfloat16)
        return hidden @ hidden.new_empty(ctx.shape).t()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient @ gradient.new_empty(ctx.shape), None, None


def model_on_paper(
    text_config: PreTrainedConfig,
    tuning: TuningArguments,
    encoder_depth: int = 18,
    dtype: torch.dtype = torch.bfloat16,
) -> nn.Module:
    """The model as `training.sft.train` builds it, on the device "meta".

    Args:
        text_config: of the language model.
        tuning: what is trained; "qlora" packs the linear layers of the language model.
        encoder_depth: of the ECG's ResNet.
        dtype: of the language model.
    """
    config = ECGLlamaConfig(text_config=text_config, ecg_config=ECGEncoderConfig(depth=encoder_depth))
    with torch.device("meta"):
        text_model = AutoModelForCausalLM.from_config(text_config, dtype=dtype)
        config._attn_implementation = text_model.config._attn_implementation
        model = ECGLlamaForCausalLM(config, text_model=text_model)
        add_fused_lm_head(model, outputs=_HEAD_OUTPUTS)
        model = for_tuning(model, tuning).train()
    if tuning.tuning == "qlora":
        for adapted in [module for module in model.modules() if hasattr(module, "base_layer")]:
            adapted.base_layer = NF4Linear(adapted.base_layer)
    return model


def training_step(model: nn.Module, shape: StepShape, autocast: bool, phases: dict[str, str] | None = None) -> None:
    """One forward and backward pass as `ReportTrainer` makes it, the gradients added to those that are there.

    Args:
        model: of `model_on_paper`, or of the same make with data in it.
        autocast: to bfloat16.
        phases: under "now", what the step is about to do, one of `PHASES`.
    """
    phases = {} if phases is None else phases
    inner = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    kept = slice(shape.tokens - shape.labelled - 1, shape.tokens - 1)

    def enter(phase: str) -> None:
        phases["now"] = phase

    def keep_labelled(module: nn.Module, args: tuple, output: Any) -> None:
        enter("head")
        hidden = output.last_hidden_state
        hidden.register_hook(lambda gradient: enter("layers backward"))
        output.last_hidden_state = hidden[:, kept].flatten(0, 1)[None]

    def end_of_encoder(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        output.register_hook(lambda gradient: enter("encoder backward"))

    hooks = [
        inner.ecg_projector.register_forward_hook(end_of_encoder),
        inner.language_model.register_forward_pre_hook(lambda *call: enter("layers")),
        inner.register_forward_hook(keep_labelled),
    ]
    enter("encoder")
    try:
        ids = torch.ones(shape.batch, shape.tokens, dtype=torch.long)
        mask = torch.ones_like(ids)
        mask[0, -1] = 0  # padding, without which sdpa would need no mask
        ecg_values = torch.linspace(-1, 1, shape.batch * 12 * shape.samples).view(shape.batch, 12, shape.samples)
        labels = ids[:, kept].reshape(1, -1)
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            outputs = model(
                input_ids=ids, attention_mask=mask, ecg_values=ecg_values, shift_labels=labels, fused_lm_head=True
            )
            loss = -outputs.log_probs.sum()
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()


def counted_step(
    model: nn.Module, shape: StepShape, autocast: bool = True, checkpointing: bool = False, on_gpu: bool = True
) -> StepCount:
    """Count a step of a model of `model_on_paper`, a later one of several whose gradients are accumulated.

    Args:
        autocast: to bfloat16.
        checkpointing: whether the activations of each layer are computed again in the backward pass.
        on_gpu: whether kernels keep what a GPU's do, or what a CPU's do.
    """
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    phases: dict[str, str] = {}
    kernels = _gpu_kernels() if on_gpu else nullcontext()
    # Weights and their gradients are made before counting begins: they are there already.
    with FakeTensorMode(allow_non_fake_inputs=True), _without_data(model), kernels, Counting(phases) as counting:
        training_step(model, shape, autocast, phases)
    return StepCount(counting.flops, counting.peaks)


class Counting(TorchDispatchMode):
    """Adds up the FLOPs of all operations by name, and keeps the peak by phase of the bytes of what they return."""

    def __init__(self, phases: dict[str, str]):
        super().__init__()
        self.phases, self.held, self.peaks = phases, 0, dict.fromkeys(PHASES, 0)
        self.flops: Counter[str] = Counter()
        self.known: WeakKeyDictionary[torch.UntypedStorage, None] = WeakKeyDictionary()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for given in _tensors((args, kwargs)):
            self.known[given.untyped_storage()] = None
        outputs = operation(*args, **kwargs)
        for storage in {output.untyped_storage() for output in _tensors(outputs)}:
            if storage not in self.known:
                self.known[storage] = None
                self.held += storage.nbytes()
                finalize(storage, self._free, storage.nbytes())
        phase = self.phases["now"]
        self.peaks[phase] = max(self.peaks[phase], self.held)
        if formula := _FLOPS.get(operation.overloadpacket):
            self.flops[operation.overloadpacket.__name__] += formula(*args, **kwargs, out_val=outputs)
        return outputs

    def _free(self, num_bytes: int) -> None:
        self.held -= num_bytes


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_iter(values) if isinstance(value, torch.Tensor)]


@contextmanager
def _gpu_kernels() -> Iterator[None]:
    """Have kernels keep what they keep on a GPU, where they differ from a CPU's.

    Dropout keeps a mask of one byte a value instead of factors in the input's type; TRL's head has kernels that work
    in the tile of logits, and products that add up in float32 without a copy of their factors.
    """

    def dropout(module: nn.Dropout, hidden: torch.Tensor) -> torch.Tensor:
        return torch.native_dropout(hidden, module.p, True)[0] if module.p and module.training else hidden

    def in_place(*args: Any, **kwargs: Any) -> None:
        """Fold a tile of logits into what is there."""

    def add_product(sums: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
        sums.add_(left @ right)

    head = {"_forward_tile": in_place, "_backward_tile": in_place, "_addmm_fp32": add_product}
    with patch.object(nn.Dropout, "forward", dropout), patch.multiple("trl.kernels.chunked_logprob", **head):
        yield


@contextmanager
def _without_data(model: nn.Module) -> Iterator[None]:
    """Inside a fake mode: put fake tensors of a CPU in the place of the model's meta tensors, and take them out."""
    originals = []
    shared: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                originals.append((tensors, name, tensor))
                if id(tensor) not in shared:  # an embedding and a head that are tied
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if isinstance(tensor, nn.Parameter):
                        fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    if tensor.requires_grad:
                        fake.grad = torch.empty_like(fake)
                    shared[id(tensor)] = fake
                tensors[name] = shared[id(tensor)]
    try:
        yield
    finally:
        for tensors, name, tensor in originals:
            tensors[name] = tensor


def _attention_flops(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> int:
    """Scores and their product with the values, all of them: kernels that leave out the masked ones do less."""
    batch, heads, tokens, size = query.shape
    return 2 * batch * heads * tokens * key.shape[-2] * (size + value.shape[-1])


def _attention_backward_flops(
    gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
) -> int:
    """The scores once more, and the gradients of query, key, value and probabilities."""
    batch, heads, tokens, size = query.shape
    return 2 * batch * heads * tokens * key.shape[-2] * (3 * size + 2 * value.shape[-1])


# PyTorch has formulas for the attention kernels of GPUs and none for that of a CPU, nor for a product added in place.
_FLOPS = flop_registry | {
    torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm],
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
