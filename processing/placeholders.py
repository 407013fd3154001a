"""`Placeholders`: the tokens of a text in whose place a model of the fusion "llava" puts the ECG."""

from dataclasses import dataclass
from typing import Any

# What a tokenizer says of each token, and what it says at a placeholder. At padding it says the same but for the
# attention mask, which is 0 there.
PER_TOKEN = {
    "attention_mask": 1,
    "special_tokens_mask": 1,
    "assistant_masks": 0,
    "token_type_ids": 0,
    "offset_mapping": (0, 0),
}
Row = dict[str, list]


@dataclass(frozen=True)
class Placeholders:
    """A run of equal tokens that is put into a tokenized text, and that truncation leaves in it.

    A row is one text as a tokenizer returns it, neither truncated nor padded: `input_ids` and others of `PER_TOKEN`.

    Attributes:
        token_id: of the placeholder.
        count: how many of them each text holds.
    """

    token_id: int
    count: int

    def insert(self, row: Row, bos_token_id: int | None) -> Row:
        """Put the placeholders behind the text's first token where that is `bos_token_id`, else in front of it.

        A text that holds them already stays as it is.

        Raises:
            ValueError: it holds another number of them.
        """
        ids = row["input_ids"]
        found = ids.count(self.token_id)
        if found == self.count:
            return row
        if found:
            raise ValueError(
                f"found {found} ECG placeholder tokens (id {self.token_id}) in a text; expected {self.count} or none"
            )
        at = int(ids[:1] == [bos_token_id])
        fills = PER_TOKEN | {"input_ids": self.token_id}
        return {name: values[:at] + [fills[name]] * self.count + values[at:] for name, values in row.items()}

    def truncate(self, row: Row, max_length: int, side: str) -> Row:
        """Drop tokens from the end ("right") or the start ("left") of a text, the placeholders and what the tokenizer
        put around the text excepted.

        Args:
            row: with `special_tokens_mask`.
            max_length: tokens to keep, placeholders included.
            side: where to drop.

        Raises:
            ValueError: there is no room for the tokens that must stay.
        """
        ids, special = row["input_ids"], row["special_tokens_mask"]
        excess = len(ids) - max_length
        if excess <= 0:
            return row
        droppable = [place for place, one in enumerate(ids) if one != self.token_id and not special[place]]
        if excess > len(droppable):
            raise ValueError(
                f"max_length is {max_length}; expected room for {len(ids) - len(droppable)} tokens, {self.count} of "
                "them ECG placeholders"
            )
        dropped = set(droppable[:excess] if side == "left" else droppable[-excess:])
        kept = [place for place in range(len(ids)) if place not in dropped]
        return {name: [values[place] for place in kept] for name, values in row.items()}


def pad(row: Row, width: int, side: str, pad_token_id: int) -> Row:
    """Lengthen a text to `width` tokens at its end ("right") or its start ("left")."""
    fills: dict[str, Any] = PER_TOKEN | {"input_ids": pad_token_id, "attention_mask": 0}
    padded = {}
    for name, values in row.items():
        padding = [fills[name]] * (width - len(values))
        padded[name] = padding + values if side == "left" else values + padding
    return padded
