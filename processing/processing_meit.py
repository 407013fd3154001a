"""`ECGProcessor`: an ECG and a text to what the model takes, and a conversation about an ECG to both."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs
from transformers.tokenization_utils_base import BatchEncoding
from transformers.utils import PaddingStrategy

from .feature_extraction_meit import ECG, ECGFeatureExtractor
from .placeholders import PER_TOKEN, Placeholders, pad

# Both templates put a turn's end inside the generation block, so that a model trained on the assistant's tokens
# learns to stop, and start each later turn with its separator, so that nothing follows a report.
_MESSAGE_TEXT = (
    "{% if message['content'] is string %}{% set text = message['content'] %}"
    "{% else %}{% set text = message['content'] | selectattr('type', 'equalto', 'text')"
    " | map(attribute='text') | join %}{% endif %}"
)
_CHATML_TEMPLATE = (
    "{% for message in messages %}" + _MESSAGE_TEXT + "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ text | trim + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ text + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
)
_PLAIN_TEMPLATE = (
    "{% for message in messages %}" + _MESSAGE_TEXT + "{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '### Response:\\n' }}"
    "{% generation %}{{ text | trim + eos_token }}{% endgeneration %}"
    "{% elif message['role'] == 'system' %}{{ text }}"
    "{% else %}{{ '### Instruction:\\n' + text }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}"
)
# An encoder reads the instruction alone: what it is to be answered with is the decoder's text, the labels.
_SOURCE_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ raise_exception('an assistant message in the text of an encoder; the "
    "report is the text of the decoder (to train a decoder-only model on it, pass a chat_template)') }}{% endif %}"
    + _MESSAGE_TEXT
    + "{% if not loop.first %}{{ '\\n\\n' }}{% endif %}{{ text }}{% endfor %}{{ eos_token }}"
)
# A tokenizer may know the placeholder by this name; the processor goes by its id.
ECG_TOKEN = "<|ecg|>"
# What decides on the width of tokenized texts, which comes after the placeholders.
_LAYOUT = ("padding", "truncation", "max_length", "pad_to_multiple_of", "padding_side", "stride")


class ECGKwargs(TypedDict, total=False):
    """What `ECGFeatureExtractor` takes beside the ECG; see there."""

    sampling_rate: float | Sequence[float | None] | None
    lead_names: Sequence[str] | Sequence[Sequence[str] | None] | None
    start_s: float | str | None


class ECGProcessorKwargs(ProcessingKwargs, total=False):
    """The keywords of `ECGProcessor`, given flat or by modality."""

    ecg_kwargs: ECGKwargs


class ECGProcessor(ProcessorMixin):
    """A feature extractor for the ECG, a tokenizer for the text and a chat template.

    The model receives the ECG beside the tokens. For the fusion "llava" each text holds placeholder tokens that it
    replaces with the ECG: they are put behind the text's first token where that is the tokenizer's `bos_token`, and
    else in front of the text, unless the text has them already. They count as tokens of the text, and truncation
    leaves them in it. For the other fusions the ECG takes no place in the text.

    Texts are padded at the left, which is what generation needs; `padding_side="right"` pads them for training. The
    tokenizer of an encoder, which is known by the end-of-text token that it puts behind any text, pads at the right:
    the positions of an encoder's text are counted from its first column.

    Args:
        feature_extractor: an `ECGFeatureExtractor`.
        tokenizer: of the language model. One without a padding token pads with its end-of-text token.
        chat_template: Jinja source. By default the instruction alone, between the tokenizer's own first and last token,
            for the tokenizer of an encoder; ChatML where the tokenizer ends a turn with `<|im_end|>`; and otherwise a
            plain instruction-and-response template that any tokenizer can read.
        ecg_token_id: id of the placeholder, the model's `config.ecg_token_id`; None where texts hold none.
        num_ecg_tokens: placeholders per text, the model's `config.num_ecg_tokens`.

    Raises:
        ValueError: the tokenizer cannot end a report, or uses the placeholder's id for a token of its own.
    """

    valid_processor_kwargs = ECGProcessorKwargs
    # Defaults per modality, which transformers looks up on the class.
    ecg_kwargs: ECGKwargs = {}
    text_kwargs: TextKwargs = {"padding": True, "padding_side": "left", "return_token_type_ids": False}

    def __init__(
        self,
        feature_extractor: ECGFeatureExtractor,
        tokenizer,
        chat_template: str | None = None,
        ecg_token_id: int | None = None,
        num_ecg_tokens: int = 1,
    ):
        if tokenizer.eos_token is None:
            raise ValueError(f"{type(tokenizer).__name__} has no eos_token; a report could not end")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if num_ecg_tokens < 1:
            raise ValueError(f"num_ecg_tokens is {num_ecg_tokens}; expected at least 1")
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template or _default_template(tokenizer))
        self.ecg_token_id = ecg_token_id
        self.num_ecg_tokens = num_ecg_tokens
        if ecg_token_id is not None:
            self._check_placeholder()
        if _ends_with_eos(tokenizer):
            self.text_kwargs = {**self.text_kwargs, "padding_side": "right"}

    def __call__(
        self,
        ecg: ECG | Sequence[ECG] | None = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str | None = None,
        **kwargs: Unpack[ECGProcessorKwargs],
    ) -> BatchFeature:
        """Prepare ECGs and texts for `model(**inputs)` and `model.generate(**inputs)`.

        The text is tokenized as it is; `apply_chat_template` puts it into the form that a model was tuned on.

        Args:
            ecg: one ECG or a list of them, as `ECGFeatureExtractor` takes them.
            text: one text per ECG. With `start_s="all"` it is repeated for each window of its ECG.
            return_tensors: `"pt"` or `"np"`; lists by default.
            kwargs: `sampling_rate`, `lead_names` and `start_s` go to the feature extractor, what a tokenizer
                takes goes to the tokenizer; also as `ecg_kwargs={...}` and `text_kwargs={...}`.

        Returns:
            `input_ids` and `attention_mask` of shape (batch, tokens), `ecg_values` of shape (batch, 12, samples).

        Raises:
            ValueError: there is no ECG or no text, or their numbers differ; a text holds a wrong number of ECG
                placeholders, or there is no room for them; or as the feature extractor raises.
            TypeError: a keyword is unknown.
        """
        if ecg is None:
            raise ValueError("text without an ECG: expected ecg= with it (for text alone use processor.tokenizer)")
        if text is None:
            raise ValueError(
                "an ECG without a text: expected text= with it (for ECGs alone use processor.feature_extractor)"
            )
        ecg_kwargs, text_kwargs = self._split_kwargs(kwargs)
        texts = [text] if isinstance(text, str) else list(text)
        start_s = ecg_kwargs.pop("start_s", None)
        recordings = self.feature_extractor.recordings(ecg, **ecg_kwargs)
        if len(recordings) != len(texts):
            raise ValueError(f"{len(recordings)} ECGs came with {len(texts)} texts; expected one text per ECG")
        ecg_values, owners = self._ecg_values(recordings, start_s)
        texts = [texts[owner] for owner in owners]
        if self._are_rendered(texts):
            text_kwargs.setdefault("add_special_tokens", False)
        tokens = self._tokens(lambda kwargs: self.tokenizer(texts, **kwargs), text_kwargs, return_tensors)
        return BatchFeature({**tokens, "ecg_values": ecg_values}, tensor_type=return_tensors)

    def apply_chat_template(
        self,
        conversation: list[dict] | list[list[dict]],
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenize: bool = False,
        return_tensors: str | None = None,
        return_dict: bool = False,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> str | list[str] | list[list[int]] | BatchFeature:
        """Render conversations about an ECG, and prepare them for the model.

        Args:
            conversation: messages with `role` and `content`, or a list of conversations. The content is a string
                or a list of `{"type": "text", "text": ...}` and `{"type": "ecg", "ecg": ...}`, where the ECG is
                whatever the feature extractor takes; an array brings `sampling_rate` and `lead_names` in its part.
            chat_template: instead of the processor's own.
            add_generation_prompt: end with the words that make the model answer.
            continue_final_message: leave the last message open, for the model to continue.
            return_assistant_tokens_mask: add `assistant_masks`, 1 at each token of an assistant's message and
                of its end.
            tokenize: return tokens instead of text.
            return_tensors: `"pt"` or `"np"`; lists by default.
            return_dict: return a `BatchFeature` with `ecg_values`; needs one ECG in each conversation. Otherwise
                the token ids alone.
            processor_kwargs: as the keywords of a call, where a template variable has the same name.
            kwargs: `start_s` and what a tokenizer takes are used as in a call; the rest goes to the template.

        Returns:
            The text (a list for a list of conversations), or the ids, or the `BatchFeature`; the latter two
            always have a batch axis.

        Raises:
            ValueError: a conversation has no ECG, or several; or as in a call.
        """
        if not conversation:
            raise ValueError("an empty conversation; expected at least one message")
        batched = isinstance(conversation[0], (list, tuple))
        conversations = list(conversation) if batched else [conversation]
        known = set(ECGKwargs.__annotations__) | set(TextKwargs.__annotations__) | {"ecg_kwargs", "text_kwargs"}
        processor_kwargs = {name: kwargs.pop(name) for name in known & set(kwargs)} | (processor_kwargs or {})
        ecg_kwargs, text_kwargs = self._split_kwargs(processor_kwargs)
        template_kwargs = {
            "chat_template": chat_template or self.chat_template,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            **kwargs,
        }
        messages = [_without_signals(one) for one in conversations]
        if not tokenize:
            rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, **template_kwargs)
            return rendered if batched else rendered[0]

        ecg_values = None
        if return_dict:
            recordings = [self._recording_of(one, ecg_kwargs) for one in conversations]
            ecg_values, owners = self._ecg_values(recordings, ecg_kwargs.get("start_s"))
            messages = [messages[owner] for owner in owners]

        def tokenized(kwargs: dict[str, Any]) -> BatchEncoding:
            named = {name: kwargs.pop(name) for name in ("padding", "truncation", "max_length", "return_tensors")}
            return self.tokenizer.apply_chat_template(
                messages,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=return_assistant_tokens_mask,
                tokenizer_kwargs=kwargs,
                **named,
                **template_kwargs,
            )

        tokens = self._tokens(tokenized, {"truncation": False, "max_length": None, **text_kwargs}, return_tensors)
        if not return_dict:
            return tokens["input_ids"]
        return BatchFeature({**tokens, "ecg_values": ecg_values}, tensor_type=return_tensors)

    def decode(self, token_ids: Any, *args: Any, **kwargs: Any) -> str | list[str]:
        """As `decode` of the tokenizer, which need not know the ECG's placeholder: it is left out."""
        return self.tokenizer.decode(self._without_placeholders(token_ids), *args, **kwargs)

    def batch_decode(self, sequences: Any, *args: Any, **kwargs: Any) -> list[str]:
        """As `batch_decode` of the tokenizer, which need not know the ECG's placeholder: it is left out."""
        return self.tokenizer.batch_decode(self._without_placeholders(sequences), *args, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What the model's `forward` takes."""
        return ["input_ids", "attention_mask", "ecg_values"]

    def _split_kwargs(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The keywords of the feature extractor and of the tokenizer, each over the class's defaults."""
        flat = dict(kwargs)
        ecg_kwargs = {**self.ecg_kwargs, **flat.pop("ecg_kwargs", {})}
        text_kwargs = {**self.text_kwargs, **flat.pop("text_kwargs", {})}
        for name, value in flat.items():
            (ecg_kwargs if name in ECGKwargs.__annotations__ else text_kwargs)[name] = value
        unknown = (set(ecg_kwargs) - set(ECGKwargs.__annotations__)) | (
            set(text_kwargs) - set(TextKwargs.__annotations__)
        )
        if unknown:
            raise TypeError(f"unknown keyword {', '.join(sorted(unknown))} of {type(self).__name__}")
        return ecg_kwargs, text_kwargs

    def _are_rendered(self, texts: list[str]) -> bool:
        """Whether the texts bring the special tokens that the tokenizer would add: a template's do."""
        bos_token, eos_token = self.tokenizer.bos_token, self.tokenizer.eos_token
        if bos_token and all(one.startswith(bos_token) for one in texts):
            return True
        return _ends_with_eos(self.tokenizer) and all(one.endswith(eos_token) for one in texts)

    def _tokens(
        self,
        tokenize: Callable[[dict[str, Any]], BatchEncoding],
        text_kwargs: dict[str, Any],
        return_tensors: str | None,
    ) -> BatchEncoding:
        """Tokenize, and put the ECG's placeholders in where the model needs them, before the widths are made equal.

        Args:
            tokenize: takes the keywords of a tokenizer's call.
            text_kwargs: the keywords.
            return_tensors: as of a call.
        """
        if self.ecg_token_id is None:
            return tokenize({**text_kwargs, "return_tensors": return_tensors})
        self._check_placeholder()
        layout = {name: text_kwargs[name] for name in _LAYOUT if name in text_kwargs}
        side = layout.pop("padding_side")
        padding, truncation, max_length, _ = self.tokenizer._get_padding_truncation_strategies(**layout)
        kwargs = {name: value for name, value in text_kwargs.items() if name not in _LAYOUT}
        as_they_are = {"padding": False, "truncation": False, "max_length": None, "return_tensors": None}
        tokens = tokenize({**kwargs, **as_they_are, "return_special_tokens_mask": True})
        unknown = set(tokens) - set(PER_TOKEN) - {"input_ids"}
        if unknown:
            raise TypeError(f"{', '.join(sorted(unknown))} cannot be returned of texts with ECG placeholders")

        placeholders = Placeholders(self.ecg_token_id, self.num_ecg_tokens)
        rows = [dict(zip(tokens, values, strict=True)) for values in zip(*tokens.values(), strict=True)]
        rows = [placeholders.insert(row, self.tokenizer.bos_token_id) for row in rows]
        if truncation.value != "do_not_truncate":
            rows = [placeholders.truncate(row, max_length, self.tokenizer.truncation_side) for row in rows]
        if padding is not PaddingStrategy.DO_NOT_PAD:
            widths = [len(row["input_ids"]) for row in rows]
            multiple = layout.get("pad_to_multiple_of") or 1
            width = max(widths) if padding is PaddingStrategy.LONGEST else max_length
            width = -(-width // multiple) * multiple
            rows = [pad(row, width, side, self.tokenizer.pad_token_id) for row in rows]
        names = [name for name in tokens if name != "special_tokens_mask" or kwargs.get("return_special_tokens_mask")]
        return BatchEncoding({name: [row[name] for row in rows] for name in names}, tensor_type=return_tensors)

    def _check_placeholder(self) -> None:
        # Looked at in each call: tokens can be added to a tokenizer at any time.
        known = (
            self.tokenizer.convert_ids_to_tokens(self.ecg_token_id) if self.ecg_token_id < len(self.tokenizer) else None
        )
        if known not in (None, ECG_TOKEN):
            raise ValueError(
                f"ecg_token_id is {self.ecg_token_id}, which is the tokenizer's token {known!r}; expected an id of no "
                f"token, or of {ECG_TOKEN!r}"
            )

    def _without_placeholders(self, token_ids: Any) -> Any:
        if self.ecg_token_id is None:
            return token_ids
        token_ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if isinstance(token_ids, int):
            return token_ids
        return [one for one in map(self._without_placeholders, token_ids) if one != self.ecg_token_id]

    def _ecg_values(self, recordings: list, start_s: float | str | None) -> tuple[np.ndarray, list[int]]:
        """The windows of all recordings, and for each window the index of its recording."""
        values = [self.feature_extractor(one, start_s=start_s)["ecg_values"] for one in recordings]
        owners = [index for index, windows in enumerate(values) for _ in windows]
        return np.concatenate(values), owners

    def _recording_of(self, conversation: list[dict], ecg_kwargs: dict[str, Any]):
        parts = [part for message in conversation for part in _parts(message) if part["type"] == "ecg"]
        if len(parts) != 1 or parts[0].get("ecg") is None:
            raise ValueError(
                f"a conversation with {sum(part.get('ecg') is not None for part in parts)} ECGs; expected one "
                '{"type": "ecg", "ecg": ...} part in each (to render text alone: tokenize=False)'
            )
        part = parts[0]
        recordings = self.feature_extractor.recordings(
            part["ecg"],
            sampling_rate=part.get("sampling_rate", ecg_kwargs.get("sampling_rate")),
            lead_names=part.get("lead_names", ecg_kwargs.get("lead_names")),
        )
        if len(recordings) != 1:
            raise ValueError(f"one ecg part holds {len(recordings)} ECGs; expected one per conversation")
        return recordings[0]


def _default_template(tokenizer) -> str:
    ids = tokenizer("a")["input_ids"]
    starts_with_bos = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    bos = "{{ bos_token }}" if starts_with_bos else ""
    if _ends_with_eos(tokenizer):
        return bos + _SOURCE_TEMPLATE
    # ChatML only where generation stops at its end token; Qwen's base models know the token and end with another.
    chatml = tokenizer.eos_token == "<|im_end|>" and "<|im_start|>" in tokenizer.get_vocab()
    return bos + (_CHATML_TEMPLATE if chatml else _PLAIN_TEMPLATE)


def _ends_with_eos(tokenizer) -> bool:
    """Whether the tokenizer ends any text with its end-of-text token, as T5's and BART's do for their encoders."""
    return tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]


def _parts(message: dict) -> list[dict]:
    content = message.get("content") or []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for part in content:
        if part.get("type") not in ("ecg", "text"):
            raise ValueError(f"a message part of type {part.get('type')!r}; expected 'ecg' or 'text'")
    return content


def _without_signals(conversation: list[dict]) -> list[dict]:
    """The same messages with the ECGs' places and nothing of their samples, which no template reads."""
    return [
        {**message, "content": [{"type": "ecg"} if part["type"] == "ecg" else part for part in _parts(message)]}
        for message in conversation
    ]


ECGProcessor.register_for_auto_class()
