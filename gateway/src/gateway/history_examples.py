"""Examples of time travel for the OpenAPI document."""

from gateway.examples import TASK_ID

CHECKPOINT_ID = "1f0c95d2-6a3e-6f10-8001-2b3c4d5e6f70"
CHECKPOINT_PAGE = {
    "items": [
        {
            "id": CHECKPOINT_ID,
            "finished": ["draft"],
            "next": ["critique"],
            "attempt": 1,
            "created_at": "2025-11-24T16:00:01.400000Z",
            "state": {"draft": {"text": "Red, green and blue.", "data": None}, "spent": {"steps": 1}},
            "is_cut": False,
        }
    ],
    "next_cursor": None,
}
FORK = {"step": "critique", "state": {"draft": {"text": "Red."}}}
FORK_FROM_START = {"input": {"prompt": "Name three animals."}, "answers": {"draft": {"text": "Cat, dog, owl."}}}
EXPIRED = (
    f"How task {TASK_ID} was run is kept no longer. HEARTH_CHECKPOINT_RETENTION_DAYS of storage-service says how long "
    "it is."
)
