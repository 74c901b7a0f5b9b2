"""Take our own labels out of what clients send back.

A model that finds labels in its history begins to write them itself, and a prompt that differs from what the
engine produced misses the prefix cache. So what comes back is restored to the byte where the client kept it.
"""

from collections.abc import Collection

from llm_label.labels.imprint import cut_out, imprints

__all__ = ["clean_text"]


def clean_text(text: str, known: Collection[str]) -> str:
    """Remove from an assistant's text the labels written by any version of ours.

    A client may have trimmed or added outer white space, cut the answer off, or turned line feeds into CR LF.
    Labels inside the answer's own paragraphs, code and quotations stay.
    """
    if not any(label in text for label in known):
        return text
    if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
        return clean_text(text.replace("\r\n", "\n"), known).replace("\n", "\r\n")
    trimmed = text.rstrip()
    found = imprints(trimmed, known)
    if not any(imprint.position == "end" for imprint in found):
        trimmed, found = text, imprints(text, known)  # white space at the end is the model's own
    cleaned = cut_out(trimmed, found)
    # What was cut off right after a start label, or trimmed back to it.
    return "" if cleaned.strip() in known else cleaned
