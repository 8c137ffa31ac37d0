"""What a test tells the bed of its own deployment, and what the bed tells it.

A scenario has the name of a deployment: that with which the names of its resources begin. It sees what concerns these, and nothing
of the other tests beside it. It is made by the first request that names it:

    DELETE /_bed/NAME                    forgets its log, faults and settings; lets go what is held
    GET    /_bed/NAME/log                its requests so far, in order
    PUT    /_bed/NAME/settings           {"late_reads": true, "twice": true, "minute": 2.5, "at_once": 24}: what is not named is as AWS has it;
                                         minute null: the schedule stands still; at_once: of each function no more work on requests at a
                                         time, and the other requests wait, where AWS has a machine for each of a thousand;
                                         fargate, spot: its quotas of vCPUs on demand and on Spot; refuses: [STATUS, BODY],
                                         the answer to each RunTask; injected: {"dynamodb": ["throttling", 3]}, each third request to
                                         DynamoDB, of a function or by a presigned URL, meets an `Injected` fault; policies_late: 3, the
                                         first three requests of each function are denied, as while IAM does not know its policy yet
    POST   /_bed/NAME/tick               the schedule's next minute is over
    POST   /_bed/NAME/faults             a `Fault`; answers its number, from 0
    GET    /_bed/NAME/faults/N           waits until it has happened; answers the request at which it did
    POST   /_bed/NAME/faults/N/release   lets go what it holds
    POST   /_bed/NAME/session            {"role": "ApiRole"}: a session of this role, as a service would begin it
    POST   /_bed/NAME/task               {"lease": ID, "signal": "SIGKILL"}: to that lease's task, when it runs; or "memory": BYTES in place
                                         of "signal": all that it may have, and the kernel ends its first process first with an
                                         "oom_score_adj" of 1000. What ECS will say of its end, if that is
                                         another thing than usual: "stop_code", and its container's "reason"

Bodies are JSON, both ways. `faults.py` does what is told here.
"""

import asyncio
import json
import re
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass, field


@dataclass
class Request:
    """Something that was asked of AWS, or that AWS asked of a function."""

    service: str
    # As CloudTrail calls it; of EventBridge, the detail type; of Lambda, Invoke and Next (a process asks for its next event).
    operation: str
    parameters: object
    # Whose credentials it was signed with, as the template calls it: Api, Lease, Dispatcher, Reaper; and that process.
    function: str | None = None
    pid: int | None = None
    # Signed in its URL: by the function, for another caller.
    presigned: bool = False
    # What goes wrong with it.
    fault: str | None = None
    # HTTP's, once there is an answer.
    status: int | None = None
    at: float = field(default_factory=lambda: round(time.time() * 1000))
    # The full name of the function, and all that the parameters name.
    text: str = field(default="", repr=False)

    def shown(self):
        return {name: value for name, value in vars(self).items() if name != "text"}


class Fault:
    """{"at": {"service": …, "operation": …, "function": …, "with": a part of the parameters' JSON}, "nth": 1, "times": 1,
    "do": …, "answer": [STATUS, BODY]}. What `at` leaves out is not looked at. What may be done:

    kill-before, kill-after   SIGKILL to the process that asks: before it is done, or once it is done and before the reply
    hold-before, hold-after   nothing goes on until it is released
    answer, answer-after      the answer is `answer`: it is not done, or it is
    lose                      a message or an event is taken, and never delivered
    """

    DOES = ("kill-before", "kill-after", "hold-before", "hold-after", "answer", "answer-after", "lose")

    def __init__(self, told):
        self.at = told["at"]
        assert set(self.at) <= {"service", "operation", "function", "with"}, self.at
        self.first, self.times = told.get("nth", 1), told.get("times", 1)
        self.does, self.answer = told["do"], told.get("answer")
        assert self.does in self.DOES, self.does
        self.seen = 0
        self.happened, self.released = Future(), Future()

    def due(self, request):
        for name, wanted in self.at.items():
            if name == "with" and wanted not in json.dumps(request.parameters) or name != "with" and wanted != getattr(request, name):
                return False
        self.seen += 1
        return self.first <= self.seen < self.first + self.times

    def has_happened(self, request):
        if not self.happened.done():
            self.happened.set_result(request)

    def release(self):
        if not self.released.done():
            self.released.set_result(None)


class Injected:
    """A fault by a setting, for which no test waits:

    latency      the request is done a second late
    reset        the request is done, and the connection closes in the middle of the answer
    4xx          the caller is denied the action
    5xx          the service has an internal error, and nothing is done
    throttling   the service refuses one request too many
    timeout      nothing is done or answered until the settings change
    partial      a list has one item a page; a batch is done for its first item; RunTask answers a 200 with `failures[]`
    """

    DOES = ("latency", "reset", "4xx", "5xx", "throttling", "timeout", "partial")

    def __init__(self, does):
        assert does in self.DOES, does
        self.does = does
        # When the settings have changed.
        self.released = Future()

    def has_happened(self, request):
        pass


class Scenario:
    def __init__(self, name):
        # CloudFormation writes a stack's name in small letters where a resource must be called so.
        self.named = re.compile(rf"(?<![a-z0-9-]){re.escape(name.lower())}(?![a-z0-9])")
        self.lock = threading.Lock()
        self.faults = []
        self.forget()

    def forget(self):
        for fault in self.faults:
            fault.release()
        self.log, self.faults = [], []
        self.set({})

    def set(self, settings):
        usual = {"late_reads": False, "twice": False, "minute": 60, "at_once": None, "fargate": None, "spot": None, "refuses": None,
                 "injected": {}, "policies_late": 0}
        assert settings.keys() <= usual.keys(), settings
        injected = {service: (Injected(does), every) for service, (does, every) in settings.get("injected", {}).items()}
        ended = getattr(self, "injected", {})
        vars(self).update({**usual, **settings, "injected": injected})
        for fault, _ in ended.values():
            fault.released.set_result(None)
        # The requests to each service, and of each function.
        self.counted = defaultdict(int)
        # Of each function, by its integration with the gateway.
        self.turns = defaultdict(lambda: asyncio.Semaphore(self.at_once))
        self.minute_is_over = False

    def note(self, request):
        """Logs it; returns the fault that is due with it."""
        with self.lock:
            self.log.append(request)
            # Each of them counts it, also after one that is due.
            due = [fault for fault in self.faults if fault.due(request)]
            fault = due[0] if due else self.by_setting(request)
            request.fault = fault and fault.does
            return fault

    def by_setting(self, request):
        """The fault by a setting, if it is this request's turn."""
        if request.service == "lambda" or not (request.function or request.presigned):
            return None
        for who in (request.service, request.function):
            self.counted[who] += 1
        if not request.presigned and self.counted[request.function] <= self.policies_late:
            return Injected("4xx")
        fault, every = self.injected.get(request.service, (None, 1))
        return fault if self.counted[request.service] % every == 0 else None


class Scenarios:
    """All of them, by name. Several threads of ministack ask it."""

    def __init__(self):
        self.all = {}

    def named_in(self, text):
        """The scenario to which something with this in its name belongs, if one does."""
        text = text.lower()
        return next((scenario for scenario in list(self.all.values()) if scenario.named.search(text)), None)

    def note(self, request):
        scenario = self.named_in(request.text)
        return scenario.note(request) if scenario else None

    def control(self, app, told):
        """An ASGI application that answers `/_bed/…`, and asks `app` all else. `told[part]` does what a POST to it says."""

        async def answered(scope, receive, send):
            if scope["type"] != "http" or not scope["path"].startswith("/_bed/"):
                return await app(scope, receive, send)
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            status, answer = 200, None
            try:
                answer = await self.answer(scope["method"], scope["path"].split("/")[2:], json.loads(body or b"{}"), told)
            except Exception as error:
                status, answer = 400, f"{type(error).__name__}: {error}"
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

        return answered

    async def answer(self, method, path, body, told):
        scenario = self.all.setdefault(path[0], Scenario(path[0]))
        match method, path[1:]:
            case "DELETE", []:
                scenario.forget()
            case "GET", ["log"]:
                return [request.shown() for request in list(scenario.log)]
            case "PUT", ["settings"]:
                scenario.set(body)
            case "POST", ["faults"]:
                with scenario.lock:
                    scenario.faults.append(Fault(body))
                    return len(scenario.faults) - 1
            case "GET", ["faults", number]:
                happened = scenario.faults[int(number)].happened
                return (await asyncio.shield(asyncio.wrap_future(happened))).shown()
            case "POST", ["faults", number, "release"]:
                scenario.faults[int(number)].release()
            case "POST", ["tick"]:
                scenario.minute_is_over = True
            case "POST", [part]:
                return await asyncio.to_thread(told[part], path[0], body)
            case _:
                raise LookupError(f"{method} {'/'.join(path)} means nothing here")
