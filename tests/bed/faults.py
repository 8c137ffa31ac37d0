"""What a scenario sees and does: the changes of ministack that `scenario.py` needs. Without a scenario, all is as it was.
"""

import asyncio
import contextvars
import json
import os
import re
import secrets
import signal
import threading
import time

import late_reads
import quotas
from mends import mend
from scenario import Request

# Of S3's DeleteObjects.
OBJECT, KEY = re.compile(rb"<Object>.*?</Object>", re.DOTALL), re.compile(rb"<Key>.*?</Key>", re.DOTALL)
# The full name of a function begins with its stack's; the template calls all of ours SomethingFunction.
FUNCTION = re.compile(r"-([A-Za-z]+)Function(?:-|$)")
# What a message is put into the queue for.
losing = contextvars.ContextVar("losing", default=False)
# A batch is done in part.
in_part = contextvars.ContextVar("in_part", default=False)
# The answer is cut off.
cut_off = contextvars.ContextVar("cut_off", default=False)


def named(function):
    found = FUNCTION.search(function)
    return found and found[1]


class Processes:
    """The functions' processes, known by their credentials: each has its own."""

    def __init__(self, runtime):
        self.runtime, self.by_key = runtime, {}

    def worker(self, port):
        """The one whose Runtime API is at this port."""
        with self.runtime._lock:
            workers = [worker for pool in self.runtime._workers.values() for worker in pool]
        return next((w for w in workers if w._server and w._server.server_address[1] == port and w._proc), None)

    def of(self, key):
        """Its function and its process id."""
        function, port = self.by_key.get(key, (None, None))
        worker = self.worker(port)
        return function, worker and worker._proc.pid


def kill(pid):
    """SIGKILL, and no return before it is dead."""
    os.kill(pid, signal.SIGKILL)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        # ministack waited for it meanwhile.
        pass


def error(request, status, code, message):
    """An error as the request's service writes it."""
    if request.service == "s3":
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return status, {"Content-Type": "application/xml"}, b"" if request.operation == "HeadObject" else body.encode()
    told = {"__type": f"com.amazon.coral.service#{code}", "message": message}
    return status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(told).encode()


def denied(request):
    """IAM's refusal."""
    words = f"is not authorized to perform: {request.service}:{request.operation} because no identity-based policy allows the action"
    if request.service == "s3":
        return error(request, 403, "AccessDenied", f"The role {words}")
    return error(request, 400, "AccessDeniedException", f"The role {words}")


def broken(request):
    """An internal error of the service."""
    if request.service == "s3":
        return error(request, 500, "InternalError", "We encountered an internal error. Please try again.")
    return error(request, 500, "InternalServerError", "The request could not be processed because of an internal failure.")


def throttled(request):
    """AWS's refusal of one request too many: of DynamoDB's on-demand capacity, or of a request rate."""
    if request.service == "s3":
        return error(request, 503, "SlowDown", "Please reduce your request rate.")
    if request.service != "dynamodb":
        return error(request, 400, "ThrottlingException", "Rate exceeded")
    message = "Throughput exceeds the current capacity of your table or index."
    if request.operation != "TransactWriteItems":
        return error(request, 400, "ThrottlingException", message)
    others = [{"Code": "None"}] * (len(request.parameters["TransactItems"]) - 1)
    told = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [ThrottlingError]",
        "CancellationReasons": [{"Code": "ThrottlingError", "Message": message}, *others],
    }
    return 400, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(told).encode()


# What is answered in place of what was asked for.
ANSWERS = {"4xx": denied, "5xx": broken, "throttling": throttled, "timeout": broken}


def mend_requests(app, scenarios, processes):
    """Every request to an AWS service is logged with who made it, and meets its fault."""

    def read(method, path, headers, body, query_params):
        service = app.detect_service(method, path, headers, app._routing_params(method, path, headers, body, query_params))
        presigned = "X-Amz-Credential" in query_params
        function, pid = processes.of(app.extract_access_key_id(headers, query_params))
        if service == "s3":
            parameters = {"path": path}
        else:
            parameters = app._ct_request_params({"content-type": "json"}, body, query_params)
        operation = "HeadObject" if service == "s3" and method == "HEAD" else None
        operation = operation or app._ct_event_name(service, method, path, headers, query_params)
        text = f"{function} {json.dumps(parameters)}"
        return Request(service, operation, parameters, function and named(function), pid, presigned, text=text)

    def with_faults(dispatch):
        async def dispatched(method, path, headers, body, query_params, request_id):
            request = read(method, path, headers, body, query_params)
            late_reads.asker.set(request.function)
            fault = scenarios.note(request)
            does = fault.does if fault else ""

            async def held():
                fault.has_happened(request)
                await asyncio.shield(asyncio.wrap_future(fault.released))

            answer = 500, {}, b""
            if does in ("hold-before", "timeout"):
                await held()
            elif does == "latency":
                await asyncio.sleep(1)
            if does == "kill-before":
                kill(request.pid)
            elif does in ANSWERS:
                answer = ANSWERS[does](request)
            elif does != "answer":
                losing.set(does == "lose")
                in_part.set(does == "partial")
                answer = await dispatch(method, path, headers, body, query_params, request_id)
                losing.set(False)
                in_part.set(False)
            cut_off.set(does == "reset")
            if does == "kill-after":
                kill(request.pid)
            if does == "hold-after":
                await held()
            if does in ("answer", "answer-after"):
                status, told = fault.answer
                answer = status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(told).encode()
            request.status = answer[0]
            if fault:
                fault.has_happened(request)
            return answer

        return dispatched

    names = ["method", "path", "headers", "body", "query_params", "request_id"]
    mend(app, "_dispatch_service_request", names, with_faults)


def mend_functions(functions, runtime, sts, scenarios, processes):
    """A process has credentials of its own, of the same role; and it is logged when it is handed an event, and when it asks for one."""

    # A new session looks through all others, which must not become more meanwhile.
    one_at_a_time = threading.Lock()

    def with_own_key(environment):
        def made(config, code_dir, port):
            key = f"ASIA{secrets.token_hex(8).upper()}"
            with one_at_a_time:
                variables = environment(config, code_dir, port)
                sts.register_session(key, dict(sts._sessions[variables["AWS_ACCESS_KEY_ID"]]))
            processes.by_key[key] = config["FunctionName"], port
            return {**variables, "AWS_ACCESS_KEY_ID": key}

        return made

    mend(functions, "_provided_worker_env", ["config", "code_dir", "port"], with_own_key)

    def note(worker, operation, event, pid):
        scenarios.note(Request("lambda", operation, event, named(worker.func_name), pid, text=worker.func_name))

    def told(invoke):
        def invoked(self, event, *rest, **named):
            # Which process will have it is not known: the last one may be gone.
            note(self, "Invoke", event, None)
            return invoke(self, event, *rest, **named)

        return invoked

    def asked(poll):
        def polled(self, generation):
            note(self, "Next", None, self._proc.pid)
            return poll(self, generation)

        return polled

    names = ["self", "event", "request_id", "trace_id", "invoked_function_arn"]
    mend(runtime.ProvidedWorker, "invoke", names, told)
    mend(runtime.ProvidedWorker, "_mark_first_poll", ["self", "generation"], asked)


def mend_gateway(gateway, scenarios):
    """Where a scenario has functions for so many requests at a time, the others wait for their turn."""

    def in_turn(invoke):
        async def invoked(integration, *rest, **named):
            uri = integration.get("integrationUri", "")
            scenario = scenarios.named_in(uri)
            if scenario is None or scenario.at_once is None:
                return await invoke(integration, *rest, **named)
            async with scenario.turns[uri]:
                return await invoke(integration, *rest, **named)

        return invoked

    names = ["integration", "api_id", "stage", "path", "method", "headers", "body", "query_params", "route_key", "path_params"]
    names += ["authorizer_claims", "authorizer_scopes", "authorizer_lambda_context", "authorizer_iam"]
    mend(gateway, "_invoke_lambda_proxy", [*names, "owner_account_id", "owner_region", "raw_query_string"], in_turn)


def mend_queues(sqs, scenarios):
    """A message that is lost is never seen. Where all come twice, they come the last one first, and each again in a batch of its own."""

    def sometimes_lost(send):
        def sent(data, qurl):
            if not losing.get():
                return send(data, qurl)
            answer = send({**data, "DelaySeconds": 900}, qurl)
            with sqs._queues_lock:
                queue = sqs._get_q(data.get("QueueUrl", qurl))
                queue["messages"] = [message for message in queue["messages"] if message["id"] != answer["MessageId"]]
            return answer

        return sent

    def sometimes_twice(collect):
        def collected(q, max_n, vis_timeout):
            scenario = scenarios.named_in(q["attributes"]["QueueArn"])
            if not (scenario and scenario.twice):
                return collect(q, max_n, vis_timeout)
            taken = collect({**q, "messages": q["messages"][::-1]}, max_n, vis_timeout)
            for message in reversed(taken):
                if message["receive_count"] == 1 and not message.get("again"):
                    q["messages"].append({**message, "again": True, "receive_count": 0, "receipt_handle": None, "visible_at": 0})
            return taken

        return collected

    mend(sqs, "_act_send_message", ["data", "qurl"], sometimes_lost, tables=1)
    mend(sqs, "_collect_msgs", ["q", "max_n", "vis_timeout"], sometimes_twice)


def mend_batches(dynamodb, s3, ecs, responses):
    """Lists and batches that a scenario lets be done in part."""

    def one_a_page(list_items):
        return lambda data: list_items({**data, "Limit": 1} if in_part.get() else data)

    for name in ("_query", "_scan"):
        mend(dynamodb, name, ["data"], one_a_page)

    def one_object_a_page(list_objects):
        return lambda bucket_name, query_params: list_objects(bucket_name, {**query_params, "max-keys": ["1"]} if in_part.get() else query_params)

    mend(s3, "_list_objects_v2", ["bucket_name", "query_params"], one_object_a_page)

    def first_only(delete):
        def deleted(bucket_name, body, headers=None):
            if not in_part.get():
                return delete(bucket_name, body, headers)
            first, *rest = OBJECT.findall(body)
            status, told, answer = delete(bucket_name, OBJECT.sub(b"", body).replace(b"</Delete>", first + b"</Delete>"), headers)
            errors = (b"<Error>" + KEY.search(each)[0] + b"<Code>InternalError</Code><Message>Try again.</Message></Error>" for each in rest)
            return status, told, answer.replace(b"</DeleteResult>", b"".join(errors) + b"</DeleteResult>")

        return deleted

    mend(s3, "_delete_objects", ["bucket_name", "body", "headers"], first_only)

    def without_capacity(run):
        failures = [{"reason": quotas.NO_SPOT}]
        return lambda data: responses.json_response({"tasks": [], "failures": failures}) if in_part.get() else run(data)

    mend(ecs, "_run_task", ["data"], without_capacity, tables=1)


def may_be_cut_off(application):
    """An answer that is cut off promises content, and ends without it."""

    async def answered(scope, receive, send):
        async def sent(message):
            if not cut_off.get():
                await send(message)
            elif message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message["headers"] if name.lower() not in (b"content-length", b"transfer-encoding")]
                await send({**message, "headers": [*headers, (b"content-length", b"1000000")]})

        await application(scope, receive, sent)

    return answered


def mend_events(events, scenarios):
    """What a rule tells its targets is logged, and may be lost, or late. A scenario has minutes of its own."""

    def logged(invoke):
        def invoked(target, event, rule, view=None):
            request = Request("events", event["DetailType"], json.loads(event["Detail"]), text=rule["Name"])
            fault = scenarios.note(request)
            if fault and fault.does == "hold-before":
                told = contextvars.copy_context()
                fault.released.add_done_callback(lambda _: told.run(invoke, target, event, rule, view))
            elif not (fault and fault.does == "lose"):
                invoke(target, event, rule, view)
            if fault:
                fault.has_happened(request)

        return invoked

    def by_minutes(tick):
        fired = {}

        def ticked():
            now = events._now_ts()
            for place, rule in list(events._rules._data.items()):
                interval = events._parse_rate_seconds(rule.get("ScheduleExpression", ""))
                scenario = interval and scenarios.named_in(place[2])
                if not scenario:
                    continue
                since = now - fired.setdefault(place, now)
                # The one that is told to be over is the minute's alone: the day's is not.
                told = interval == 60 and scenario.minute_is_over
                due = told or scenario.minute is not None and since >= interval * scenario.minute / 60
                if due:
                    fired[place] = now
                if told:
                    scenario.minute_is_over = False
                events._rule_last_fired[place] = now - interval if due else now
            tick()

        return ticked

    mend(events, "_invoke_target", ["target", "event", "rule", "view"], logged)
    mend(events, "_tick_scheduled_rules", [], by_minutes)
    assert events._SCHEDULER_TICK_INTERVAL == 10
    events._SCHEDULER_TICK_INTERVAL = 0.1


def tell_task(ecs, scenarios):
    """Does to a scenario's running task what is told of it."""
    words = {}

    def with_words(mark):
        def marked(task_arn, task, reason, stop_code, exit_code=None):
            told = words.pop(task_arn, {})
            if "reason" in told and task["lastStatus"] != "STOPPED":
                task["containers"][0]["reason"] = told["reason"]
            return mark(task_arn, task, reason, told.get("stop_code", stop_code), exit_code)

        return marked

    mend(ecs, "_mark_task_stopped", ["task_arn", "task", "reason", "stop_code", "exit_code"], with_words)

    def limit_memory(pid, told):
        with open(f"/proc/{pid}/cgroup") as lines:
            [group] = [line.strip().split(":")[2] for line in lines if ":memory:" in line]
        with open(f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes", "w") as limit:
            limit.write(str(told["memory"]))
        with open(f"/proc/{pid}/oom_score_adj", "w") as score:
            score.write(str(told.get("oom_score_adj", 0)))

    def running(name, lease):
        tasks = [task for task in list(ecs._tasks._data.values()) if task["lastStatus"] == "RUNNING" and task.get("startedBy") == lease]
        return next((task for task in tasks if scenarios.all[name].named.search(task["clusterArn"].lower())), None)

    def tell(name, told):
        # Its builder may be at work before ministack has written down that it runs.
        while not (task := running(name, told["lease"])):
            time.sleep(0.1)
        container = ecs._get_docker().containers.get(task["_docker_ids"][0])
        words[task["taskArn"]] = told
        if "memory" in told:
            limit_memory(container.attrs["State"]["Pid"], told)
        else:
            container.kill(told["signal"])
        return task["taskArn"]

    return tell


def tell_session(iam, sts, scenarios):
    """Begins a session of a scenario's role, as the service would that the role trusts."""

    def tell(name, told):
        roles = [role for role in iam._roles._data.values() if scenarios.all[name].named.search(role["RoleName"].lower())]
        [role] = [role for role in roles if f"-{told['role']}-" in role["RoleName"]]
        session = f"arn:aws:sts::{role['Arn'].split(':')[4]}:assumed-role/{role['RoleName']}/bed"
        key, secret, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_hex(20)
        sts.register_session(key, {"Arn": session, "UserId": "bed:bed", "SecretAccessKey": secret, "SessionToken": token})
        names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
        return {"role": role["Arn"], "credentials": dict(zip(names, [key, secret, token]))}

    return tell


def install(scenarios, application):
    """Changes all of them; returns the application with its control."""
    from ministack import app
    from ministack.core import lambda_runtime, responses
    from ministack.services import apigateway, dynamodb, ecs, eventbridge, iam, lambda_svc, s3, sqs, sts

    assert app.AUTH, "without AUTH the caller is unknown"
    processes = Processes(lambda_runtime)
    mend_requests(app, scenarios, processes)
    mend_functions(lambda_svc, lambda_runtime, sts, scenarios, processes)
    mend_gateway(apigateway, scenarios)
    mend_queues(sqs, scenarios)
    mend_events(eventbridge, scenarios)
    mend_batches(dynamodb, s3, ecs, responses)
    late_reads.mend_dynamodb(dynamodb, scenarios)
    told = {"task": tell_task(ecs, scenarios), "session": tell_session(iam, sts, scenarios)}
    return scenarios.control(may_be_cut_off(application), told)
