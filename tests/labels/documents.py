"""Made-up answers: every block and inline construct, in all mixtures."""

import random

__all__ = ["BLOCKS", "document"]

SENTENCES = (
    "Plain words end here. ",
    "A second sentence follows! ",
    "Does it work? ",
    "The value of e.g. Pi is 3.14, see Fig. 2. ",
    "Dr. Who met J. Smith in the U.S. Army... ",
    "He said “Stop here. Go on.” ",
    "“Really?” John asked. ",
    'See [this. Or that](https://a.b/c_d?e=1. "T"). ',
    "An image ![alt. Text](i.png). ",
    "Use `a. B` or ``c ` d. E``. ",
    "Then **bold. And** *slanted. Text* and ~~gone. Now~~. ",
    "A snake_case_name and 2 * 3 and a_b. ",
    "Inline $a. B$ and \\(x. Y\\) formula. ",
    "It costs $5. And $6. ",
    "A footnote.[^1] And [^note]. ",
    "Tag <b>here. There</b> <https://x.y/z>. ",
    "Escaped \\* and \\_ and \\`. ",
    "Ends with two blanks.  \n",
    "Ends with a backslash.\\\n",
    "One line.\n",
    "a | b. C ",
    "今天天气很好。",
    "他说：“好。”",
    "「はい。」と言った。",
    "《你好！》是一首歌。",
    "真的吗？是的！",
    "**优点：**很好。",
    "**注意！**请看。",
    "圆周率约为3.14。版本v2.0。",
    "等等……后来（见图1！）就好了。",
    "مرحبا بك؟ نعم هذا صحيح. ",
    "\u2067שלום לכם. מה שלומך\u2069 טוב. ",
    "वह घर गया। फिर सो गया। ",
    "สวัสดีครับวันนี้อากาศดีมาก",
    "Family 👨\u200d👩\u200d👧. 👍🏽 Good! Cafe\u0301. E\u0301t ",
    "no punctuation at all here ",
)
BLOCKS = (
    "# Heading\n",
    "\nTitle here\n===\n",
    "\nSub\n---\n",
    "**Bold head**\n",
    "So it is:\n",
    "***\n",
    "- one. Two\n- two\n",
    "- one\n\n- two\n\n  more. Text\n",
    "1. one\n2. two\n   ```\n   x\n   ```\n",
    "10. ten\n\n    - in. Ten\n\n      deep\n",
    "* [ ] task. One\n* [x] done\n",
    "- item\nlazy. Line\n",
    "> quote. Two\n> three\n",
    "> quote\nlazy. Line\n",
    "> - a\n>   ```\n>   x\n>   ```\n",
    "```py\nx = 1.\n\nY = 2\n```\n",
    "````md\n```\nin. In\n```\n````\n",
    "~~~\n```\n\nx\n~~~\n",
    "    code. Code\n\n    more\n",
    "| a | b |\n|---|:-:|\n| 1. X | 2 |\n",
    "a | b\n-|-\n1 | 2\nText right below. More\n",
    "$$\na. B\n\nc\n$$\n",
    "$$ x. Y $$\n",
    "\\[\na. B\n\\]\n",
    "\\begin{align}\na. B\n\\end{align}\n",
    "<div>\n\ntext. Text\n\n</div>\n\n",
    "<details><summary>s</summary>\n\ntext. Text\n\n```\nx\n```\n\n</details>\n\n",
    "<!-- a\n\nb. C -->\n",
    "<pre>\n\na. B\n</pre>\n",
    "<table>\n<tr><td>a. B</td></tr>\n</table>\n\n",
    "[ref]: https://a.b 'T. T'\n",
    "[^1]: note. Two\n",
    "[^note]: note\n\n    more. Text\n",
    "　　从前有座山。山里有座庙。\n",
    "line one\nline two\nline three. Line\n",
)
OPENINGS = (
    "",
    "",
    "",
    "\n\n",
    "<think>\nhm. Hm\n</think>\n\n",
    "<think>a</think>Text.\n",
    "---\ntitle: a\n---\n\n",
    "---\na: b\n---\n",
)
UNCLOSED = (
    "```py\nx = 1",
    "$$\na",
    "<!-- a",
    "<details>\n\na",
    "- a\n  ```\n  x",
    "> ```\n> x",
    "| a |\n|---",
    "**bold",
    "`code",
    "a\n\n",
    "\\[ x",
    "<think>x",
)


def document(dice: random.Random) -> str:
    """Write one answer of 1 to 12 blocks; some end as `max_tokens` would have cut them."""
    parts = [dice.choice(OPENINGS)]
    for _ in range(dice.randint(1, 12)):
        if dice.random() < 0.5:
            parts.append("".join(dice.choice(SENTENCES) for _ in range(dice.randint(1, 6))).rstrip(" \\") + "\n")
        else:
            parts.append(dice.choice(BLOCKS))
        parts.append("" if dice.random() < 0.15 else "\n" * dice.randint(1, 2))
    if dice.random() < 0.2:
        parts.append(dice.choice(UNCLOSED))
    text = "".join(parts)
    text = text if dice.random() < 0.7 else text.rstrip()
    return text if dice.random() < 0.9 else text.replace("\n", "\r\n")
