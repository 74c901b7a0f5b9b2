"""Whole answers: any bytes give an UpstreamError, or the upstream's JSON with marks and nothing else."""

from llm_label.errors import UpstreamError
from llm_label.proxy.marking import Marking
from tests.fuzz.bare import bare
from tests.fuzz.case import Case
from tests.fuzz.spots import read, spots
from tests.fuzz.streams import labelled, loosely_same, same_text

__all__ = ["check"]


def check(data: bytes) -> None:
    """Raise AssertionError unless the laws hold for the answer in `data`."""
    case = Case.of(data)
    answer = case.answer(stream=False)
    marking = Marking(answer, untouched=False, fail_open=case.fail_open)
    try:
        out = marking.whole(case.body)
    except UpstreamError:
        assert not case.fail_open, "fails although the operator wants it to pass"
        return
    if marking.opened:
        assert out == case.body
        return
    theirs, ours = read(case.body), read(out)
    came, goes = list(spots(case.api, theirs, whole=True)), list(spots(case.api, ours, whole=True))
    texts = [spot.value for spot in came], [spot.value for spot in goes]
    if case.api == "messages":
        _compare_blocks(case, *texts)
    else:
        assert len(came) == len(goes)
        _compare_texts(case, [(spot.value, goes[at].value, spot.text) for at, spot in enumerate(came)])
    if (
        case.api == "messages"
        and len(goes) == len(came) + 1
        and ours["content"][-1] == {"type": "text", "text": texts[1][-1]}
    ):
        ours["content"].pop()
        goes.pop()
    assert bare(case.api, theirs, came) == bare(case.api, ours, goes), "changed beyond its texts"
    if answer.outcome().label_applied:
        assert any(label in text for text in texts[1] for label in case.policy.known), "says that it labelled"


def _compare_blocks(case: Case, came: list[str], goes: list[str]) -> None:
    """The text blocks of a message are labelled as one text."""
    same_text("".join(came), "".join(goes), case.policy.known)
    if case.labels_due(stream=False):
        labelled("".join(goes), case.policy.known)


def _compare_texts(case: Case, texts: list[tuple[str, str, object]]) -> None:
    joined: dict[object, tuple[str, str]] = {}
    for at, (came, goes, text) in enumerate(texts):
        if text == "joined":
            loosely_same(came, goes)
            continue
        key = (at,) if text is None else text
        before = joined.get(key, ("", ""))
        joined[key] = before[0] + came, before[1] + goes
    for came, goes in joined.values():
        same_text(came, goes, case.policy.known)
        if case.labels_due(stream=False):
            labelled(goes, case.policy.known)
        elif not case.unless_json(stream=False):
            assert came == goes
