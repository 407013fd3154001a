"""Every way to show an ECG reaches every kind of model: its values, its losses, and what is kept of them differ."""

import datasets
import numpy as np
import pytest

from evaluation.noise import PERTURBATIONS, Perturbation
from reporting.draft import ReportDrafter
from tasks import showing
from tasks.systems import LanguageModelAlone, ModelSystem
from tests.training.tiny_run import FEATURES, options, record, write_dataset, write_family
from training.sft import train


def every_showing(rows, ids, seed=0):
    return [
        showing.right(rows, ids),
        showing.other(rows, ids, ids, seed),
        showing.flat(rows, ids),
        *(showing.perturbed(rows, ids, perturbation, seed) for perturbation in PERTURBATIONS),
    ]


@pytest.fixture(scope="module")
def rows():
    found = [dict.fromkeys(FEATURES) | record(number) for number in range(4)]
    dataset = datasets.Dataset.from_list(found, features=FEATURES)
    return dataset.with_format("numpy", columns=["ecg"], output_all_columns=True, dtype=None)


def trained_model(folder, trained, family, fusion):
    backbone = write_family(folder / "backbone", family) if family else trained / "backbone"
    records = [record(number) for number in range(4)]
    dataset = write_dataset(folder / "dataset", train=records, validation=records[:2])
    train(*options(backbone, dataset, folder / "model", model={"fusion": fusion}, max_steps=2, save_strategy="no"))
    return folder / "model"


@pytest.mark.parametrize(
    ("family", "fusion"), [(None, "concat"), (None, "llava"), (None, "flamingo"), ("t5", "concat"), ("bart", "concat")]
)
def test_each_showing_changes_the_losses_of_every_kind_of_model(trained, rows, tmp_path, family, fusion):
    drafter = ReportDrafter(trained_model(tmp_path, trained, family, fusion))
    model = ModelSystem(drafter, 4)
    shown = every_showing(rows, list(rows["id"]))
    losses = {of.name: tuple(nats for nats, _ in model.losses([of.row(0), of.row(1)])) for of in shown}
    assert len(set(losses.values())) == len(losses)
    assert all(np.isfinite(of).all() for of in losses.values())
    drafts = [model.draft([of.row(0), of.row(1)]) for of in (shown[0], shown[2])]
    assert [len(of) for of in drafts] == [2, 2]

    # The language model alone is given no ECG, so it says the same of all.
    alone = LanguageModelAlone(drafter, 4).draft([shown[0].row(0), shown[2].row(0), shown[1].row(1)])
    assert len(set(alone)) == 1


def test_each_showing_has_keys_of_its_own_and_noise_one_per_seed(rows):
    ids = list(rows["id"])
    perturbation = PERTURBATIONS[0]
    keys = [tuple(of.keys) for of in every_showing(rows, ids)]
    assert len(set(keys)) == len(keys)
    first, second = (showing.perturbed(rows, ids, perturbation, seed) for seed in (0, 1))
    assert not set(first.keys) & set(second.keys)
    assert (first.row(0)["ecg"] != second.row(0)["ecg"]).any()


def test_other_shows_each_ecg_once_and_none_to_its_own_patient(rows):
    ids = list(rows["id"])
    other = showing.other(rows, ids, ids, 3)
    assert sorted(other.keys) == sorted(ids)
    for number, key in enumerate(other.keys):
        row = other.row(number)
        assert key != ids[number]
        assert (row["id"], row["report"]) == (ids[number], rows[number]["report"])
        np.testing.assert_array_equal(row["ecg"], rows[ids.index(key)]["ecg"])


def test_an_ecg_whose_only_lead_drops_out_is_a_flat_line_whatever_was_not_measured(trained):
    row = record(0)
    ecg = np.zeros_like(row["ecg"])
    ecg[0] = row["ecg"][0]
    ecg[0, :10] = -32768
    row["ecg"] = ecg
    assert not showing.is_flat(row)
    dropout = Perturbation("lead dropout", 12)
    spoilt = showing.perturbed([row], ["1"], dropout, 0).row(0)
    assert showing.is_flat(spoilt)
    assert (spoilt["ecg"][0, :10] == -32768).all()
    model = ModelSystem(ReportDrafter(trained / "model"), 4)
    flat = showing.flat([row], ["1"]).row(0)
    assert model.losses([spoilt]) == model.losses([flat])
    assert model.draft([spoilt]) == model.draft([flat])
