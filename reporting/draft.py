"""ECG files in, drafted reports out."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedModel

from dataset_builder.instructions import DEFAULT_INSTRUCTION
from modeling_meit import ECGLlamaConfig, ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration
from processing import DigitalRecording, ECGFeatureExtractor, ECGProcessor, Recording

from .notice import DRAFT_NOTICE

# The saved processor names this class; known to transformers, it is taken from here and not from the model's folder,
# whose code would have to be trusted first.
AutoFeatureExtractor.register(ECGLlamaConfig, ECGFeatureExtractor, exist_ok=True)

Source = str | os.PathLike | Recording | DigitalRecording
# What a file that is no usable ECG raises; anything else is a fault of ours and is not caught.
_UNUSABLE = (ValueError, OSError, ImportError)
# Of less, no rhythm can be told: a resting heart may beat but twice in it.
MINIMUM_SECONDS = 2.5


@dataclass(frozen=True)
class Draft:
    """A drafted report for ten seconds of a recording, or why there is none.

    Attributes:
        source: the file, or the source that a `Recording` names.
        start_s: the second of the recording at which the drafted window starts.
        seconds: how much of the window is signal; the rest of the ten seconds is padding.
        undrafted_s: seconds of signal behind this window that are too few for a draft of their own.
        report: the model's text; None where there was an error.
        error: what kept the recording from being read; None where there is a report.
        model: the model's folder or Hub id.
        notice: the sentence that goes wherever the report goes.
    """

    source: str
    start_s: float
    seconds: float
    report: str | None
    error: str | None
    model: str
    undrafted_s: float = 0.0
    notice: str = DRAFT_NOTICE

    def to_dict(self) -> dict[str, str | float | None]:
        """The same, ready for JSON."""
        return dataclasses.asdict(self)


class ReportDrafter:
    """Drafts reports with a trained model, several recordings per forward pass.

    Args:
        model_path: Hub id or folder: a full checkpoint, or the adapter folder that training wrote.
        text_model: for an adapter, its backbone where that is not at the place the adapter records.
        device: such as "cpu" or "cuda"; an accelerator where there is one by default.
        dtype: of the language model; the checkpoint's own by default. The ECG encoder is float32 in any case.
        batch_size: windows of ten seconds per forward pass.
        instruction: what the model is asked.

    Raises:
        OSError, ValueError: where model or processor cannot be loaded.
    """

    def __init__(
        self,
        model_path: str | os.PathLike,
        *,
        text_model: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int = 8,
        instruction: str = DEFAULT_INSTRUCTION,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        if device is None:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.name = os.fspath(model_path)
        self.batch_size = batch_size
        self.instruction = instruction
        self.text_model = None if text_model is None else os.fspath(text_model)
        self.processor = _load_processor(model_path)
        options = {} if dtype is None else {"dtype": dtype}
        if text_model is not None:
            options["text_model"] = text_model
        self.model = _load_model(model_path, options).to(device).eval()
        message = {"role": "user", "content": [{"type": "ecg"}, {"type": "text", "text": instruction}]}
        prompt = self.processor.apply_chat_template([message], tokenize=True, add_generation_prompt=True)
        self._prompt = torch.tensor(prompt)

    def draft(
        self,
        sources: Iterable[Source],
        *,
        sampling_rate: float | None = None,
        lead_names: Sequence[str] | None = None,
        start_s: float | None = None,
        max_new_tokens: int = 256,
        **generation,
    ) -> Iterator[Draft]:
        """Draft a report for each ten seconds of each recording, in order.

        A recording that cannot be used gives one draft with its error, and the others go on.

        Args:
            sources: files or recordings.
            sampling_rate: in Hz, of files that do not say it (`read_ecg`); one that says another is refused.
            lead_names: of files that do not say them, likewise.
            start_s: only the window that starts at this second; by default a longer recording gives one draft per
                ten seconds from its start, the last of them padded.
            max_new_tokens: length of a report in tokens at most.
            **generation: further arguments of `generate`; greedy decoding by default.
        """
        pending: list[tuple[Draft, torch.Tensor | None]] = []
        for source in sources:
            for draft, ecg_values in self._windows(source, sampling_rate, lead_names, start_s):
                pending.append((draft, ecg_values))
                if sum(values is not None for _, values in pending) == self.batch_size:
                    yield from self._generate(pending, max_new_tokens, generation)
                    pending = []
        yield from self._generate(pending, max_new_tokens, generation)

    def _windows(
        self, source: Source, sampling_rate: float | None, lead_names: Sequence[str] | None, start_s: float | None
    ) -> Iterator[tuple[Draft, torch.Tensor | None]]:
        name = getattr(source, "source", None) or os.fspath(source)
        empty = Draft(str(name), start_s or 0.0, 0.0, report=None, error=None, model=self.name)
        extractor = self.processor.feature_extractor
        try:
            [recording] = extractor.recordings(source, sampling_rate, lead_names)
        except _UNUSABLE as error:
            yield dataclasses.replace(empty, error=str(error)), None
            return
        rate, samples = recording.sampling_rate, recording.signal.shape[1]
        duration, total = extractor.duration_s, samples / rate
        if start_s is not None or total <= duration + 1e-6:
            seconds = min(duration, total - (start_s or 0.0))
            yield self._window(dataclasses.replace(empty, seconds=seconds), recording, start_s)
            return
        # One window after the other is cut before leads are placed, so that hours of signal are no copy each.
        starts = [0.0]
        while total - (starts[-1] + duration) >= MINIMUM_SECONDS:
            starts.append(starts[-1] + duration)
        for start in starts:
            first = round(start * rate)
            part = dataclasses.replace(
                recording,
                signal=recording.signal[:, first : first + math.ceil(duration * rate - 1e-6)],
                source=f"{recording.source} from {start:g} s",
            )
            window = dataclasses.replace(empty, start_s=start, seconds=min(duration, total - start))
            if start == starts[-1]:
                window = dataclasses.replace(window, undrafted_s=total - start - window.seconds)
            yield self._window(window, part, None)

    def _window(self, window: Draft, recording: Recording, start_s: float | None) -> tuple[Draft, torch.Tensor | None]:
        try:
            values = self.processor.feature_extractor(recording, start_s=start_s, return_tensors="pt")["ecg_values"]
            if window.seconds < MINIMUM_SECONDS:
                raise ValueError(
                    f"{recording.source}: {window.seconds:.3g} s of signal; expected at least {MINIMUM_SECONDS} s to "
                    "draft a report of"
                )
        except _UNUSABLE as error:
            return dataclasses.replace(window, error=str(error)), None
        return window, values

    def _generate(
        self, pending: list[tuple[Draft, torch.Tensor | None]], max_new_tokens: int, generation: dict
    ) -> Iterator[Draft]:
        ecgs = [values for _, values in pending if values is not None]
        reports = iter(self.draft_values(torch.cat(ecgs), max_new_tokens, **generation) if ecgs else ())
        for draft, values in pending:
            yield draft if values is None else dataclasses.replace(draft, report=next(reports))

    def draft_values(self, ecg_values: torch.Tensor, max_new_tokens: int = 256, **generation) -> list[str]:
        """Draft a report for each ECG that the feature extractor has prepared, in one forward pass.

        Args:
            ecg_values: float32 (ECGs, 12, samples), as of `ECGFeatureExtractor`.
            max_new_tokens: length of a report in tokens at most.
            **generation: further arguments of `generate`; greedy decoding by default.
        """
        # Every text is the same prompt, so there is nothing to pad.
        input_ids = self._prompt.expand(len(ecg_values), -1).to(self.model.device)
        generated = self.model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            ecg_values=ecg_values.to(self.model.device),
            max_new_tokens=max_new_tokens,
            eos_token_id=end_tokens(self.model, self.processor),
            pad_token_id=self.processor.tokenizer.pad_token_id,
            **{"do_sample": False, "num_beams": 1, **generation},
        )
        if not self.model.config.is_encoder_decoder:  # whose decoder begins with the report
            generated = generated[:, input_ids.shape[1] :]
        return [report.strip() for report in self.processor.batch_decode(generated, skip_special_tokens=True)]


def end_tokens(model: PreTrainedModel, processor: ECGProcessor) -> list[int]:
    """The language model's own end tokens and the one that reports were trained to end with."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own] if own is not None else []
    return sorted({*own, processor.tokenizer.eos_token_id})


def _load_model(model_path: str | os.PathLike, options: dict) -> PreTrainedModel:
    is_encoder_decoder = AutoConfig.from_pretrained(model_path, trust_remote_code=False).is_encoder_decoder
    model_class = ECGLlamaForConditionalGeneration if is_encoder_decoder else ECGLlamaForCausalLM
    return model_class.from_pretrained(model_path, **options)


def _load_processor(model_path: str | os.PathLike) -> ECGProcessor:
    if os.path.isdir(model_path):
        if not os.path.isfile(os.path.join(model_path, "processor_config.json")):
            raise ValueError(f"{model_path}: no processor_config.json; expected a folder that `meit-ecg train` wrote")
        return ECGProcessor.from_pretrained(model_path)
    try:
        return ECGProcessor.from_pretrained(model_path)
    except (OSError, ValueError) as error:
        raise OSError(
            f"{model_path}: no such folder, nor a model that could be loaded from the Hub ({error})"
        ) from error
