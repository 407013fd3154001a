"""The loss curve's numbers and picture."""

import csv

from training.loss_curve import write_loss_curve


def test_table_holds_training_and_evaluation_losses(tmp_path):
    history = [
        {"loss": 2.0, "step": 1, "epoch": 0.5, "learning_rate": 1e-4, "grad_norm": 1.5, "entropy": 3.0},
        {"eval_loss": 1.5, "step": 2, "epoch": 1.0},
        {"train_runtime": 1.0, "step": 2, "epoch": 1.0},
    ]
    table, picture = write_loss_curve(history, tmp_path)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row["eval_loss"]) for row in rows] == [("1", "2.0", ""), ("2", "", "1.5")]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_without_a_logged_loss_gives_an_empty_picture(tmp_path):
    table, picture = write_loss_curve([], tmp_path)
    assert len(table.read_text().splitlines()) == 1
    assert picture.is_file()
