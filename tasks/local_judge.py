"""A judge that runs here: any causal language model of transformers with a chat template."""

import os
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from evaluation.judge import JudgeError


class LocalJudge:
    """Answers with the likeliest token at each step, one conversation at a time.

    So an answer depends on no batch; on another device or in another precision it may still differ.

    Args:
        model_path: Hub id or folder of an instruction-tuned language model.
        device: such as "cpu" or "cuda"; the CPU by default.
        dtype: of the model; float32 by default.
        max_new_tokens: of an answer.

    Raises:
        ValueError: the tokenizer has no chat template.
        OSError: no such model.
    """

    def __init__(
        self,
        model_path: str | os.PathLike,
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
        max_new_tokens: int = 512,
    ) -> None:
        path = os.fspath(model_path)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        if self.tokenizer.chat_template is None:
            raise ValueError(f"{path}: its tokenizer has no chat template; a judge is an instruction-tuned model")
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device or "cpu").eval()
        # Where a folder lies is nobody's business; a Hub id names the model.
        self.name = os.path.basename(os.path.abspath(path)) if os.path.isdir(path) else path
        self.max_new_tokens = max_new_tokens
        own = self.model.generation_config.eos_token_id
        ends = {*(own if isinstance(own, list) else [own]), self.tokenizer.eos_token_id} - {None}
        pad = self.tokenizer.pad_token_id
        # In place of the model's own, which may sample or punish repetition, and fills what a call's leaves open.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=min(ends, default=None) if pad is None else pad,
        )
        # A text must not end its own turn, so none of its characters may become one of these.
        self._control_tokens = sorted(self.tokenizer.all_special_tokens, key=len, reverse=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on."""
        return {
            "model": self.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "decoding": "greedy",
            "max_new_tokens": self.max_new_tokens,
            "transformers": transformers.__version__,
        }

    def reply(self, messages: list[dict[str, str]]) -> str:
        """The model's answer.

        Raises:
            JudgeError: the conversation and an answer are more than the model has positions for.
        """
        messages = [message | {"content": self._as_text(message["content"])} for message in messages]
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        ).to(self.model.device)
        length = inputs["input_ids"].shape[1]
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions is not None and length + self.max_new_tokens > positions:
            raise JudgeError(
                f"{length} tokens and an answer of {self.max_new_tokens} are more than the {positions} positions of "
                f"{self.name}"
            )
        with torch.inference_mode():
            output = self.model.generate(**inputs)
        return self.tokenizer.decode(output[0, length:], skip_special_tokens=True).strip()

    def _as_text(self, content: str) -> str:
        for token in self._control_tokens:
            content = content.replace(token, " ")
        return content
