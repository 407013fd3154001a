"""What each column holds, in words: for the dataset card and its Croissant metadata."""

COLUMN_TEXTS = {
    "id": "the record, as its corpus numbers it",
    "corpus": "the corpus that it comes from",
    "patient_id": "whose it is; no patient is in two splits",
    "study_time": "when it was recorded, as the corpus states it",
    "age": "years; null where unknown",
    "sex": "`male` or `female`; null where unknown",
    "ecg": "10 s in ADC units, leads I, II, III, aVR, aVL, aVF, V1-V6; -32768 marks an invalid sample",
    "ecg_gain": "per lead, ADC units per mV: mV = (`ecg` - `ecg_baseline`) / `ecg_gain`, exactly as in the source",
    "ecg_baseline": "per lead, the ADC value of 0 mV",
    "sampling_rate": "Hz",
    "report": "the text",
    "report_language": "of the text; `und` where its words do not tell",
    "report_source": "where the text comes from; see the config's notes",
    "scp_codes": "SCP-ECG statements with likelihoods in percent; 0 means unknown",
    "validated_by_human": "as the corpus states; null where it does not",
    "machine_measurements": "what the ECG machine measured, in ms and degrees; null where it did not",
    "signal_quality": "what the corpus notes of the signal, and leads with invalid samples",
    "split": "`train`, `validation` or `test`",
}
