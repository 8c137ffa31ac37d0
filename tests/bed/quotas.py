"""What AWS refuses an account: quotas, tasks without ECS's service-linked role, clusters and task definitions that are not there.

The account of the key `test` is an old one: it has the role, and room. Every other account (a key of twelve digits is its root)
is a new one. A scenario's settings take the place of its account's quotas.
"""

import json
import time

from mends import mend

OLD = "000000000000"
# By account: vCPUs on demand and on Spot, and concurrent functions. (AWS's defaults for a new account.)
QUOTAS = {OLD: {"fargate": 4000, "spot": 4000, "lambda": 1000}}
NEW = {"fargate": 6, "spot": 6, "lambda": 10}
# By Service Quotas' names.
CODES = {"L-3032A538": "fargate", "L-36FBB829": "spot", "L-B99A9384": "lambda"}
ROLE_PATH = "/aws-service-role/ecs.amazonaws.com/"
# Seconds from the role's creation until it works.
ROLE_DELAY = 2

NO_ROLE = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."
NO_ROOM = "You've reached the limit on the number of vCPUs you can run concurrently"
NO_SPOT = "Capacity is unavailable at this time. Please try again later or in a different availability zone"


def quota(account, name):
    return QUOTAS.get(account, NEW)[name]


class Roles:
    """ECS's service-linked role, by account."""

    def __init__(self, iam):
        self.iam, self.made = iam, {}

    def note(self, account):
        self.made.setdefault(account, time.monotonic())

    def works(self, account):
        if not any(role["Path"] == ROLE_PATH for role in self.iam._roles.values()):
            self.made.pop(account, None)
            return account == OLD
        self.note(account)
        return time.monotonic() >= self.made[account] + ROLE_DELAY


def mend_run_task(ecs, provisioners, iam, responses, scenarios):
    roles = Roles(iam)

    def made(create):
        def created(p):
            answer = create(p)
            roles.note(responses.get_account_id())
            return answer

        return created

    mend(iam, "_create_service_linked_role", ["p"], made, tables=1)

    def with_role(create):
        def created(logical_id, props, stack_name):
            if props.get("CapacityProviders") and not roles.works(responses.get_account_id()):
                raise RuntimeError(f"Resource handler returned message: \"Invalid request provided: CreateCluster Invalid Request: {NO_ROLE}\"")
            return create(logical_id, props, stack_name)

        return created

    mend(provisioners, "_ecs_cluster_create", ["logical_id", "props", "stack_name"], with_role, tables=1)

    def by_api(create):
        def created(data):
            if data.get("capacityProviders") and not roles.works(responses.get_account_id()):
                return responses.error_response_json("InvalidParameterException", NO_ROLE, 400)
            return create(data)

        return created

    mend(ecs, "_create_cluster", ["data"], by_api, tables=1)

    def vcpus(task):
        return int((task.get("overrides") or {}).get("cpu") or task["cpu"]) / 1024

    def taken(provider, scenario):
        """By the account's tasks, or by the scenario's, if the quota is its."""
        tasks = [task for task in list(ecs._tasks.values()) if task["lastStatus"] != "STOPPED" and task["capacityProviderName"] == provider]
        return sum(vcpus(task) for task in tasks if scenario is None or scenario.named.search(task["clusterArn"].lower()))

    def strict(run):
        def run_task(request):
            def refused(code, message):
                return responses.error_response_json(code, message, 400)

            account = responses.get_account_id()
            cluster = ecs._clusters.get(ecs._resolve_cluster_name(request.get("cluster")) or "")
            if cluster is None:
                return refused("ClusterNotFoundException", "Cluster not found.")
            if cluster["status"] != "ACTIVE":
                return refused("InvalidParameterException", "The referenced cluster was inactive.")
            scenario = scenarios.named_in(cluster["clusterArn"])
            if scenario and scenario.refuses:
                status, body = scenario.refuses
                return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(body).encode()
            if not roles.works(account):
                return refused("InvalidParameterException", NO_ROLE)
            definition = ecs._task_defs.get(ecs._resolve_td_key(request.get("taskDefinition", "")))
            if definition is None:
                return refused("ClientException", "TaskDefinition not found.")
            if definition.get("status") == "INACTIVE":
                return refused("ClientException", "TaskDefinition is inactive")
            provider = (request.get("capacityProviderStrategy") or [{}])[0].get("capacityProvider", "FARGATE")
            name = "spot" if provider == "FARGATE_SPOT" else "fargate"
            own = getattr(scenario, name, None)
            most = quota(account, name) if own is None else own
            asked = vcpus({"overrides": request.get("overrides"), "cpu": definition.get("cpu") or "256"}) * request.get("count", 1)
            if taken(provider, None if own is None else scenario) + asked > most:
                # Quota and capacity are said by a 200.
                reason = NO_SPOT if name == "spot" and most == 0 else NO_ROOM
                return responses.json_response({"tasks": [], "failures": [{"reason": reason}]})
            return run(request)

        return run_task

    mend(ecs, "_run_task", ["data"], strict, tables=1)


def service_quotas(application, responses):
    """Service Quotas' GetServiceQuota, which ministack lacks."""

    async def answered(scope, receive, send):
        headers = {name.decode().lower(): value.decode() for name, value in scope.get("headers", ())}
        if not headers.get("x-amz-target", "").startswith("ServiceQuotas"):
            return await application(scope, receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = json.loads(body)
        key = headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
        account = key if len(key) == 12 and key.isdigit() else OLD
        told = {"Quota": {**asked, "Value": quota(account, CODES[asked["QuotaCode"]])}}
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/x-amz-json-1.1")]}
        await send(start)
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    return answered
