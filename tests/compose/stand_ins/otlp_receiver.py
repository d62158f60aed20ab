"""Stands for Jaeger: receives spans by OTLP, and says on each change which services have sent some."""

import json
import sys
import time

from system.traces import TraceReceiver

POLL_SECONDS = 0.5

with TraceReceiver("0.0.0.0:4317") as receiver:
    said: list[str] = []
    while True:
        services = receiver.services()
        if services != said:
            sys.stdout.write(json.dumps(services) + "\n")
            sys.stdout.flush()
            said = services
        time.sleep(POLL_SECONDS)
