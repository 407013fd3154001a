"""Instruction tuning of the ECG language model on (12-lead ECG, report) pairs."""
