"""Two llm-labels in a row: the first to mark an answer has the word, and its text is labelled once.

Decided from the upstream's answer alone. Its headers say whose record it carries and whether labels are planned; what
they promise is looked for in the text all the same, and a text without any label gets one at its end. So neither a
mistake there nor an upstream that lies takes the label off an answer. No I/O here.
"""

from llm_label.metadata.headers import Told, read_response_headers
from llm_label.proxy.upstream import UpstreamResponse

__all__ = ["told_by"]

# A LiteLLM in between passes the headers of its upstream on with a prefix.
NAMES = (("x-aigc", "x-llm-label"), ("llm_provider-x-aigc", "llm_provider-x-llm-label"))


def told_by(response: UpstreamResponse) -> Told | None:
    """Return what another llm-label said of this answer, if one has marked it."""
    for record, line in NAMES:
        if (given := response.header(record)) and (told := read_response_headers(given, response.header(line))):
            return told
    return None
