"""`python -m hearth_runtime.probe [ADDRESS]`: whether the process that serves there is well, for health checks.

It asks by the gRPC health protocol (https://github.com/grpc/grpc/blob/master/doc/health-checking.md) and exits with 0
where the answer is SERVING. ADDRESS is where HEARTH_LISTEN_ADDRESS says, if it is left out. With TLS it shows the
certificate of the process, as HEARTH_TLS_… name it, which must be good for localhost.
"""

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hearth_runtime.settings import RuntimeSettings, load_settings
from hearth_runtime.tls import channel_credentials

TIMEOUT_SECONDS = 3.0


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with 1 and one line where the process is not well."""
    settings = load_settings(RuntimeSettings)
    parser = argparse.ArgumentParser(prog="python -m hearth_runtime.probe", description=(__doc__ or "").split(":")[0])
    parser.add_argument("address", nargs="?", default=settings.listen_address)
    address = parser.parse_args(arguments).address
    with _channel(address, settings) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS, wait_for_ready=True
            )
        except grpc.RpcError as error:
            sys.exit(f"{address} does not answer: {error.code().name}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(f"{address} is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")


def _channel(address: str, settings: RuntimeSettings) -> grpc.Channel:
    credentials = None if address.startswith("unix:") else channel_credentials(settings)
    # All addresses of this machine are none to ask.
    asked = address.replace("0.0.0.0:", "localhost:", 1)
    return grpc.insecure_channel(asked) if credentials is None else grpc.secure_channel(asked, credentials)


if __name__ == "__main__":
    main()
