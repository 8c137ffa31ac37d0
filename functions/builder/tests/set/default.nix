# Packages to try the builder on. They build with the host's compiler, outside of any sandbox, and wait at a gate: a file
# beside this one, which the test makes when it has seen enough. So nothing here depends on how fast a machine is.
{ system, config, overlays }:
let
  here = toString ./.;
  prelude = ''
    export PATH=/usr/local/bin:/usr/bin:/bin
    phase() { echo "@nix { \"action\": \"setPhase\", \"phase\": \"$1\" }"; }
    gate() {
      echo $$ > ${here}/pid
      echo "waiting at the gate"
      while [ ! -e ${here}/gate ]; do sleep 0.05; done
    }
    compile() { echo 'int main(void) { return 0; }' > main.c; gcc "$@" main.c; }
  '';
  script = text: { builder = "/bin/sh"; args = [ "-c" (prelude + text) ]; inherit system; };
  package = pname: attrs: text:
    derivation ({ name = "${pname}-1.0"; inherit pname; version = "1.0"; } // script text // removeAttrs attrs [ "meta" ])
    // { meta = attrs.meta or { }; };
  dependency = package "dependency" { seed = here; } "echo made by the dependency > $out";
in
{
  pkgsStatic = rec {
    # Two builds; programs of all sorts.
    good = package "good" { meta.mainProgram = "good"; } ''
      phase buildPhase
      cat ${dependency}
      mkdir -p $out/bin $out/share
      echo data > $out/share/data
      compile -static -o $out/bin/good -DDATA="\"$out/share/data\""
      printf '\0%s\0' $out/share/data $out/share/missing >> $out/bin/good
      compile -o $out/bin/shared
      printf '#!/bin/sh\necho hi\n' > $out/bin/script
      cp $out/bin/good $out/bin/.good-wrapped
      chmod +x $out/bin/script
      ln -s good $out/bin/better
      ln -s /etc/passwd $out/bin/outside
    '';
    nested.deeper.good = good;

    # Builds what it needs, and fails itself.
    halfway = package "halfway" { } "cat ${dependency}; exit 1";

    # Builds what it needs, and waits.
    patient = package "patient" { } "phase buildPhase; cat ${dependency}; gate";

    # Says something, waits, ends well.
    gated = package "gated" { } ''
      phase buildPhase
      gate
      echo "through the gate"
      mkdir -p $out/bin
      compile -static -o $out/bin/gated
    '';

    # Shows all that a build can see of the environment; a download may ask for variables by name.
    curious = package "curious" { fetched = snooping; } "env; mkdir -p $out/bin; compile -static -o $out/bin/curious";
    snooping = derivation ({
      name = "snooping";
      seed = here;
      impureEnvVars = [ "BINPLZ_LEASE_TOKEN" "BINPLZ_LEASE_URL" "HOME" "PATH" ];
      outputHashAlgo = "sha256";
      outputHashMode = "flat";
      outputHash = builtins.hashString "sha256" "${here}\n";
    } // script "env; echo ${here} > $out");

    # Prints more than the log may hold, then ends well.
    chatty = package "chatty" { } ''
      i=0; while [ $i -lt 4000 ]; do echo "line $i of a long log"; i=$((i + 1)); done
      mkdir -p $out/bin; compile -static -o $out/bin/chatty
    '';

    # Declares what it is made of, in each form that sets have, and in some that they should not have.
    declares = package "declares"
      {
        src = derivation ({
          name = "declares.c";
          url = "mirror://example/declares.c";
          outputHashAlgo = "sha256";
          outputHashMode = "flat";
          outputHash = builtins.hashString "sha256" "int main(void) { return 0; }\n";
        } // script "echo 'int main(void) { return 0; }' > $out");
        buildInputs = [ library ];
      } "cp $src x.c; mkdir -p $out/bin; gcc -static -o $out/bin/declares x.c"
    // {
      buildInputs = [ library null [ library ] 5 (throw "not for this system") ];
      nativeBuildInputs = [ (package "tool" { } "exit 1" // { meta = throw "it has none"; }) "/hook.sh" ];
      meta = { license = [ { spdxId = "MIT"; } "GPLv2+" { fullName = "Ours"; } 7 null ]; identifiers.purl = "pkg:generic/declares@1.0"; };
    };
    library = package "library" { propagatedBuildInputs = [ deeper ]; meta.identifiers.cpe = 42; } "mkdir $out";
    deeper = package "deeper" { } "mkdir $out" // { version = 7; };

    # What it declares ends any evaluation.
    spoiled = package "spoiled" { } "mkdir -p $out/bin; compile -static -o $out/bin/spoiled"
    // { buildInputs = [ (library // { meta.license = 1 + "x"; }) ]; };

    # Programs that need more than their own file.
    needs = import ./needs.nix { inherit package; };

    # Fails, each for its own reason.
    failing = import ./failing.nix { inherit here package script system; };

    # What leads nowhere, and what is no package.
    number = 42;
    function = x: x;
    throws = throw "this package is no more";
    odd = package "odd" { meta = { mainProgram = 42; broken = "yes"; knownVulnerabilities = 42; }; } ''
      mkdir -p $out/bin; compile -static -o $out/bin/odd
    '';
  };
}
