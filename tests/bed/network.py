"""Where a request comes from: of S3's, the VPC endpoint that it came through, which policies ask for and ministack does not tell.

A task of the bed has the machine's own network, so that nothing in a packet tells it from others. But the client's socket is some
process's, and that in a container or not; and a task was started in a subnet.
"""

import contextvars
import os
from pathlib import Path

from mends import mend

# The client's address and port, and the server's.
asker = contextvars.ContextVar("connection", default=None)


def noting_who_asks(application):
    async def noted(scope, receive, send):
        if scope["type"] == "http":
            asker.set((scope["client"], scope["server"]))
        await application(scope, receive, send)

    return noted


def inode(client, server):
    """Of the client's socket."""
    ends = [f"0100007F:{port:04X}" for (_, port) in (client, server)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == ends:
            return fields[9]


def processes_of(container):
    """All that run in it, those of builds included."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if container in (process / "cgroup").read_text():
                yield process
        except OSError:
            # It has ended meanwhile.
            pass


def has_socket(process, socket):
    try:
        return any(os.readlink(entry) == f"socket:[{socket}]" for entry in os.scandir(process / "fd"))
    except OSError:
        return False


def endpoint_of(task, ec2):
    """The endpoint by which S3 is reached from the task's subnet."""
    vpc = ec2._subnets[task["_subnet"]]["VpcId"]
    ours = [e for e in ec2._vpc_endpoints.values() if e["VpcId"] == vpc and e["ServiceName"].endswith(".s3")]
    return ours[0]["VpcEndpointId"] if ours else None


def mend_s3_context(actions, ecs, ec2):
    def from_a_task():
        """The running task that asks; None: another one does."""
        if asker.get() is None:
            return None
        socket = inode(*asker.get())
        for task in [task for task in ecs._tasks._data.values() if task["lastStatus"] == "RUNNING"]:
            for container in task["_docker_ids"]:
                if any(has_socket(process, socket) for process in processes_of(container)):
                    return task

    def with_endpoint(context):
        def keys(iam_action, query_params, path="", headers=None):
            found = context(iam_action, query_params, path, headers)
            # Who signs is let in by what he may, wherever he is; to look costs milliseconds.
            anonymous = "authorization" not in (headers or {}) and "X-Amz-Credential" not in (query_params or {})
            task = from_a_task() if anonymous else None
            return {**found, "aws:SourceVpce": endpoint_of(task, ec2)} if task else found

        return keys

    mend(actions, "s3_service_context", ["iam_action", "query_params", "path", "headers"], with_endpoint)
