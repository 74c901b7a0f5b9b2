"""What was served: one entry per response. Measures Art. 9 and 12."""
