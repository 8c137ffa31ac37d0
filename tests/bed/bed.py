"""The bed: ministack, with what it lacks of AWS and binplz relies on.

Started by `up`, with its Python. It listens on 127.0.0.1 only, says on standard output on which port (one line), and ends with
the process that holds its standard input.

Every change of ministack is made by `mend`, which fails where what it mends is no longer what was read when the change was
written: then nobody goes on with half a bed.
"""

import asyncio
import copy
import inspect
import json
import os
import socket
import sys
import threading
from importlib.metadata import version

MINISTACK = "1.5.33"


def mend(module, name, parameters, make, tables=0):
    """Puts `make(original)` in the place of a function of a module, in its dispatch tables too."""
    original = getattr(module, name)
    found = list(inspect.signature(original).parameters)
    assert found == parameters, f"{module.__name__}.{name} takes {found}, and not {parameters}"
    mended = make(original)
    replaced = 0
    for table in [value for value in vars(module).values() if isinstance(value, dict)]:
        for key, value in table.items():
            if value is original:
                table[key] = mended
                replaced += 1
    assert replaced >= tables, f"{module.__name__}.{name} stands in {replaced} tables, and not in {tables}"
    setattr(module, name, mended)
    assert getattr(module, name) is mended


def mend_ecs(ecs, events, responses):
    started, lock = {}, threading.RLock()

    # A client token makes the same request the same task, and another request under it a conflict that names the task.
    def tokens(run):
        def run_task(request):
            if request.get("count", 1) > 10:
                return responses.error_response_json("InvalidParameterException", "count should be 10 or less", 400)
            if not request.get("clientToken"):
                return run(request)
            place = (responses.get_account_id(), responses.get_region(), request.get("cluster", "default"))
            key = (*place, request["clientToken"])
            with lock:
                if key not in started:
                    asked, answer = copy.deepcopy(request), run(request)
                    if answer[0] != 200:
                        return answer
                    started[key] = (asked, answer)
                asked, answer = started[key]
            if asked == request:
                return answer
            tasks = [task["taskArn"] for task in json.loads(answer[2])["tasks"]]
            body = {"__type": "ConflictException", "message": "the client token was used before", "resourceIds": tasks}
            return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(body).encode()

        return run_task

    mend(ecs, "_run_task", ["data"], tokens, tables=1)

    # Whoever watches tasks hears of every step.
    def told(mark):
        def marked(task_arn, task, *rest, **named):
            changed = mark(task_arn, task, *rest, **named)
            if changed:
                events._dispatch_event({
                    "EventId": responses.new_uuid(),
                    "Source": "aws.ecs",
                    "DetailType": "ECS Task State Change",
                    "Detail": json.dumps(ecs._sanitize(copy.deepcopy(task))),
                    "EventBusName": "default",
                    "Time": responses.now_iso(),
                    "Resources": [task_arn],
                    "Account": responses.get_account_id(),
                    "Region": responses.get_region(),
                })
            return changed

        return marked

    for step, rest in {"pending": [], "running": [], "stopped": ["reason", "stop_code", "exit_code"]}.items():
        mend(ecs, f"_mark_task_{step}", ["task_arn", "task", *rest], told)
    assert list(inspect.signature(events._dispatch_event).parameters)[:1] == ["event"], "another _dispatch_event"

    # A task is on the machine's own network: there the endpoint is, and no bridge is needed.
    def on_host(build):
        def kwargs(*given, **named):
            made = build(*given, **named)
            if made.pop("network", None) is not None:
                made.pop("extra_hosts", None)
                made.update(network_mode="host", ports=None)
            return made

        return kwargs

    def at_loopback(register):
        def registered(task_arn, cluster_arn, td, cdef, launch_type, env, host_mode, ministack_net_ip):
            return register(task_arn, cluster_arn, td, cdef, launch_type, env, True, None)

        return registered

    names = ["cdef", "td", "env", "port_bindings", "ecs_network", "host_mode", "task_id", "task_arn", "ministack_net_ip"]
    mend(ecs, "_build_run_kwargs", [*names, "cluster_arn"], on_host)
    names = ["task_arn", "cluster_arn", "td", "cdef", "launch_type", "env", "host_mode", "ministack_net_ip"]
    mend(ecs, "_register_metadata", names, at_loopback)


def mend_s3(s3):
    """A signed URL is whole, or refused. (One of no known algorithm would be taken for unsigned, and let in.)
    And a request that says `x-bed-seconds-ahead: N` is looked at as it will be N seconds later: for what ends."""
    import datetime

    ahead = threading.local()
    parts = {f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")}
    assert callable(s3._error) and callable(s3._qp)

    def with_clock(verify):
        def verified(method, path, headers, query_params):
            known = parts & set(query_params)
            supported = s3._qp(query_params, "X-Amz-Algorithm", "") == "AWS4-HMAC-SHA256"
            if known and not (known == parts and supported):
                return s3._error("AuthorizationQueryParametersError", "The signature is not whole.", 400, path)
            ahead.seconds = int(headers.get("x-bed-seconds-ahead", "0"))
            try:
                return verify(method, path, headers, query_params)
            finally:
                ahead.seconds = 0

        return verified

    def later(is_expired):
        def expired(amz_date, expires, *, now=None):
            now = now or datetime.datetime.now(datetime.timezone.utc)
            return is_expired(amz_date, expires, now=now + datetime.timedelta(seconds=getattr(ahead, "seconds", 0)))

        return expired

    mend(s3, "_verify_presigned_sigv4", ["method", "path", "headers", "query_params"], with_clock)
    mend(s3, "presigned_request_is_expired", ["amz_date", "expires", "now"], later)


def mend_http_api(provisioners):
    """SAM writes an HTTP API's routes into its OpenAPI body."""

    def with_routes(create):
        def created(logical_id, props, stack_name):
            answer = create(logical_id, props, stack_name)
            for path, methods in (props.get("Body") or {}).get("paths", {}).items():
                for method, operation in methods.items():
                    target = (operation or {}).get("x-amazon-apigateway-integration")
                    if target is None:
                        continue
                    integration = provisioners._apigw_v2_integration_create(f"{logical_id}Integration", {
                        "ApiId": answer[0],
                        "IntegrationType": target["type"].upper(),
                        "IntegrationUri": target["uri"],
                        "PayloadFormatVersion": target.get("payloadFormatVersion", "2.0"),
                    }, stack_name)
                    integration = integration[0] if isinstance(integration, tuple) else integration
                    verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
                    provisioners._apigw_v2_route_create(f"{logical_id}Route", {
                        "ApiId": answer[0],
                        "RouteKey": path.lstrip("/") if path == "/$default" else f"{verb} {path}",
                        "Target": f"integrations/{integration}",
                    }, stack_name)
            return answer

        return created

    original = provisioners._apigw_v2_api_create
    mend(provisioners, "_apigw_v2_api_create", ["logical_id", "props", "stack_name"], with_routes)
    # Its table is one deeper: resource type, then verb.
    handlers = [h for table in vars(provisioners).values() if isinstance(table, dict)
                for h in table.values() if isinstance(h, dict) and h.get("create") is original]
    assert handlers, "nobody creates HTTP APIs by that function"
    for handler in handlers:
        handler["create"] = provisioners._apigw_v2_api_create


def main():
    # The socket is there before the first module of ministack is: whoever is told its port can ask at once, and is answered
    # when the bed has come up.
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    os.environ.update(
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        IOT_MTLS_ENABLED="0",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
    )
    assert version("ministack") == MINISTACK, f"this is ministack {version('ministack')}"

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app
    from ministack.core import responses
    from ministack.services import ecs, eventbridge, s3
    from ministack.services.cloudformation import provisioners

    mend_ecs(ecs, eventbridge, responses)
    mend_s3(s3)
    mend_http_api(provisioners)

    print(port, flush=True)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1

    async def until_stdin_ends():
        await asyncio.to_thread(sys.stdin.buffer.read)

    asyncio.run(serve(app.app, config, shutdown_trigger=until_stdin_ends))
    # Threads that watch tasks do not end by themselves.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
