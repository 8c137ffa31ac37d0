# The builder's image from nixpkgs: what scripts/image makes from Debian's packages. The entry point, the environment and Nix's
# settings are the same files; the build users are the same users.
{ pkgs, binplz-builder }:
let
  range = from: to: if from > to then [ ] else [ from ] ++ range (from + 1) to;
  users = range 1 32;
  lines = f: builtins.concatStringsSep "" (map (line: line + "\n") f);

  # Fixed numbers: infra/image/finish says why.
  passwd = lines ([ "root:x:0:0:root:/root:/bin/sh" "nobody:x:65534:65534:nobody:/var/empty:/bin/false" ]
    ++ map (n: "nixbld${toString n}:x:${toString (30000 + n)}:30000:Nix build user ${toString n}:/var/empty:/bin/false") users);
  group = lines [
    "root:x:0:"
    "nobody:x:65534:"
    "nixbld:x:30000:${builtins.concatStringsSep "," (map (n: "nixbld${toString n}") users)}"
  ];
in
pkgs.dockerTools.buildLayeredImage {
  name = "binplz-builder";
  tag = { x86_64-linux = "x86_64"; aarch64-linux = "arm64"; }.${pkgs.stdenv.hostPlatform.system};

  # setpriv is of util-linux, `true` of coreutils; sqlite reads a channel's list of programs; some builds ask for /bin/sh where there is no sandbox to give them one.
  contents = [
    binplz-builder
    pkgs.nix
    pkgs.sqlite
    pkgs.util-linux
    pkgs.coreutils
    pkgs.dockerTools.binSh
    pkgs.dockerTools.caCertificates
    (pkgs.writeTextDir "etc/passwd" passwd)
    (pkgs.writeTextDir "etc/group" group)
    (pkgs.writeTextDir "etc/nsswitch.conf" "hosts: files dns\n")
    (pkgs.writeTextDir "etc/nix/nix.conf" (builtins.readFile ./nix.conf))
  ];
  # Without it Nix would take its own files in the store for rubbish, and replace them while it runs.
  includeNixDB = true;
  # Nix gives its store to the build users by itself when it first opens it.
  fakeRootCommands = ''
    mkdir -p root tmp var/empty nix/store
    chmod 700 root
    chmod 1777 tmp
    chmod 555 var/empty
  '';

  config = builtins.fromJSON (builtins.readFile ./config.json);
}
