"""The only Ray plumbing: session, pools, streams. Rooms use it through their `flow.py`."""
