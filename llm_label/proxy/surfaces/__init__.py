"""One file per API shape: where the text sits in it.

A surface is a module with `view(body)`, `clean(raw, body, known)` and a class `Answer` with `whole(raw)` for a JSON
answer and `feed(event)`, `finish()` for a stream; both put the same labels at the same places.
"""
