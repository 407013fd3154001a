"""Reports translated by a sequence-to-sequence model: Marian, NLLB, M2M100, mBART, T5 and the like.

torch and transformers are imported where a model is loaded, so that a build without translation does without them.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from dataset_builder.errors import DatasetBuildError, RecordError

# How the multilingual families spell a language: M2M100, NLLB, mBART.
_SPELLINGS = {
    "de": ("de", "deu_Latn", "de_DE"),
    "en": ("en", "eng_Latn", "en_XX"),
    "sv": ("sv", "swe_Latn", "sv_SE"),
}
_MAX_NEW_TOKENS = 512


class Translator:
    """Translates texts with any seq2seq model of transformers: deterministic, and each different text once.

    Args:
        model: Hub id or folder, with weights in safetensors.
        source_language: of the texts, "de" or as the model spells it ("deu_Latn"). Models for one pair ignore it.
        target_language: likewise.
        batch_size: texts at a time. It changes the speed, not the translations (but for rounding).
        num_beams: 1 decodes greedily.
        cache_file: an SQLite file that keeps every finished batch, so that a build that was killed goes on from there.
            Several processes may share it. Translations of another model or with other settings are not taken.
        device: such as "cuda"; by default the GPU where there is one.

    Raises:
        DatasetBuildError: the model cannot be loaded, is no seq2seq model, or does not know a language.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        source_language: str = "de",
        target_language: str = "en",
        batch_size: int = 16,
        num_beams: int = 1,
        cache_file: str | os.PathLike | None = None,
        device: str | None = None,
    ) -> None:
        self.name, self.batch_size = str(model), batch_size
        self._source, self._target = source_language, target_language
        self._tokenizer, self._model = _load(self.name, device)
        generation = self._model.generation_config
        generation.do_sample, generation.num_beams = False, num_beams
        # A forced end would hide that a translation was cut short.
        generation.forced_eos_token_id = generation.max_length = None
        self._max_tokens = _max_tokens(self._tokenizer, self._model.config)
        generation.max_new_tokens = min(_MAX_NEW_TOKENS, self._max_tokens - 2)
        self._prefix = self._prepare_languages(generation)
        self._cache_file = None if cache_file is None else Path(cache_file)
        self._settings = "" if cache_file is None else self._fingerprint()

    def translate(self, texts: Sequence[str]) -> list[str | RecordError]:
        """The translation of each text, in the order of the texts; a text without a letter or digit stays "".

        A text that cannot be translated whole has a `RecordError` in its place, for whoever builds the record to
        raise: the text is longer than the model takes, its translation did not come to an end, or it is empty.

        Raises:
            DatasetBuildError: the cache is no SQLite file that can be written.
        """
        stripped = [text.strip() for text in texts]
        done: dict[str, str | RecordError] = {text: "" for text in stripped if not any(map(str.isalnum, text))}
        try:
            done |= self._cached([text for text in dict.fromkeys(stripped) if text not in done])
            pending = [text for text in dict.fromkeys(stripped) if text not in done]
            if pending:
                for batch in self._translate(pending):
                    self._store(batch)
                    done |= batch
        except sqlite3.Error as error:
            raise DatasetBuildError(f"{self._cache_file}: not a cache of translations ({error})") from error
        return [done[text] for text in stripped]

    def _translate(self, texts: list[str]) -> Iterator[dict[str, str | RecordError]]:
        import torch
        from tqdm.auto import tqdm

        token_ids = dict(zip(texts, self._tokenizer([self._prefix + text for text in texts])["input_ids"], strict=True))
        with tqdm(total=len(texts), desc="translating", unit="report") as progress:
            too_long = {
                text: RecordError("too long to translate", f"{len(ids)} tokens, {self.name} takes {self._max_tokens}")
                for text, ids in token_ids.items()
                if len(ids) > self._max_tokens
            }
            progress.update(len(too_long))
            if too_long:
                yield too_long
            # Texts of one length together: less padding. The longest first: a lack of memory shows at once.
            fitting = sorted((text for text in texts if text not in too_long), key=lambda text: -len(token_ids[text]))
            for start in range(0, len(fitting), self.batch_size):
                batch = fitting[start : start + self.batch_size]
                inputs = self._tokenizer([self._prefix + text for text in batch], padding=True, return_tensors="pt")
                inputs.pop("token_type_ids", None)
                with torch.inference_mode():
                    output = self._model.generate(**inputs.to(self._model.device))
                yield dict(zip(batch, map(self._decode, output), strict=True))
                progress.update(len(batch))

    def _decode(self, tokens) -> str | RecordError:
        """One row of generated token ids -> its text."""
        generation = self._model.generation_config
        ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
        tokens = tokens.tolist()[1:]  # behind the start token, which some families spell as the end
        if not set(tokens) & set(ends):
            return RecordError("translation cut short", f"no end within {len(tokens)} tokens")
        if tokens[0] == generation.forced_bos_token_id:  # the language, which not every tokenizer takes for special
            tokens = tokens[1:]
        text = " ".join(self._tokenizer.decode(tokens, skip_special_tokens=True).split())
        return text or RecordError("empty translation")

    def _prepare_languages(self, generation) -> str:
        """Tell tokenizer and model of many languages which to use; the prefix that a model of many tasks wants."""
        if not hasattr(self._tokenizer, "src_lang"):
            tasks = getattr(self._model.config, "task_specific_params", None) or {}
            return tasks.get(f"translation_{self._source}_to_{self._target}", {}).get("prefix", "")
        self._tokenizer.src_lang = self._known_language(self._source)[0]
        generation.forced_bos_token_id = self._known_language(self._target)[1]
        return ""

    def _known_language(self, language: str) -> tuple[str, int]:
        """A language as the tokenizer spells it, and the id of its token."""
        spellings = _SPELLINGS.get(language, (language,))
        codes = getattr(self._tokenizer, "lang_code_to_id", None) or self._tokenizer.get_added_vocab()
        for spelling in spellings:
            if spelling in codes:
                return spelling, codes[spelling]
        raise DatasetBuildError(f"{self.name} does not know the language {language!r}; tried {', '.join(spellings)}")

    def _fingerprint(self) -> str:
        """What decides a translation: the weights and the settings."""
        import torch

        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
        generation = self._model.generation_config
        limits = (generation.num_beams, generation.max_new_tokens, self._max_tokens)
        return repr((digest.hexdigest(), self._source, self._target, self._prefix, *limits))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._cache_file, timeout=60)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS translations (settings TEXT, text TEXT, translation TEXT, reason TEXT, "
            "detail TEXT, PRIMARY KEY (settings, text))"
        )
        return connection

    def _cached(self, texts: list[str]) -> dict[str, str | RecordError]:
        if self._cache_file is None:
            return {}
        found: dict[str, str | RecordError] = {}
        with closing(self._connect()) as connection:
            for text in texts:
                row = connection.execute(
                    "SELECT translation, reason, detail FROM translations WHERE settings = ? AND text = ?",
                    (self._settings, text),
                ).fetchone()
                if row is not None:
                    found[text] = row[0] if row[1] is None else RecordError(row[1], row[2])
        return found

    def _store(self, batch: dict[str, str | RecordError]) -> None:
        if self._cache_file is None:
            return
        rows = [
            (self._settings, text, None, result.reason, str(result))
            if isinstance(result, RecordError)
            else (self._settings, text, result, None, None)
            for text, result in batch.items()
        ]
        with closing(self._connect()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?, ?, ?)", rows)


def _load(name: str, device: str | None):
    try:
        import torch
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if not config.is_encoder_decoder:
            raise DatasetBuildError(
                f"{name}: a model of type {config.model_type}; expected a sequence-to-sequence model"
            )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            name, config=config, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except DatasetBuildError:
        raise
    except Exception as error:  # whatever a missing, foreign or damaged checkpoint raises in three libraries
        raise DatasetBuildError(
            f"{name}: cannot be loaded for translation ({type(error).__name__}: {error}); expected a Hub id or folder "
            "of a sequence-to-sequence model of transformers, with its tokenizer and weights in safetensors"
        ) from error
    if info["missing_keys"]:
        raise DatasetBuildError(f"{name}: weights are missing, such as {sorted(info['missing_keys'])[0]}")
    return tokenizer, model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _max_tokens(tokenizer, config) -> int:
    """Tokens of a text or a translation, the special ones included, that the model was made for."""
    names = ("max_position_embeddings", "n_positions")
    limits = [tokenizer.model_max_length, *(getattr(config, name, None) for name in names)]
    return int(min(limit for limit in (*limits, _MAX_NEW_TOKENS * 2) if limit))
