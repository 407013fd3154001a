"""The sentence that stands beside every drafted report."""

DRAFT_NOTICE = "Draft for review by a qualified clinician. May be wrong or incomplete; it is not a diagnosis."
