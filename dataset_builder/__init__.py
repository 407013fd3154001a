"""From ECG corpora to the `meit-ecg` dataset: one builder per corpus, one folder of Parquet files out."""
