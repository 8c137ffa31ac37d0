# What flake.nix uses of nixpkgs, and nothing else: every function returns what it was called with, under a name of its own.
# What nixpkgs would refuse is refused: an argument that its function does not have.
let
  known = function: names: args:
    let unknown = builtins.attrNames (removeAttrs args names);
    in if unknown == [ ] then { inherit function args; } else throw "${function} has no ${toString unknown}";

  rustPackage = function: args: { outPath = "/nix/store/${args.pname}"; } // known function
    [ "pname" "version" "env" "src" "cargoLock" "cargoBuildFlags" "buildType" "postInstall" "doCheck" "meta" ]
    args;

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
        # Of NixOS, for the module.
        mkEnableOption = description: { inherit description; default = false; };
        mkOption = known "mkOption" [ "type" "default" "example" "description" ];
        types = { package = "package"; str = "str"; listOf = type: [ type ]; };
        mkIf = condition: value: if condition then value else { };
        escapeShellArgs = builtins.concatStringsSep " ";
      };
      stdenv.hostPlatform = { inherit system; parsed.cpu.name = builtins.replaceStrings [ "-linux" ] [ "" ] system; };

      # With a path, which texts may name.
      rustPlatform.buildRustPackage = rustPackage "buildRustPackage";
      pkgsStatic = packages system // { rustPlatform.buildRustPackage = rustPackage "buildRustPackage, static"; };
      runCommand = name: args: script: { function = "runCommand"; inherit name args script; };
      writeTextDir = path: text: { function = "writeTextDir"; inherit path text; };
      mkShell = known "mkShell" [ "packages" ];

      dockerTools = {
        buildLayeredImage = known "buildLayeredImage" [ "name" "tag" "contents" "includeNixDB" "fakeRootCommands" "config" ];
        binSh = named "binSh";
        caCertificates = named "caCertificates";
      };
    } // builtins.listToAttrs (map (name: { inherit name; value = named name; }) [
      "awscli2"
      "bash"
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
