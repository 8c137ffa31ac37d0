"""Follows the operator's guide on the bed, from an empty account to an empty account: the commands are those of infra/README.md, in
its order. `scripts/e2e` runs it; root or sudo.

    tests/bed/up --tasks python3 tests/bed/guide.py

Every command runs as the guide has it, with the exceptions of `HERE`. A command that cannot run here, and is not in that table, fails.
Between the guide's parts, clients request programs: four at once, for which the quota of a new account has not enough vCPUs.
"""

import base64
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "infra" / "README.md"
TEMPLATE = ROOT / "template.yaml"
# A new account: see README.md, "Accounts".
ACCOUNT = "210987654321"
STACK = "binplz"
AWS_CLI = "awscli==1.46.3"
# What a client asks for while the builds of an account with 6 vCPUs wait for each other.
AT_ONCE = ["tree", "pv", "nq", "dos2unix"]

# What is another command here, with the reason. The demo set has the place of Nixpkgs: the bed has no Internet.
HERE = [
    # The same program, without optimisation.
    (r"^cargo build --release --package binplz-cli$", "cargo build --workspace"),
    (r"^alias binplz=target/release/binplz$", "alias binplz=target/debug/binplz"),
    # The bed has no registry: podman gets the image under the repository's name.
    (r"^scripts/image push$", f'"$BINPLZ_BED_PYTHON" tests/bed/stack.py push {STACK}'),
    (r"^(binplz pin move .*)$", r'\1 --tarball "$DEMO_SET" --nar-hash "$DEMO_HASH"'),
    # This tree is what is deployed.
    (r"^git pull$", ":"),
]
# Answers to the questions of a command.
ANSWERS = [(r"--guided", ""), (r"^scripts/sam build && scripts/sam deploy$", "y"), (r"^scripts/sam delete", "y")]


def blocks(heading):
    """The commands of a section, without the remarks beside them."""
    section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##)", GUIDE.read_text(), re.S | re.M)
    assert section, f"the guide has no section {heading!r}"
    found = [re.split(r" {3,}", line[4:])[0] for line in section[1].splitlines() if line.startswith("    ")]
    assert found, f"the section {heading!r} has no command"
    return found


def here(command):
    for pattern, instead in HERE:
        if re.search(pattern, command):
            return re.sub(pattern, instead, command)
    return command


class Shell:
    """One bash for all of it, as an operator has: aliases and variables last."""

    def __init__(self, environment):
        self.environment, self.before = environment, "shopt -s expand_aliases\n"

    def run(self, command, fails=False, parameter=None):
        print(f"\n$ {command}", flush=True)
        program, answer = here(command), next((answer for pattern, answer in ANSWERS if re.search(pattern, command)), None)
        if program.startswith("alias "):
            self.before += program + "\n"
            return ""
        answers = "/dev/null" if answer is None else f"<(yes '{answer}')"
        if parameter:
            # It asks for the stack's name, the region, and then the parameters.
            name, value = parameter
            asked = re.findall(r"^  (\w+):", TEMPLATE.read_text().split("\nParameters:\n")[1].split("\nConditions:\n")[0], re.M)
            lines = [""] * (2 + asked.index(name)) + [value]
            answers = f"<(printf '%s\\n' {shlex.join(lines)}; yes '')"
        script = f"{self.before}{{ {program}\n}} < {answers}"
        ran = subprocess.run(["bash", "-c", script], env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(ran.stdout, end="", flush=True)
        assert (ran.returncode != 0) == fails, f"{command}: exit code {ran.returncode}"
        # Only here are the functions compiled with their own features.
        warns = command.startswith("scripts/sam build") and re.search(r"^warning: ", ran.stdout, re.M)
        assert not warns, f"{command}: the compiler warns"
        return ran.stdout


def demo_set(scratch):
    """The demo set as a tarball, with its hash."""
    tree, packed = ROOT / "tests" / "fixtures" / "set", f"{scratch}/nixpkgs.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        archive.add(tree, arcname="nixpkgs")
    sha256 = subprocess.run(["nix-hash", "--type", "sha256", tree], check=True, capture_output=True, text=True).stdout.strip()
    return packed, "sha256-" + base64.b64encode(bytes.fromhex(sha256)).decode()


def aws_cli():
    """The AWS CLI's directory, installed the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "binplz" / AWS_CLI.replace("==", "-")
    if not (cache / "complete").exists():
        shutil.rmtree(cache, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", cache], check=True)
        subprocess.run([cache / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", AWS_CLI], check=True)
        (cache / "complete").touch()
    return cache / "bin"


def download(url, name, scratch):
    """What README tells people to type."""
    file = f"{scratch}/{name}"
    subprocess.run(["curl", "-sS", "--retry", "200", "-fL", f"{url}/{name}?retry", "-o", file], check=True)
    with open(file, "rb") as program:
        assert program.read(4) == b"\x7fELF", f"{name} is no program"
    return file


def main():
    settings = ROOT / "samconfig.local.toml"
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / settings.name
        if settings.exists():
            shutil.move(settings, kept)
        try:
            follow(scratch)
        finally:
            settings.unlink(missing_ok=True)
            if kept.exists():
                shutil.move(kept, settings)


def follow(scratch):
    tarball, nar_hash = demo_set(scratch)
    shell = Shell({**os.environ, "PATH": f"{aws_cli()}:{os.environ['PATH']}", "DEMO_SET": tarball, "DEMO_HASH": nar_hash,
                   "AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_PAGER": ""})

    for command in blocks("Deploy"):
        # Before the deploy it reports the stack as missing.
        shell.run(command, fails=command == "binplz doctor --fix")

    listed = json.loads(shell.run(f"aws cloudformation describe-stacks --stack-name {STACK} --query Stacks[0].Outputs"))
    outputs = {output["OutputKey"]: output["OutputValue"] for output in listed}
    url = outputs["ApiUrl"]
    with concurrent.futures.ThreadPoolExecutor() as clients:
        programs = list(clients.map(lambda name: download(url, name, scratch), AT_ONCE))
    failed = json.loads(shell.run(f"binplz list --stack {STACK} --state failed --json"))
    assert not failed, failed
    architecture = subprocess.run(["file", "-b", programs[0]], capture_output=True, text=True).stdout
    print(f"four at once: {architecture}", end="")

    create, deploy = blocks("Signatures")
    keys = [shell.run(create).strip() for _ in range(2)]
    shell.run(deploy, parameter=("SigningKeys", ",".join(keys)))

    for command in blocks("Upgrade"):
        shell.run(command)
    file = download(url, "mawk", scratch)
    for name in ("proof", "keys"):
        subprocess.run(["curl", "-fsS", f"{url}/-/{name}{'/mawk' if name == 'proof' else ''}", "-o", f"{file}.{name}"], check=True)
    shell.run(f"binplz verify {file} --proof {file}.proof --keys {file}.keys --as mawk")

    for command in blocks("Tear down"):
        left = command.replace("BUCKET", outputs["Bucket"]).replace("TABLE", outputs["Table"])
        shell.run(left)
    told = shell.run("binplz doctor", fails=True)
    assert outputs["Bucket"] not in told and outputs["Table"] not in told, "something is left of the stack"


if __name__ == "__main__":
    main()
