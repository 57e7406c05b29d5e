"""segment-analytics-python, or rudder-sdk-python: `python segment_python.py HOST KEY CALLS PAUSE_S [rudder]`.

Makes CALLS tracks (and one call of each other kind), and ends when all were delivered; exit 1 when one was given up.
"""

import sys
import time
from importlib import import_module

HOST, KEY, CALLS, PAUSE_S = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
module = import_module("rudderstack.analytics.client" if "rudder" in sys.argv else "segment.analytics.client")
given_up = []
options = {"max_retries": 60, "upload_size": 10, "upload_interval": 0.05, "timeout": 5}
client = module.Client(KEY, host=HOST, on_error=lambda error, _batch: given_up.append(error), **options)
for n in range(CALLS):
    client.track(f"u-{n % 7}", "Order Completed" if n % 5 == 0 else "Clicked", {"n": n, "order_id": f"o-{n}"})
    time.sleep(PAUSE_S)
client.identify("u-1", {"email": "ann@example.com", "plan": "gold"})
client.page("u-1", "Docs", "Home", {"url": "https://example.com/docs?x=1"})
client.screen("u-1", "App", "Cart", {})
client.group("u-1", "g-9", {"name": "Acme"})
client.alias("anon-1", "u-1")
client.shutdown()
sys.stdout.write(f"made {CALLS + 5} given_up {len(given_up)} {given_up[:1]}\n")
sys.exit(bool(given_up))
