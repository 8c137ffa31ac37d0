"""The bed: ministack, mended.

Started by `up`, with its Python. It listens on 127.0.0.1 only, says on standard output on which port (one line), and ends with
the process that holds its standard input. With BINPLZ_BED_TASKS tasks run, in podman's containers, which end with it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import faults
import mends
import network
import quotas
import second_opinion
from scenario import Scenarios

MINISTACK = "1.5.33"
# As many HTTP APIs as there may be at a time.
APIS = 32


class Podman:
    """The Docker API that ECS runs its tasks by."""

    def __init__(self):
        socket_path = f"{os.environ['BINPLZ_PODMAN']}/socket"
        os.environ["DOCKER_HOST"] = f"unix://{socket_path}"
        # It ends also where this process is killed. Where it works, conmon leaves a file for a container that was out of memory.
        service = ["setpriv", "--pdeathsig", "TERM", mends.IMAGE / "podman", "system", "service", "--time=0", f"unix://{socket_path}"]
        self.service = subprocess.Popen(service, stdin=subprocess.DEVNULL, stdout=sys.stderr, cwd=os.environ["BINPLZ_PODMAN"])
        while not os.path.exists(socket_path):
            assert self.service.poll() is None, "podman did not start"
            time.sleep(0.01)

    def end(self):
        subprocess.run([mends.IMAGE / "podman", "rm", "--all", "--force", "--time", "0"], stdout=subprocess.DEVNULL)
        self.service.terminate()
        self.service.wait()


def main():
    # The sockets are there before the first module of ministack is: a client that knows the port can ask at once, and is answered
    # when the bed has come up.
    listener, *others = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(1 + APIS)]
    port = listener.getsockname()[1]
    os.environ.update(
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        IOT_MTLS_ENABLED="0",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
    )
    assert version("ministack") == MINISTACK, f"this is ministack {version('ministack')}"
    podman = Podman() if os.environ.get("BINPLZ_BED_TASKS") else None

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator, lambda_runtime, responses
    from ministack.services import cloudwatch, cloudwatch_logs, ec2, ecr, ecs, eventbridge, iam, lambda_svc, s3
    from ministack.services.cloudformation import provisioners

    apis = {other.getsockname()[1]: None for other in others}
    scenarios = Scenarios()
    quotas.mend_run_task(ecs, provisioners, iam, responses, scenarios)
    mends.mend_ecs(ecs, eventbridge, responses)
    mends.mend_events(eventbridge, lambda_svc)
    mends.mend_s3(s3)
    mends.mend_buckets(provisioners, s3)
    mends.mend_cloudwatch(cloudwatch_logs, cloudwatch)
    mends.mend_names(provisioners, responses)
    mends.mend_dashboards(provisioners, cloudwatch, responses)
    mends.mend_ecr(ecr)
    calls = second_opinion.Record()
    second_opinion.install(iam_evaluator, mends.mend, calls)
    mends.mend_iam(iam_actions, iam_evaluator, ecs)
    network.mend_s3_context(iam_actions, ecs, ec2)
    mends.mend_http_api(provisioners, lambda_svc, responses, apis)
    mends.mend_concurrency(provisioners, lambda_svc)
    mends.mend_lambda(provisioners, lambda_svc, lambda_runtime)

    async def front(scope, receive, send):
        if scope["type"] == "http":
            # As behind what ends TLS: policies ask for it.
            scope = {**scope, "scheme": "https"}
            api = apis.get(scope["server"][1])
            if api is not None:
                prefix = f"/_aws/execute-api/{api}/$default"
                scope.update(path=prefix + scope["path"], raw_path=prefix.encode() + scope["raw_path"])
        await app.app(scope, receive, send)

    front = faults.install(scenarios, network.noting_who_asks(quotas.service_quotas(front, responses)))

    print(port, flush=True)
    config = Config()
    config.bind = [f"fd://{each.detach()}" for each in (listener, *others)]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1

    async def until_stdin_ends():
        await asyncio.to_thread(sys.stdin.buffer.read)

    asyncio.run(serve(front, config, shutdown_trigger=until_stdin_ends))
    if podman:
        podman.end()
    if "BINPLZ_BED_CALLS" in os.environ:
        calls.write(os.environ["BINPLZ_BED_CALLS"])
    # Threads that watch tasks do not end by themselves.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
