"""From evidence to a verdict. Measures Art. 6."""
