"""Label a text as it streams by: the same object serves streams and whole answers."""

from llm_label import Labeler, Labels

labels = Labels(
    positions=("start", "end"),
    texts={"zh": "本内容由AI生成", "en": "AI生成 · AI-generated"},
    start="en",  # decided before the answer exists
    rest=None,  # the end label speaks the answer's own language
)

labeler = Labeler(labels)
for piece in ("Spring ", "comes ", "in March."):
    print(labeler.feed(piece), end="")
print(labeler.finish())
print(f"\n[written at: {', '.join(labeler.applied)}]")
