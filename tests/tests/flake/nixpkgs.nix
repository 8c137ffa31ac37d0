# What flake.nix uses of nixpkgs, and nothing else: every function returns what it was called with, under a name of its own.
# What nixpkgs would refuse is refused: an argument that its function does not have.
let
  known = function: names: args:
    let unknown = builtins.attrNames (removeAttrs args names);
    in if unknown == [ ] then { inherit function args; } else throw "${function} has no ${toString unknown}";

  packages = system:
    let
      # A package that is only named.
      named = name: { function = "package"; inherit name system; };
    in
    {
      lib = {
        fileset = {
          toSource = { root, fileset }: { inherit root fileset; };
          unions = paths: map (path: if builtins.pathExists path then path else throw "there is no ${toString path}") paths;
        };
        licenses = { mit = "MIT"; asl20 = "Apache-2.0"; };
      };
      stdenv.hostPlatform.system = system;

      rustPlatform.buildRustPackage =
        known "buildRustPackage" [ "pname" "version" "src" "cargoLock" "cargoBuildFlags" "doCheck" "meta" ];
      writeTextDir = path: text: { function = "writeTextDir"; inherit path text; };
      mkShell = known "mkShell" [ "packages" ];

      dockerTools = {
        buildLayeredImage = known "buildLayeredImage" [ "name" "tag" "contents" "includeNixDB" "fakeRootCommands" "config" ];
        binSh = named "binSh";
        caCertificates = named "caCertificates";
      };
    } // builtins.listToAttrs (map (name: { inherit name; value = named name; }) [
      "awscli2"
      "cargo"
      "clippy"
      "coreutils"
      "curl"
      "nix"
      "rustc"
      "rustfmt"
      "shellcheck"
      "skopeo"
      "sqlite"
      "util-linux"
    ]);
in
{
  legacyPackages = builtins.listToAttrs (map (system: { name = system; value = packages system; }) [ "x86_64-linux" "aarch64-linux" ]);
}
