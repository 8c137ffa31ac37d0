"""Deploys binplz on the bed: the project's own template, with the functions of the dev profile. Prints JSON.

    $BINPLZ_BED_PYTHON tests/bed/stack.py deploy NAME [--set DIR] [--pin NAME=DIR]... [--parameter NAME=VALUE]... [--env NAME=VALUE]...
    $BINPLZ_BED_PYTHON tests/bed/stack.py delete NAME

`deploy` makes a stack, or updates it, and tells its outputs, and the names of its functions below `functions`. Its builders get the
demo set (or DIR) as their nixpkgs, and the image that `scripts/image import --demo` made. `--env` is for what functions read and the
template has no parameter for; `--no-image` is a stack whose operator has not pushed one; `--new-code` is another version of the
functions; `--previous` is the release before, as `previous` has built it. `delete` stops what runs first, as an operator would.

    … keys                                        makes two signing keys, by the guide's command; tells their ARNs
    … push NAME                                   the builder's image, in the repository of a stack that was deployed by other means
    … tasks NAME                                  the lease's URL of every task that was ever started
    … objects NAME                                the paths of all that builds have stored, each with a URL that reads it
    … resources NAME                              the physical ids of all that the stack made, by their logical ids
    … invoke NAME FUNCTION [--event JSON]         calls one of its functions, as its schedule does, or with that event; tells its answer
    … inventory                                   those of all that there is, in any stack or none
"""

import argparse
import base64
import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import boto3
import jmespath
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PODMAN = ROOT / "infra" / "image" / "podman"
FUNCTIONS = {"api": "ApiFunction", "lease": "LeaseFunction", "dispatcher": "DispatcherFunction", "reaper": "ReaperFunction",
             "wait": "WaitFunction", "collector": "CollectorFunction", "promoter": "PromoterFunction", "signer": "SignerFunction"}


def client(service):
    return boto3.client(service, config=Config(s3={"addressing_style": "path"}))


def put_once(s3, bucket, key, make):
    """An object by what it is made of: the second stack of a bed finds it there."""
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError:
        s3.put_object(Bucket=bucket, Key=key, Body=make())
    return f"s3://{bucket}/{key}"


def function_zip(program, version):
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(packed, "w") as archive:
        # Three quarters of it is for debuggers.
        subprocess.run(["strip", "-o", f"{scratch}/bootstrap", program], check=True)
        archive.write(f"{scratch}/bootstrap", "bootstrap")
        archive.writestr("version", version)
    return packed.getvalue()


def previous():
    """The release before this tree: its directory, as `previous` has built it, and its template."""
    directory = Path(os.environ["BINPLZ_PREVIOUS"])
    return directory, (ROOT / "tests" / "fixtures" / "releases" / f"{directory.name}.json").read_text()


def package(s3, version):
    """The template with its functions' code in a bucket: what `sam package` makes of it. Gives its URL."""
    region = s3.meta.region_name
    elsewhere = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    # The names of buckets are shared by all accounts.
    bucket = f"deploys-{client('sts').get_caller_identity()['Account']}-{region}"
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket, **elsewhere)
    programs, template = TARGET / "debug", (ROOT / "template.yaml").read_text()
    template = template.replace("Architectures: [arm64]", f"Architectures: [{architecture()}]", 1)
    # Up to the function's properties, and behind.
    function, put = r"(Binary: binplz-{}\}}+\n    Properties:\n)()", "      CodeUri: {}\n"
    if version == "previous":
        programs, template = previous()
        function, put = r'("Binary": "binplz-{}".*?"CodeUri": ")[^"]*(")', "{}"
    for name in FUNCTIONS:
        if version == "previous" and name == "signer":
            continue
        program = programs / f"binplz-{name}"
        about = program.stat()
        code = put_once(s3, bucket, f"{name}-{about.st_size}-{about.st_mtime_ns}-{version}.zip", lambda: function_zip(program, version))
        template, count = re.subn(function.format(name), rf"\g<1>{put.format(code)}\g<2>", template)
        assert count == 1, f"the template has {count} functions built from binplz-{name}"
    key = f"{hashlib.sha256(template.encode()).hexdigest()}.yaml"
    put_once(s3, bucket, key, template.encode)
    return f"{os.environ['AWS_ENDPOINT_URL']}/{bucket}/{key}"


def pins(sets):
    """What the parameter FirstPins says of package sets, by name, and which of them is which revision: the hash of its files."""
    served, trees = {}, {}
    for name, tree in sets.items():
        sha256 = subprocess.run(["nix-hash", "--type", "sha256", tree], check=True, capture_output=True, text=True).stdout.strip()
        nar_hash = "sha256-" + base64.b64encode(bytes.fromhex(sha256)).decode()
        served[name] = {"rev": sha256[:40], "nixpkgs": {"stored": {"nar_hash": nar_hash}}}
        trees[sha256[:40]] = tree
    return json.dumps({"default": next(iter(sets)), "pins": served}, separators=(",", ":")), trees


def tarball(tree):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        archive.add(tree, arcname="nixpkgs")
    return packed.getvalue()


def settled(cloudformation, name, verb):
    cloudformation.get_waiter(f"stack_{verb}_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 1200})


def create_or_update(cloudformation, name, url, parameters):
    asked = {
        "StackName": name,
        "TemplateURL": url,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    try:
        cloudformation.create_stack(**asked)
        verb = "create"
    except cloudformation.exceptions.AlreadyExistsException:
        cloudformation.update_stack(**asked)
        verb = "update"
    settled(cloudformation, name, verb)


def set_environment(functions, more):
    lambdas = client("lambda")
    for name in functions.values() if more else ():
        old = lambdas.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        lambdas.update_function_configuration(FunctionName=name, Environment={"Variables": {**old, **more}})
        lambdas.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})


def outputs_of(name):
    stack = client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def architecture():
    return "arm64" if os.uname().machine == "aarch64" else "x86_64"


def push(repository, image="builder"):
    # The repository's record of it, which a push makes; its layers stay in podman.
    client("ecr").put_image(repositoryName=repository.split("/", 1)[1], imageTag=architecture(), imageManifest=json.dumps({"schemaVersion": 2}))
    # One at a time: of two names that an image gets at once, podman keeps one.
    with open(f"{os.environ['BINPLZ_PODMAN']}/tagging", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image == "previous":
            recipe = "FROM localhost/builder\nCOPY binplz-builder /usr/bin/binplz-builder\n"
            build = [PODMAN, "build", "--quiet", "--pull=never", "--tag", "localhost/previous", "--file", "-", previous()[0]]
            subprocess.run(build, input=recipe, text=True, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([PODMAN, "tag", f"localhost/{image}", f"{repository}:{architecture()}"], check=True)


def deploy(name, sets, environment, parameters, image, version):
    served, trees = pins(sets)
    defaults = {"FirstPins": served, "System": f"{os.uname().machine}-linux"}
    if version == "previous":
        defaults["FunctionArchitecture"] = architecture()
    create_or_update(client("cloudformation"), name, package(client("s3"), version), {**defaults, **parameters})
    outputs, made = outputs_of(name), resources(name)
    for rev, tree in trees.items():
        client("s3").put_object(Bucket=outputs["Bucket"], Key=f"nixpkgs/{rev}.tar.gz", Body=tarball(tree))
    if image:
        push(outputs["BuilderRepository"], "previous" if version == "previous" else "builder")
    functions = {short: made[logical] for short, logical in FUNCTIONS.items() if logical in made}
    set_environment(functions, environment)
    return {**outputs, "functions": functions}


def keys():
    """A key that signs artifacts, and one that signs the transparency log."""
    make = {"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"}
    return [client("kms").create_key(**make)["KeyMetadata"]["Arn"] for _ in range(2)]


def resources(name):
    listed = client("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in listed}


# Every kind of thing that the template makes and that has a list of its own.
LISTS = [
    ("apigatewayv2", "get_apis", "Items[].ApiId"),
    ("cloudwatch", "describe_alarms", "MetricAlarms[].AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries[].DashboardName"),
    ("dynamodb", "list_tables", "TableNames[]"),
    ("ec2", "describe_internet_gateways", "InternetGateways[].InternetGatewayId"),
    ("ec2", "describe_route_tables", "RouteTables[].RouteTableId"),
    ("ec2", "describe_security_groups", "SecurityGroups[].GroupId"),
    ("ec2", "describe_subnets", "Subnets[].SubnetId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints[].VpcEndpointId"),
    ("ec2", "describe_vpcs", "Vpcs[].VpcId"),
    ("ecr", "describe_repositories", "repositories[].repositoryName"),
    ("ecs", "list_clusters", "clusterArns[]"),
    ("ecs", "list_task_definitions", "taskDefinitionArns[]"),
    ("events", "list_rules", "Rules[].Name"),
    ("iam", "list_roles", "Roles[].RoleName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings[].UUID"),
    ("lambda", "list_functions", "Functions[].FunctionName"),
    ("logs", "describe_log_groups", "logGroups[].logGroupName"),
    ("s3", "list_buckets", "Buckets[].Name"),
    ("secretsmanager", "list_secrets", "SecretList[].ARN"),
    ("sns", "list_topics", "Topics[].TopicArn"),
    ("sqs", "list_queues", "QueueUrls[]"),
]


def inventory():
    def listed(service, operation, ids):
        asked = client(service)
        pages = asked.get_paginator(operation).paginate() if asked.can_paginate(operation) else [getattr(asked, operation)()]
        return [found for page in pages for found in jmespath.search(ids, page) or []]

    return [found for entry in LISTS for found in listed(*entry)]


def tasks_of(name):
    """Its cluster, and all tasks that ECS still knows of."""
    ecs, cluster = client("ecs"), outputs_of(name)["Cluster"]
    pages = [ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus=desired) for desired in ("RUNNING", "STOPPED")]
    arns = [arn for paginated in pages for page in paginated for arn in page["taskArns"]]
    batches = [arns[start:start + 100] for start in range(0, len(arns), 100)]
    return cluster, [task for batch in batches for task in ecs.describe_tasks(cluster=cluster, tasks=batch)["tasks"]]


def tasks(name):
    _, known = tasks_of(name)
    environments = [task["overrides"]["containerOverrides"][0]["environment"] for task in known]
    return [v["value"] for variables in environments for v in variables if v["name"] == "BINPLZ_LEASE_URL"]


def objects(name):
    """What builds have stored, each with a URL that reads it."""
    s3, bucket = client("s3"), outputs_of(name)["Bucket"]
    below = [s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix) for prefix in ("builds/", "blobs/")]
    keys = [found["Key"] for pages in below for page in pages for found in page.get("Contents", [])]
    return {key: s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}) for key in keys}


def invoke(name, function, event):
    """What it answers; of one that was killed, what Lambda says."""
    answer = client("lambda").invoke(FunctionName=resources(name)[FUNCTIONS[function]], Payload=event.encode())
    return json.loads(answer["Payload"].read() or b"null")


def delete(name):
    cluster, known = tasks_of(name)
    for task in known:
        if task["desiredStatus"] != "STOPPED":
            client("ecs").stop_task(cluster=cluster, task=task["taskArn"])
    cloudformation = client("cloudformation")
    cloudformation.delete_stack(StackName=name)
    settled(cloudformation, name, "delete")


def pair(text):
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return key, value


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("deploy", "push", "tasks", "objects", "resources", "invoke", "inventory", "keys", "delete"):
        arguments = verbs.add_parser(verb)
        if verb == "deploy":
            arguments.add_argument("--set", default=str(ROOT / "tests" / "fixtures" / "set"))
            arguments.add_argument("--pin", type=pair, action="append", default=[])
            arguments.add_argument("--env", type=pair, action="append", default=[])
            arguments.add_argument("--parameter", type=pair, action="append", default=[])
            arguments.add_argument("--no-image", action="store_true")
            arguments.add_argument("--new-code", dest="version", action="store_const", const="new", default="old")
            arguments.add_argument("--previous", dest="version", action="store_const", const="previous")
        if verb not in ("inventory", "keys"):
            arguments.add_argument("name")
        if verb == "invoke":
            arguments.add_argument("function", choices=FUNCTIONS)
            arguments.add_argument("--event", default="{}")
    asked = parser.parse_args()
    answer = {
        "deploy": lambda: deploy(asked.name, {"demo": asked.set, **dict(asked.pin)}, dict(asked.env), dict(asked.parameter), not asked.no_image, asked.version),
        "push": lambda: push(outputs_of(asked.name)["BuilderRepository"]),
        "tasks": lambda: tasks(asked.name),
        "objects": lambda: objects(asked.name),
        "resources": lambda: resources(asked.name),
        "invoke": lambda: invoke(asked.name, asked.function, asked.event),
        "inventory": inventory,
        "keys": keys,
        "delete": lambda: delete(asked.name),
    }[asked.verb]()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
