"""What a folder holds, told from its content."""

from pathlib import Path

from dataset_builder.dataset_folder import BUILD_REPORT

from .upload import UploadError

TYPES = ("model", "dataset", "metric", "space")


def folder_type(folder: str | Path) -> str:
    """One of `TYPES`.

    Raises:
        UploadError: it is no folder, or looks like none of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UploadError(f"{folder} is not a folder")
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        return "model"
    if any(folder.glob(f"*/{BUILD_REPORT}")):
        return "dataset"
    if (folder / f"{folder.resolve().name}.py").is_file():
        return "metric"
    if (folder / "app.py").is_file():
        return "space"
    raise UploadError(
        f"{folder}: neither a model (config.json), a dataset (CONFIG/{BUILD_REPORT}), a metric "
        f"({folder.resolve().name}.py) nor a Space (app.py); say which with --type"
    )
