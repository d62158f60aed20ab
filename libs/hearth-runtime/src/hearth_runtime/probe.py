"""`python -m hearth_runtime.probe [ADDRESS]`: whether the process that serves there is well, for health checks.

It asks by the gRPC health protocol (https://github.com/grpc/grpc/blob/master/doc/health-checking.md) and exits with 0
where the answer is SERVING. ADDRESS is where HEARTH_LISTEN_ADDRESS says, if it is left out.
"""

import argparse
import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with 1 and one line where the process is not well."""
    parser = argparse.ArgumentParser(prog="python -m hearth_runtime.probe", description=(__doc__ or "").split(":")[0])
    parser.add_argument("address", nargs="?", default=os.environ.get("HEARTH_LISTEN_ADDRESS"))
    address = parser.parse_args(arguments).address
    if not address:
        parser.error("name the address, host:port or unix:PATH, or set HEARTH_LISTEN_ADDRESS")
    with grpc.insecure_channel(address.replace("0.0.0.0:", "127.0.0.1:", 1)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS, wait_for_ready=True
            )
        except grpc.RpcError as error:
            sys.exit(f"{address} does not answer: {error.code().name}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(f"{address} is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")


if __name__ == "__main__":
    main()
