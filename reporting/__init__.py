"""Drafted reports: the model's text for a recording, its 12-lead plot and the page that shows both."""
