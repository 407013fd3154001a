"""How the models with a head come to be: around a language model, from a full checkpoint, or from an adapter folder."""

import os
import warnings
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from .base_meit import ECGLlamaPreTrainedModel
from .configuration_meit import ECGLlamaConfig
from .families_meit import family_of

# Within `try`, because the scan of remote code for missing packages would otherwise ask for peft to load even a full
# checkpoint.
try:
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
except ImportError:
    PeftModel = None

ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONFIG_FIELDS = ("fusion", "fusion_layers", "ecg_projection", "num_ecg_tokens", "text_model_id", "text_model_path")
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
# What a quantised language model says of itself, which trainers and peft ask the outer model for.
QUANTISATION_MARKS = ("hf_quantizer", "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method")


def base_of(text_model: PreTrainedModel) -> PreTrainedModel:
    """The language model without its head. T5's class with a head holds the parts of the base model itself."""
    if text_model.base_model is not text_model:
        return text_model.base_model
    with torch.device("meta"):
        base = AutoModel.from_config(text_model.config)
    for name, part in text_model.named_children():
        if hasattr(base, name):
            setattr(base, name, part)
    return base


def append_row(text_model: PreTrainedModel) -> None:
    """Give the language model's vocabulary one more token; its rows are the means of the others."""
    vocabulary = text_model.get_input_embeddings().weight.shape[0]
    text_model.resize_token_embeddings(vocabulary + 1, mean_resizing=False)
    with torch.no_grad():
        for module in (text_model.get_input_embeddings(), text_model.get_output_embeddings()):
            for weight in (module.weight, getattr(module, "bias", None)):
                if weight is not None:
                    weight[vocabulary] = weight[:vocabulary].float().mean(0).to(weight.dtype)


class ECGLoadableModel(ECGLlamaPreTrainedModel):
    """`from_text_pretrained`, `from_pretrained` and `save_pretrained` of the models with a head.

    Attributes:
        text_auto_class: the Auto class of their language models.
    """

    text_auto_class: type

    def _adopt(self, text_model: PreTrainedModel, is_new: bool) -> None:
        """Take over what the language model's class with a head knows: tied weights and generation settings."""
        embeddings = self.get_input_embeddings()
        [name] = [name for name, module in self.named_modules() if module is embeddings]
        # T5 v1.1 says that it ties its head, and has a separate one.
        is_tied = is_new or self.lm_head.weight is embeddings.weight
        self._tied_weights_keys = {"lm_head.weight": f"{name}.weight"} if is_tied else {}
        self._can_compile_fullgraph = self.model._can_compile_fullgraph
        self.generation_config = text_model.generation_config

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As of `PreTrainedModel`.

        Raises:
            ValueError: where the row of the ECG's placeholder token would go.
        """
        placeholder = self.config.ecg_token_id
        if new_num_tokens is not None and placeholder is not None and new_num_tokens <= placeholder:
            raise ValueError(
                f"{new_num_tokens} rows would leave out the ECG's placeholder token {placeholder}; expected at least "
                f"{placeholder + 1}"
            )
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    @classmethod
    def from_text_pretrained(
        cls,
        text_model: str | os.PathLike,
        *,
        config: ECGLlamaConfig | None = None,
        ecg_config: PreTrainedConfig | dict | None = None,
        **kwargs: Any,
    ) -> "ECGLoadableModel":
        """Build the model around a pretrained language model; encoder and projector start with random weights.

        Args:
            text_model: Hub id or folder of a language model. For a GGUF file in that folder pass
                `gguf_file=` (and `quantization_config=GgufConfig(dequantize=True)` to train or save it).
            config: a whole configuration, whose `text_config` is replaced by the language model's; or
            ecg_config: that of the encoder.
            **kwargs: the fields fusion, fusion_layers, ecg_projection, num_ecg_tokens, text_model_id and
                text_model_path of `ECGLlamaConfig`; what remains goes to the language model's own `from_pretrained`
                (`dtype`, `device_map`, `attn_implementation`, `quantization_config`, ...).

        Raises:
            ValueError: for a family that is not supported; the message names those that are.
        """
        overrides = {name: kwargs.pop(name) for name in CONFIG_FIELDS if name in kwargs}
        if config is not None:
            if ecg_config is not None or overrides:
                raise ValueError("pass either config or ecg_config and fields of ECGLlamaConfig, not both")
            if not hasattr(config, "ecg_config"):
                raise ValueError(f"config is a {type(config).__name__}; expected a {cls.config_class.__name__}")
            ecg_config = config.ecg_config
            overrides = {name: getattr(config, name) for name in (*CONFIG_FIELDS, "ecg_token_id")}
        loaded = cls._load_text_model(text_model, kwargs)
        vocabulary = loaded.get_input_embeddings().weight.shape[0]
        if overrides.get("fusion") == "llava":
            if overrides.get("ecg_token_id") is None:
                overrides["ecg_token_id"] = vocabulary
            if overrides["ecg_token_id"] == vocabulary:
                append_row(loaded)
        attn_implementation = loaded.config._attn_implementation
        # A configuration that is given may say that another place holds the language model, as an adapter's does.
        if config is None or overrides["text_model_id"] is overrides["text_model_path"] is None:
            place = "text_model_path" if os.path.isdir(text_model) else "text_model_id"
            if overrides.get(place) is None:
                overrides[place] = os.path.abspath(text_model) if place == "text_model_path" else os.fspath(text_model)
        # Made anew, so that all of it is checked against this language model, and a caller's stays as it was.
        config = cls.config_class(text_config=loaded.config, ecg_config=ecg_config, **overrides)
        # A new configuration resets its parts to no implementation at all, with which a built model would attend
        # without a causal mask.
        config._attn_implementation = attn_implementation
        model = cls(config, text_model=loaded)
        for name, part in model.model.named_children():
            if name != "language_model":
                part.to(loaded.device)
        for mark in QUANTISATION_MARKS:
            if hasattr(loaded, mark):
                setattr(model, mark, getattr(loaded, mark))
        return model.eval()

    @classmethod
    def _load_text_model(cls, text_model: str | os.PathLike, kwargs: dict[str, Any]) -> PreTrainedModel:
        if "gguf_file" not in kwargs:
            # Before gigabytes of weights: what is not supported shows in the configuration.
            hub_kwargs = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            cls._check_text_config(AutoConfig.from_pretrained(text_model, **hub_kwargs))
        loaded = cls.text_auto_class.from_pretrained(text_model, **kwargs)
        cls._check_text_config(loaded.config)
        return loaded

    @classmethod
    def _check_text_config(cls, text_config: PreTrainedConfig) -> None:
        """Raise `ValueError` for a family that is not supported, or is one of the twin's."""
        if hasattr(text_config, "ecg_config"):
            raise ValueError("found a model that reads ECGs already, expected a language model: use from_pretrained")
        is_encoder_decoder = family_of(text_config.model_type).is_encoder_decoder
        if is_encoder_decoder != cls.config_class.is_encoder_decoder:
            kind, twin = (
                ("an encoder-decoder", "ECGLlamaForConditionalGeneration")
                if is_encoder_decoder
                else ("decoder-only", "ECGLlamaForCausalLM")
            )
            raise ValueError(f'a language model of type "{text_config.model_type}" is {kind}: use {twin}')

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        text_model: str | os.PathLike | None = None,
        config: PreTrainedConfig | None = None,
        **kwargs: Any,
    ) -> "ECGLoadableModel":
        """Load a full checkpoint, or an adapter folder (LoRA, encoder and projector, no backbone weights).

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            text_model: for an adapter folder, the backbone's folder or Hub id, where it is not at the place that
                the config records.
            config: the configuration, where it is already loaded.
            **kwargs: as of `PreTrainedModel.from_pretrained`; `is_trainable=True` leaves an adapter trainable.

        Raises:
            OSError: where an adapter's backbone is nowhere to be found (the message names the places looked at), or
                weights are missing, cut short or damaged.
            ValueError: where the adapter's weights are not those that its configuration asks for.
        """
        adapter_kwargs = kwargs.pop("adapter_kwargs", None) or {}
        adapter = adapter_kwargs.pop("_adapter_model_path", None) or pretrained_model_name_or_path
        hub_kwargs = {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
        if adapter is None or find_adapter_config_file(adapter, **{**hub_kwargs, **adapter_kwargs}) is None:
            if text_model is not None:
                raise ValueError(
                    f"{pretrained_model_name_or_path} is a full checkpoint, not an adapter: text_model has no use"
                )
            if config is None and pretrained_model_name_or_path is not None:
                cls._check_model_type(pretrained_model_name_or_path, hub_kwargs)
            wants_info = kwargs.pop("output_loading_info", False)
            try:
                model, info = super().from_pretrained(
                    pretrained_model_name_or_path, *model_args, config=config, output_loading_info=True, **kwargs
                )
            except SafetensorError as error:
                raise _damaged(pretrained_model_name_or_path, error) from error
            missing = sorted(name for name in info["missing_keys"] if name.startswith("model.ecg_"))
            if missing and not wants_info:  # which would say so
                raise ValueError(
                    f"{pretrained_model_name_or_path} lacks {len(missing)} tensors of what reads the ECG (e.g. "
                    f"{missing[0]}); with new weights in their place the model could not read an ECG"
                )
            # An adapter that is trained on top of it does not belong to the language model that it began with.
            model.config.text_model_id = model.config.text_model_path = None
            return (model, info) if wants_info else model

        if PeftModel is None:
            raise ImportError(f"{adapter} is a LoRA adapter; loading it needs peft: pip install peft")
        # Of where to look and as whom, all but these holds for the backbone's repository too.
        for name in ("revision", "subfolder"):
            kwargs.pop(name, None)
        is_trainable = kwargs.pop("is_trainable", False)
        kwargs.pop("trust_remote_code", None)
        kwargs.pop("_from_auto", None)
        if config is None:
            config = cls.config_class.from_pretrained(adapter, **hub_kwargs)
        model = cls._from_recorded_text_model(adapter, text_model, config, kwargs)
        return model._add_adapter(adapter, is_trainable, {**hub_kwargs, **adapter_kwargs})

    @classmethod
    def _check_model_type(cls, path: str | os.PathLike, hub_kwargs: dict[str, Any]) -> None:
        found, _ = PreTrainedConfig.get_config_dict(path, **hub_kwargs)
        expected = cls.config_class.model_type
        if found.get("model_type", expected) != expected:
            raise ValueError(
                f'{path} holds a model of type "{found["model_type"]}", expected "{expected}": '
                "from_text_pretrained puts an ECG encoder to a language model"
            )

    @classmethod
    def _from_recorded_text_model(
        cls,
        adapter: str | os.PathLike,
        text_model: str | os.PathLike | None,
        config: ECGLlamaConfig,
        kwargs: dict[str, Any],
    ) -> "ECGLoadableModel":
        path, hub_id = config.text_model_path, config.text_model_id
        if text_model is None:
            text_model = path if path is not None and os.path.isdir(path) else hub_id
        try:
            if text_model is None:
                raise OSError("no Hub id is recorded")
            return cls.from_text_pretrained(text_model, config=config, **kwargs)
        except OSError as error:
            reason = str(error).partition("\n")[0]
            raise OSError(
                f"{adapter} is an adapter without backbone weights, and its backbone was not found (tried "
                f"{text_model or path}: {reason}; recorded are the folder {path} and the Hub id "
                f"{hub_id}): pass text_model=FOLDER_OR_HUB_ID"
            ) from error
        except SafetensorError as error:
            raise _damaged(f"{text_model}, the backbone of {adapter},", error) from error

    def _add_adapter(
        self, adapter: str | os.PathLike, is_trainable: bool, hub_kwargs: dict[str, Any]
    ) -> "ECGLoadableModel":
        # safetensors or nothing: a pickle from elsewhere runs code when it is read.
        weights = cached_file(adapter, ADAPTER_WEIGHTS, _raise_exceptions_for_missing_entries=False, **hub_kwargs)
        if weights is None:
            raise OSError(f"{adapter} has an adapter_config.json but no {ADAPTER_WEIGHTS}")
        peft_config = PeftConfig.from_pretrained(adapter, **hub_kwargs)
        peft_config.inference_mode = not is_trainable
        needed = {name for name, _ in self.model.named_children()} - {"language_model"}
        missing = sorted(needed - set(peft_config.modules_to_save or ()))
        if missing:
            raise ValueError(
                f"{adapter} holds no {', '.join(missing)} (its modules_to_save is {peft_config.modules_to_save}); with "
                "new weights in their place the model could not read an ECG"
            )
        with warnings.catch_warnings():
            # peft asks for it by the name that transformers is about to drop.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            peft_model = PeftModel(self, peft_config)
        _check_adapter_weights(peft_model, adapter, weights)
        peft_model.load_adapter(adapter, "default", is_trainable=is_trainable, **hub_kwargs)
        # The layers are injected in place. What remains is to tell transformers, whose own calls (save_pretrained,
        # disable_adapters, ...) then act on the adapter.
        self.peft_config = peft_model.peft_config
        self._hf_peft_config_loaded = True
        return self.train(is_trainable)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the model (or, where one is loaded, its adapter), its configuration and the code to load it."""
        super().save_pretrained(save_directory, *args, **kwargs)
        self.save_config_and_code(save_directory)

    def save_config_and_code(self, folder: str | os.PathLike) -> None:
        """Write the configuration and the modelling code into `folder`: what AutoModel needs beside the weights."""
        self.config.save_pretrained(folder)
        custom_object_save(type(self), folder)


def _damaged(place: str | os.PathLike, error: SafetensorError) -> OSError:
    return OSError(
        f"the weights of {place} are cut short or damaged ({error}): get them again, from the Hub with "
        "force_download=True"
    )


def _check_adapter_weights(peft_model: nn.Module, adapter: str | os.PathLike, weights: str) -> None:
    """Compare names and shapes of the tensors in the file `weights` with those that the adapter asks for."""
    try:
        with safe_open(weights, framework="pt") as file:
            found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise _damaged(adapter, error) from error
    expected = {name: list(tensor.shape) for name, tensor in get_peft_model_state_dict(peft_model).items()}
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(
            f"{weights} does not fit its adapter_config.json: {len(missing)} of {len(expected)} tensors "
            f"are missing (e.g. {missing[:1]}) and {len(unknown)} are not expected (e.g. {unknown[:1]})"
        )
    misshapen = [name for name in expected if found[name] != expected[name]]
    if misshapen:
        name = misshapen[0]
        raise ValueError(
            f"{weights} does not fit its config.json and adapter_config.json: {len(misshapen)} of {len(expected)} "
            f"tensors have another shape, the first is {name} with {found[name]}, expected {expected[name]}"
        )
