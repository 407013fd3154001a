import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from dataset_builder import instructions
from dataset_builder.instructions import DEFAULT_INSTRUCTION, INSTRUCTIONS, INSTRUCTIONS_VERSION, instruction_for

REPOSITORY = Path(__file__).parents[2]
# What a report could answer. A prompt that names one would tell the model what to find, or what not to.
FINDINGS = re.compile(
    r"fibrillat|flutter|cardia\b|sinus|infarct|ischa?em|block|hypertroph|elevat|depress|invers|invert|normal|"
    r"patholog|premature|ectop|systol|pacemaker|pacing|prolong|deviation|low voltage|enlarge|stemi|arrhythm|acute",
    re.IGNORECASE,
)


def test_there_are_256_different_prompts():
    words_only = Counter(re.sub(r"[^a-z0-9 ]", "", prompt.lower()) for prompt in INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 256
    assert [prompt for prompt, count in words_only.items() if count > 1] == []


def test_prompts_are_clean_sentences():
    for prompt in INSTRUCTIONS:
        assert prompt == prompt.strip()
        assert prompt[0].isupper()
        assert prompt[-1] in ".?"
        assert prompt.isascii()
        assert 10 <= len(prompt) <= 120


def test_no_prompt_names_a_finding():
    assert [prompt for prompt in INSTRUCTIONS if FINDINGS.search(prompt)] == []


def test_a_published_version_does_not_change():
    assert INSTRUCTIONS_VERSION == "1"
    text = (Path(instructions.__file__).parent / "instructions_v1.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "9d561a65b0b30ce29d18f2259f9c7fe6262af4cce50d3f37edd533119aa86adb"


def test_default_is_one_of_the_prompts():
    assert DEFAULT_INSTRUCTION in INSTRUCTIONS


def test_draw_is_the_same_in_another_process():
    ids = ["1", "21837", "s0-000001", "é"]
    script = (
        f"from dataset_builder.instructions import instruction_for; print(ascii([instruction_for(i) for i in {ids}]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == ascii([instruction_for(record_id) for record_id in ids])


def test_every_prompt_is_drawn_about_equally_often():
    drawn = Counter(instruction_for(str(record_id)) for record_id in range(256 * 100))
    assert len(drawn) == 256
    # 100 expected each; a binomial count leaves 100 +- 6 standard deviations about once in 10^9.
    assert 40 <= min(drawn.values()) <= max(drawn.values()) <= 160
