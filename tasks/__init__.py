"""The benchmark: systems that draft reports, ECGs that they are shown, four tasks, and what is written of them."""
