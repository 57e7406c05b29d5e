"""PyPI's cloudevents: `python cloudevents_python.py HOST KEY CALLS PAUSE_S SOURCE`.

Makes CALLS events, binary and structured in turn, and sends each until it is answered 200, as who has no other retry.
"""

import http.client
import sys
import time
import urllib.request
from datetime import UTC, datetime

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

HOST, KEY, CALLS, PAUSE_S, SOURCE = (
    sys.argv[1],
    sys.argv[2],
    int(sys.argv[3]),
    float(sys.argv[4]),
    sys.argv[5],
)
given_up = 0
for n in range(CALLS):
    attributes = {
        "specversion": "1.0",
        "id": f"ce-{n}",
        "source": SOURCE,
        "type": "order.placed" if n % 5 == 0 else "web.tracked",
        "time": datetime.now(UTC),
        "subject": f"user:u-{n % 7}",
        "datacontenttype": "application/json",
    }
    properties = {"properties": {"n": n}}
    data = {"order_id": f"o-{n}", **properties} if n % 5 == 0 else {"event": "Clicked", **properties}
    message = (to_structured_event if n % 2 else to_binary_event)(CloudEvent(attributes, data))
    headers = {**message.headers, "Authorization": f"Bearer {KEY}"}
    for _ in range(300):
        try:
            asked = urllib.request.Request(f"{HOST}/v1/events", message.body, headers)
            with urllib.request.urlopen(asked, timeout=5) as answer:
                if answer.status == 200 and b'"rejected":0' in answer.read():
                    break
        except (
            OSError,
            http.client.HTTPException,
        ):  # the latter where it is killed in the middle of an answer
            time.sleep(0.2)
    else:
        given_up += 1
    time.sleep(PAUSE_S)
sys.stdout.write(f"made {CALLS} given_up {given_up}\n")
sys.exit(bool(given_up))
