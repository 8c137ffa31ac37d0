"""What ministack lacks of AWS and binplz relies on.

Every change is made by `mend`, which fails where what it mends is no longer what was read when the change was written: then
no test goes on with half a bed.
"""

import copy
import datetime
import functools
import hashlib
import http.server
import inspect
import itertools
import json
import os
import re
import threading
from pathlib import Path

IMAGE = Path(__file__).resolve().parents[2] / "infra" / "image"
SECCOMP = IMAGE / "seccomp.json"
FARGATE_CAPABILITIES = re.search(r"for one in ([A-Z_ ]+);", (IMAGE / "run").read_text())[1].split()

# A function's time limits here, over those on AWS.
PATIENCE = 4


def mend(module, name, parameters, make, tables=0):
    """Puts `make(original)` in the place of a function of a module, in its dispatch tables too."""
    original = getattr(module, name)
    found = list(inspect.signature(original).parameters)
    assert found == parameters, f"{module.__name__}.{name} takes {found}, and not {parameters}"
    # What it takes stays to be seen: it may be mended again.
    mended = functools.wraps(original)(make(original))
    replaced = 0
    own = [value for value in vars(module).values() if isinstance(value, dict)]
    # CloudFormation's handlers are in a table for each type of a resource.
    nested = [value for table in own for value in table.values() if isinstance(value, dict)]
    for table in own + nested:
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
                    if answer[0] != 200 or not json.loads(answer[2])["tasks"]:
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

    # An observer of tasks hears of every step.
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

    # A task is as large as RunTask said, or else as its definition says.
    def sized(start):
        def started(task, td, container_overrides, docker_client):
            size = {name: value for name, value in task["overrides"].items() if name in ("cpu", "memory", "ephemeralStorage")}
            task.update(size)
            return start(task, {**td, **size}, container_overrides, docker_client)

        return started

    mend(ecs, "_start_task_worker", ["task", "td", "container_overrides", "docker_client"], sized)

    # It is on the machine's own network: there the endpoint is, and no bridge is needed. It has its memory, and what infra/image/run
    # says of Fargate: the capabilities, and no new namespaces.
    def as_fargate(build):
        def kwargs(cdef, td, *rest, **named):
            made = build(cdef, td, *rest, **named)
            made.pop("network", None)
            made.pop("extra_hosts", None)
            made.update(network_mode="host", ports=None, cap_drop=["ALL"], cap_add=FARGATE_CAPABILITIES)
            made.update(security_opt=[f"seccomp={SECCOMP}"], mem_limit=f"{td['memory']}m")
            return made

        return kwargs

    # Its metadata are there too; and without a role it is told of no credentials.
    def at_loopback(register):
        def registered(task_arn, cluster_arn, td, cdef, launch_type, env, host_mode, ministack_net_ip):
            token = register(task_arn, cluster_arn, td, cdef, launch_type, env, True, None)
            for name in ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"):
                if not td.get("taskRoleArn"):
                    del env[name]
            return token

        return registered

    names = ["cdef", "td", "env", "port_bindings", "ecs_network", "host_mode", "task_id", "task_arn", "ministack_net_ip"]
    mend(ecs, "_build_run_kwargs", [*names, "cluster_arn"], as_fargate)
    names = ["task_arn", "cluster_arn", "td", "cdef", "launch_type", "env", "host_mode", "ministack_net_ip"]
    mend(ecs, "_register_metadata", names, at_loopback)


def mend_events(events, functions):
    """Lambda runs a function up to three times for an event, and then sends it to the function's dead letter queue."""

    def with_retries(_once):
        def dispatched(arn, payload):
            function, config, name = functions._get_func_record_for_ref(arn)
            assert function and config, f"there is no function {name}"
            functions.invoke_async_with_retry(functions._execution_record_for_config(function, config), json.loads(payload))

        return dispatched

    mend(events, "_dispatch_to_lambda", ["arn", "payload"], with_retries)
    assert list(inspect.signature(functions.invoke_async_with_retry).parameters) == ["func", "event"]


def mend_s3(s3):
    """A signed URL is whole, or refused. (One of no known algorithm would be taken for unsigned, and let in.)
    And a request that says `x-bed-seconds-ahead: N` is looked at as it will be N seconds later: for what ends."""
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


def mend_buckets(provisioners, s3):
    """CloudFormation deletes a bucket that is empty, and no other."""

    def strict(delete):
        def deleted(physical_id, props):
            bucket = s3._buckets.get(physical_id)
            if bucket and (bucket["objects"] or s3._bucket_has_versions(physical_id)):
                raise RuntimeError("The bucket you tried to delete is not empty (Service: S3, Status Code: 409)")
            return delete(physical_id, props)

        return deleted

    mend(provisioners, "_s3_delete", ["physical_id", "props"], strict, tables=1)
    assert list(inspect.signature(s3._bucket_has_versions).parameters) == ["name"], "another _bucket_has_versions"


def mend_cloudwatch(logs, cloudwatch):
    """A line of a log in the embedded metric format counts as what it says, as soon as it is there."""

    def metrics(message):
        """The namespace, name, dimensions, time, unit and value of each. Of a line that is of another kind, there are none."""
        try:
            line = json.loads(message) if '"_aws"' in message else {}
        except ValueError:
            return
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            for names, metric in itertools.product(directive["Dimensions"], directive["Metrics"]):
                dimensions, at = {name: line[name] for name in names}, line["_aws"]["Timestamp"] / 1000
                yield directive["Namespace"], metric["Name"], dimensions, at, metric["Unit"], line[metric["Name"]]

    lock = threading.Lock()

    def counting(append):
        def appended(stream, events):
            append(stream, events)
            with lock:
                store(events)

        return appended

    def store(events):
        for metric in itertools.chain.from_iterable(metrics(event["message"]) for event in events):
            cloudwatch._store_datum(*metric, None, None, None)

    names = ["namespace", "name", "dims", "ts", "unit", "value", "values", "counts", "stat_values"]
    assert list(inspect.signature(cloudwatch._store_datum).parameters) == names
    mend(logs, "_append_log_events", ["stream", "events"], counting)
    # Each request let go of what is two weeks old, by lists that took the place of those that others were appending to.
    mend(cloudwatch, "_evict_old_metrics", [], lambda _evict: lambda: None)


def mend_names(provisioners, responses):
    """The end of a name that CloudFormation makes differs by region: roles and buckets have one namespace for all."""

    def regional(make):
        def made(stack_name, logical_id, **options):
            name, region = make(stack_name, logical_id, **options), responses.get_region()
            if region == "us-east-1":
                return name
            start, dash, end = name.rpartition("-")
            own = hashlib.sha256(f"{region} {end}".encode()).hexdigest()[:len(end)]
            return start + dash + (own if options.get("lowercase") else own.upper())

        return made

    mend(provisioners, "_physical_name", ["stack_name", "logical_id", "lowercase", "max_len", "seeded"], regional)


def mend_dashboards(provisioners, cloudwatch, responses):
    """A dashboard's name is taken in all regions of its account."""

    def once(create):
        def created(logical_id, props, stack_name):
            name = provisioners._cw_dashboard_name(logical_id, props, stack_name)
            here = (responses.get_account_id(), responses.get_region())
            for account, region, known in list(cloudwatch._dashboards._data):
                if known == name and account == here[0] and region != here[1]:
                    raise RuntimeError(f"{name} already exists (in {region})")
            return create(logical_id, props, stack_name)

        return created

    mend(provisioners, "_cw_dashboard_create", ["logical_id", "props", "stack_name"], once, tables=1)


def mend_ecr(ecr):
    """An image that is asked for by its tag, and is not there, is an error."""

    def strict(describe):
        def described(data):
            answer = describe(data)
            asked = data.get("imageIds") or []
            if answer[0] == 200 and len(json.loads(answer[2])["imageDetails"]) < len(asked):
                return ecr.error_response_json("ImageNotFoundException", "The image requested does not exist", 400)
            return answer

        return described

    mend(ecr, "_describe_images", ["data"], strict)


def mend_iam(actions, evaluator, ecs):
    """What AWS tells the policies of a request, and ministack does not: of ECS's, which task definition or task it is about, and in
    which cluster; of DynamoDB's, the keys that are read and written; of CloudWatch's, which log stream. And the caller that starts a task
    passes its roles on, and must be allowed to."""

    def asked(body):
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return {}
        return request if isinstance(request, dict) else {}

    def about(extract):
        def arn(service, method, path, headers, body, *rest):
            action = (headers.get("x-amz-target") or "").rpartition(".")[2]
            request = asked(body) if service == "ecs" else {}
            if service == "ecs" and action == "RunTask":
                return request.get("taskDefinition", "*")
            if service == "ecs" and action in ("StopTask", "DescribeTasks"):
                return request.get("task") or (request.get("tasks") or ["*"])[0]
            if service == "ecs" and action == "ListTasks":
                return "*"
            found = extract(service, method, path, headers, body, *rest)
            if service == "logs" and "logStreamName" in asked(body):
                return f"{found}:log-stream:{asked(body)['logStreamName']}"
            return found

        return arn

    names = ["service", "method", "path", "headers", "body", "query_params", "region", "account_id"]
    mend(actions, "extract_resource_arn", names, about)

    def with_cluster(context):
        def keys(service, iam_action, body, params):
            found = context(service, iam_action, body, params)
            request = asked(body) if service == "ecs" else {}
            if "cluster" in request:
                found = {**found, "ecs:cluster": request["cluster"]}
            return {**found, overrides: request.get("overrides", {})} if iam_action == "ecs:RunTask" else found

        return keys

    overrides = "bed:overrides"
    mend(actions, "request_tag_context", ["service", "iam_action", "body", "params"], with_cluster)

    def with_roles(enforce):
        def enforced(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            context = dict(service_context or {})
            told = context.pop(overrides, None)
            denied = enforce(access_key_id, iam_action, service, region, resource_arn, context)
            if told is None:
                return denied
            definition = ecs._task_defs.get(ecs._resolve_td_key(resource_arn)) or {}
            roles = [source.get(role) for source in (definition, told) for role in ("executionRoleArn", "taskRoleArn")]
            passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            for role in filter(None, roles):
                denied = denied or enforce(access_key_id, "iam:PassRole", "iam", region, role, passed)
            return denied

        return enforced

    names = ["access_key_id", "iam_action", "service", "region", "resource_arn", "service_context"]
    mend(evaluator, "enforce", names, with_roles)

    def with_keys(context):
        def keys(body):
            request = asked(body)
            parts = [request] + [part for item in request.get("TransactItems", []) for part in item.values()]
            rows = [part.get("Key") or part.get("Item") or {} for part in parts]
            leading = [row["pk"]["S"] for row in rows if "pk" in row]
            return {**context(body), **({"dynamodb:LeadingKeys": leading} if leading else {})}

        return keys

    mend(actions, "dynamodb_service_context", ["body"], with_keys)


def mend_http_api(provisioners, functions, responses, ports):
    """An HTTP API has a host of its own on AWS, and a port of its own here, so that its paths begin at `/` for every client: one of
    `ports`, which is a table from port to API. And it knows where a request comes from: it says so in its context, and behind what the
    client itself has written into `X-Forwarded-For`."""

    def with_port(create):
        def created(logical_id, props, stack_name):
            api, attributes = create(logical_id, props, stack_name)
            port = next(port for port, taken in ports.items() if taken is None)
            ports[port] = api
            url = f"http://127.0.0.1:{port}"
            provisioners._apigw_v2._apis[api]["apiEndpoint"] = url
            return api, {**attributes, "ApiEndpoint": url}

        return created

    # A request to an API has no account of its own.
    def of_any_account(_find):
        def found(api_id):
            return next(((account, region) for (account, region, known), _ in gateway._apis.all_items() if known == api_id), None)

        return found

    gateway = provisioners._apigw_v2
    mend(gateway, "find_api_scope", ["api_id"], of_any_account)

    def gives_back(delete):
        def deleted(physical_id, props):
            for port in [port for port, taken in ports.items() if taken == physical_id]:
                ports[port] = None
            return delete(physical_id, props)

        return deleted

    def with_peer(execute):
        def executed(func, event):
            api = event.get("requestContext", {}).get("apiId")
            if api is not None and api in ports.values():
                peer, written = responses.get_request_client_ip(), event["headers"].get("x-forwarded-for")
                event["requestContext"]["http"]["sourceIp"] = peer
                event["headers"]["x-forwarded-for"] = ", ".join(filter(None, [written, peer]))
            return execute(func, event)

        return executed

    mend(functions, "_execute_function_with_config_scope", ["func", "event"], with_peer)

    mend(provisioners, "_apigw_v2_api_create", ["logical_id", "props", "stack_name"], with_port, tables=1)
    mend(provisioners, "_apigw_v2_api_delete", ["physical_id", "props"], gives_back, tables=1)


def mend_concurrency(provisioners, functions):
    """CloudFormation reserves a function's concurrency, so that one execution too many is refused."""

    def reserving(create):
        def created(logical_id, props, stack_name):
            name, attributes = create(logical_id, props, stack_name)
            reserved = props.get("ReservedConcurrentExecutions")
            functions._functions[name]["concurrency"] = None if reserved is None else int(reserved)
            return name, attributes

        return created

    mend(provisioners, "_lambda_create", ["logical_id", "props", "stack_name"], reserving, tables=1)


def mend_lambda(provisioners, service, runtime):
    """A function's answer goes on at once. (Each waited 50 ms for log lines that might come, and nearly as long for TCP's
    acknowledgement of its head before its body was sent.) Where it ends without one, an HTTP API says so, and no more. A function's
    processes end with its stack, and those that are busy are not looked at twenty times a second: hundreds are a load."""

    def soon(drain):
        def drained(self, first_line_wait=0.005, idle_confirm=0.005, hard_cap=0.250):
            return drain(self, min(first_line_wait, 0.005), idle_confirm, hard_cap)

        return drained

    mend(runtime.Worker, "_drain_stderr_bounded", ["self", "first_line_wait", "idle_confirm", "hard_cap"], soon)
    http.server.BaseHTTPRequestHandler.disable_nagle_algorithm = True

    def silent(convert):
        def converted(exec_result):
            if exec_result.get("error") and not exec_result.get("throttle"):
                body = json.dumps({"message": "Internal Server Error"})
                return {"statusCode": 500, "headers": {"Content-Type": "application/json"}, "body": body}, None
            return convert(exec_result)

        return converted

    mend(service, "lambda_execute_result_to_api_proxy_response", ["exec_result"], silent)

    def ending(delete):
        def deleted(physical_id, props):
            delete(physical_id, props)
            # In a thread of its own: each has a server that is waited for.
            threading.Thread(target=runtime.invalidate_worker, args=(physical_id,), daemon=True).start()

        return deleted

    mend(provisioners, "_lambda_delete", ["physical_id", "props"], ending, tables=1)

    # On AWS, no other process has a part of a function's processor.
    def patient(init):
        def made(self, func_name, config, code_zip):
            init(self, func_name, {**config, "Timeout": PATIENCE * config.get("Timeout", 3)}, code_zip)

        return made

    mend(runtime.ProvidedWorker, "__init__", ["self", "func_name", "config", "code_zip"], patient)
    runtime._PROVIDED_INIT_TIMEOUT *= PATIENCE
    assert runtime._PROVIDED_POLL == 0.05
    runtime._PROVIDED_POLL = 0.5
    mend_architectures(service)


# By the machine in a program's ELF header: Lambda's name, and what runs it on another machine, with that machine's C library.
ELF = {
    0x3E: ("x86_64", "qemu-x86_64-static -L /usr/x86_64-linux-gnu"),
    0xB7: ("arm64", "qemu-aarch64-static -L /usr/aarch64-linux-gnu"),
}


def mend_architectures(service):
    """A function runs on machines of its architecture only. Where that is not this machine's, qemu runs it."""
    here = "arm64" if os.uname().machine == "aarch64" else "x86_64"
    lock = threading.Lock()

    def unpacking(unpack):
        def unpacked(code_zip):
            directory = unpack(code_zip)
            program, elf = f"{directory}/bootstrap", f"{directory}/elf/bootstrap"
            with lock:
                if os.path.exists(program) and not os.path.exists(elf):
                    with open(program, "rb") as header:
                        machine, emulator = ELF[int.from_bytes(header.read(20)[18:20], "little")]
                    os.mkdir(os.path.dirname(elf))
                    os.rename(program, elf)
                    runs = f"exec {'' if machine == here else emulator} '{elf}'"
                    # The function's architecture is the task's: Lambda's own words where it cannot run it.
                    refuses = "echo 'fork/exec /var/task/bootstrap: exec format error' >&2; exit 126"
                    with open(program, "w") as wrapper:
                        wrapper.write(f'#!/bin/sh\n[ "$BED_ARCHITECTURE" = {machine} ] || {{ {refuses}; }}\n{runs}\n')
                    os.chmod(program, 0o755)
            return directory

        return unpacked

    def configured(environment):
        def worker_env(config, code_dir, port):
            return {**environment(config, code_dir, port), "BED_ARCHITECTURE": (config.get("Architectures") or ["x86_64"])[0]}

        return worker_env

    mend(service, "_provided_runtime_code_dir", ["code_zip"], unpacking)
    mend(service, "_provided_worker_env", ["config", "code_dir", "port"], configured)
