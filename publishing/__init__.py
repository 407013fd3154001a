"""What goes to the Hub - models, datasets, metrics and demo Spaces - after checks that a stranger's use depends on."""
