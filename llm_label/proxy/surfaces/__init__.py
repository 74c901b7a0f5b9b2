"""One file per API shape: where the text sits in it. What each of them offers stands in `surface.py`."""
