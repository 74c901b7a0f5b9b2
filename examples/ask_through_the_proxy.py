"""Ask through a running proxy with the openai client, and read the marks.

llm-label serve --provider ACME --port 8080 &
python examples/ask_through_the_proxy.py http://127.0.0.1:8080
"""

import json
import sys

from openai import OpenAI

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
with OpenAI(base_url=address + "/v1", api_key="unused") as client:
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=[{"role": "user", "content": "How do I insert a picture?"}], max_tokens=60
    )
    answer = raw.parse()

print(answer.choices[0].message.content)
print("\nrecord:", json.loads(raw.headers["x-aigc"]))
print("planned:", raw.headers["x-llm-label"])
print("happened:", (answer.model_extra or {})["llm_label"]["label"])
