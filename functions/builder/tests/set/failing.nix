# Packages that fail, each for its own reason. A file `url` beside this one says where a source is to be had, one of them at a time.
{ here, package, script, system }:
let
  # A fixed output names its hash; this is that of the line "the source".
  fixed = {
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
    outputHash = builtins.hashString "sha256" "the source\n";
  };
  url = builtins.readFile ./url;
  derivationOf = name: attrs: text: derivation ({ inherit name; seed = here; } // script text // attrs);
in
rec {
  ## The same will happen again.

  compileError = package "compileError" { } ''
    phase buildPhase
    echo 'int main(void) { return missing; }' > main.c
    gcc main.c
  '';
  testFailure = package "testFailure" { } ''
    phase buildPhase
    echo "warning: no error: of the phase before"
    phase checkPhase
    echo "PASS: one"
    echo "FAIL: two"
    exit 1
  '';
  onCompileError = package "onCompileError" { } "cat ${compileError}";
  noOutput = package "noOutput" { } "echo done";
  wrongHash = derivationOf "wrongHash" fixed "echo something else > $out";
  onWrongHash = package "onWrongHash" { } "cat ${wrongHash}";
  endless = package "endless" { } "phase buildPhase; echo $$ > ${here}/pid; while :; do echo still at it; sleep 0.1; done";
  silent = package "silent" { } "phase buildPhase; echo $$ > ${here}/pid; echo once; sleep 1000";
  talkative = package "talkative" { } "phase buildPhase; echo $$ > ${here}/pid; yes 'and another line of the log that has no end'";
  elsewhere = derivation { name = "elsewhere-1.0"; system = "riscv64-linux"; builder = "/bin/sh"; seed = here; }
    // { pname = "elsewhere"; version = "1.0"; meta = { }; };

  # A build may print in Nix's log format. These say what Nix says of a machine that is not set up, and leave an exit code that means
  # nothing.
  liar = words: package "liar" { } ''
    phase buildPhase
    echo '@nix { "action": "msg", "level": 0, "msg": "error: of /x.drv: ${words}" }' >&2
  '';
  liesOfSandbox = liar "unable to start build process";
  liesOfSignature = liar "x is not signed by any of the keys in trusted-public-keys";

  # Twenty print the lines of a file each. The last of them fails, beside one that is at work until it is ended. A new file `round`
  # makes new derivations of them.
  printer = name: text: package "printer" { round = builtins.readFile ./round; } ''
    ${text}
    echo >> ${here}/printed
    cat ${here}/lines/${name}
  '';
  printers = toString (builtins.genList (n: printer (toString (n + 1)) "echo > $out") 19);
  victim = package "victim" { } "phase buildPhase; cat ${printers}; echo at work; echo $$ > ${here}/pid; sleep 1000";
  slanderer = printer "0" ''
    cat ${printers}
    until [ -s ${here}/pid ]; do sleep 0.05; done
    trap 'echo "main.c:1: error: its own"; exit 1' EXIT
  '';
  besideEachOther = package "besideEachOther" { } "cat ${slanderer} ${victim}";

  # Nix refuses it where there is a sandbox, in words about the sandbox.
  noChroot = package "noChroot" { __noChroot = true; } "exit 1";

  # Evaluates a file that the test writes: it would like to read what is outside of the set.
  curiousExpression = package "curiousExpression" { seed = import ./curious.nix; } "exit 1";

  ## The network.

  # As Nix fetches by itself, and as nixpkgs' fetchurl does, with curl.
  builtinSource = derivation (fixed // { name = "builtinSource"; inherit url; seed = here; system = "builtin"; builder = "builtin:fetchurl"; });
  onBuiltin = package "onBuiltin" { } "cat ${builtinSource}; mkdir -p $out/bin; compile -static -o $out/bin/onBuiltin";
  curlSource = derivationOf "curlSource" fixed ''
    echo "trying ${url}"
    curl --fail --location --max-redirs 20 --retry 3 --retry-delay 1 --disable-epsv --insecure --silent --show-error ${url} -o $out || {
      echo "error: cannot download curlSource from any mirror"
      exit 1
    }
  '';
  onCurl = package "onCurl" { } "cat ${curlSource}; mkdir -p $out/bin; compile -static -o $out/bin/onCurl";

  ## The machine.

  # The kernel ends a compiler, which says so; and a silent step.
  hungryCompiler = package "hungryCompiler" { } ''
    phase buildPhase
    { echo 'int table[] = {'; seq -s, 3000000; echo '}; int main(void) { return table[0]; }'; } > main.c
    gcc main.c
  '';
  hungryInSilence = package "hungryInSilence" { } ''
    phase buildPhase
    { head -c 400000000 /dev/zero | tail -c 399999999; } 2> /dev/null > /dev/null || { echo "a step failed"; exit 1; }
  '';
  hungryEvaluation = package "hungryEvaluation" {
    seed = builtins.stringLength (builtins.foldl' (text: _: text + text) "sixteen letters." (builtins.genList (n: n) 26));
  } "exit 1";
  # Of the directory in which it builds, and of the store.
  fullDirectory = package "fullDirectory" { } "phase buildPhase; cp /dev/zero much";
  fullInSilence = package "fullInSilence" { } ''
    phase buildPhase
    cp /dev/zero much 2> /dev/null || { seq 50; echo "a step failed"; exit 1; }
  '';
  fullStore = package "fullStore" { } "phase installPhase; cp /dev/zero $out";
}
