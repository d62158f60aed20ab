"""Which calls gRPC repeats by itself where a server stops, or goes away, under them.

A server that stops refuses a call that was on its way, and the caller cannot tell whether anything was done. So only
those are repeated that do no harm when they are done twice. What a service answered itself is no such case, whatever
its status: `Server` marks it with `NO_REPEAT`. https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

import json

# Reads; writes of a whole, or by an id or key of the caller's; and generating, up to the first message of the answer.
REPEATABLE: dict[str, tuple[str, ...]] = {
    "hearth.agent.v1.AgentService": ("GetAgent", "ListAgents", "UpdateAgent", "DeleteAgent"),
    "hearth.agent.v1.DocumentService": (
        "GetCollection",
        "ListCollections",
        "BeginDocument",
        "PutDocumentPart",
        "AcceptDocument",
        "GetDocument",
        "ListDocuments",
        "GetDocumentPart",
        "GetDocumentText",
        "Search",
    ),
    "hearth.agent.v1.HistoryService": ("ListCheckpoints", "ForkTask", "ReplayTask"),
    "hearth.agent.v1.KeyService": (
        "ListKeys",
        "RevokeKey",
        "VerifyKey",
        "GetKeyring",
        "CreateTicket",
        "ListActions",
    ),
    "hearth.agent.v1.MemoryService": (
        "GetMemory",
        "ListMemories",
        "UpdateMemory",
        "ForgetMemories",
        "SearchMemories",
    ),
    "hearth.agent.v1.SessionService": (
        "ListSessions",
        "GetSession",
        "ListSessionTurns",
        "RenameSession",
    ),
    "hearth.agent.v1.TaskService": (
        "CreateTask",
        "GetTask",
        "ListTasks",
        "CancelTask",
        "ListAttempts",
        "ResumeTask",
    ),
    "hearth.agent.v1.ToolService": (
        "GetTool",
        "ListTools",
        "UpdateTool",
        "CheckTool",
        "ListToolKinds",
        "RotateSecrets",
    ),
    "hearth.inference.v1.InferenceService": ("Chat", "Generate", "Embed", "ListModels", "GetModel"),
    "hearth.log.v1.LogService": (
        "StreamEvents",
        "ListEvents",
        "GetSubscription",
        "SaveSubscription",
        "ListDeadLetters",
        "GetDeadLetter",
        "RequeueDeadLetters",
    ),
    "hearth.storage.v1.AgentStoreService": (
        "InsertAgent",
        "GetAgent",
        "ListAgents",
        "UpdateAgent",
        "DeactivateAgent",
    ),
    "hearth.storage.v1.CheckpointStoreService": (
        "PutCheckpoints",
        "GetCheckpoint",
        "ListCheckpoints",
        "BeginToolCall",
        "FinishToolCall",
    ),
    "hearth.storage.v1.ChunkStoreService": (
        "PutDocumentText",
        "GetDocumentText",
        "PutChunks",
        "RecordText",
        "ListUnembedded",
        "PutVectors",
        "PublishDocument",
        "SearchChunks",
    ),
    "hearth.storage.v1.DocumentStoreService": (
        "InsertCollection",
        "GetCollection",
        "ListCollections",
        "BeginDocument",
        "PutDocumentPart",
        "AcceptDocument",
        "GetDocument",
        "ListDocuments",
        "GetDocumentPart",
    ),
    "hearth.storage.v1.EventStoreService": ("AppendEvents", "ListEvents", "GetSubscription", "SaveSubscription"),
    "hearth.storage.v1.KeyStoreService": (
        "InsertKey",
        "GetKey",
        "ListKeys",
        "RevokeKey",
        "GetKeyring",
        "InsertTicket",
        "ListActions",
    ),
    "hearth.storage.v1.MemoryStoreService": (
        "KeepMemory",
        "GetMemory",
        "ListMemories",
        "UpdateMemory",
        "ForgetMemories",
        "SearchMemories",
        "ListUnembeddedMemories",
        "PutMemoryEmbedding",
    ),
    "hearth.storage.v1.RequestStoreService": ("GetAnswer", "StartSubTask", "WaitTask", "ResumeTask"),
    "hearth.storage.v1.SessionStoreService": (
        "ListSessions",
        "GetSession",
        "ListSessionTurns",
        "RenameSession",
        "ForkSession",
        "SaveSummary",
    ),
    "hearth.storage.v1.HistoryStoreService": (
        "ListSavedCheckpoints",
        "ListRecordedCalls",
        "ForkTask",
        "ReplayTask",
    ),
    "hearth.storage.v1.TaskStoreService": (
        "CreateTasks",
        "GetTask",
        "GetTaskStates",
        "ListTasks",
        "ExtendLeases",
        "CancelTask",
        "ListAttempts",
        "RecordResume",
        "SettleEnds",
        "GetQueueStats",
        "ListQueues",
    ),
    "hearth.storage.v1.ToolStoreService": (
        "InsertTool",
        "GetTool",
        "ListTools",
        "UpdateTool",
        "ListSecrets",
        "ReplaceSecrets",
    ),
}

# Trailing metadata by which a server says that a call is not to be repeated.
NO_REPEAT = ("grpc-retry-pushback-ms", "-1")

# What a call that may be repeated keeps of its request; a larger one is sent once.
BUFFER_BYTES = 4 * 1024 * 1024

SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": service, "method": method}
                    for service, methods in REPEATABLE.items()
                    for method in methods
                ],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    # The second is what a server answers that stops. A call that its caller cancels is not repeated.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
    }
)
