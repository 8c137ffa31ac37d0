# For people with Nix: the programs, the builder's image, a NixOS module and a shell to work in.
#
#   nix run github:OWNER/binplz -- serve
#   nix build .#image && skopeo copy docker-archive:result docker://REPOSITORY:x86_64     (or :arm64)
{
  description = "curl a program by name: built by Nix on demand, served as one static binary";

  # The commit of flake.lock is the default pin of infra/pins.json.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: builtins.listToAttrs (map (system: { name = system; value = f nixpkgs.legacyPackages.${system}; }) systems);
      workspace = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).workspace;

      # Programs of the workspace; those of `names` are installed. `more`: further attributes.
      programs = pkgs: pname: names: more: pkgs.rustPlatform.buildRustPackage ({
        inherit pname;
        inherit (workspace.package) version;
        # With the commit, as scripts/version has it.
        env.BINPLZ_VERSION = "${workspace.package.version}+${self.shortRev or "changed"}";
        src = pkgs.lib.fileset.toSource {
          root = ./.;
          fileset = pkgs.lib.fileset.unions [ ./Cargo.toml ./Cargo.lock ./functions ./tests ./infra/pins.json ./infra/popular.txt ./infra/prices.json ./infra/seed.txt ];
        };
        cargoLock.lockFile = ./Cargo.lock;
        cargoBuildFlags = builtins.concatMap (name: [ "--package" name ]) names;
        # The tests run Nix itself, which a build cannot; scripts/test runs them.
        doCheck = false;
        meta = {
          description = "On-demand static binaries from nixpkgs";
          license = [ pkgs.lib.licenses.mit pkgs.lib.licenses.asl20 ];
          mainProgram = pname;
          platforms = systems;
        };
      } // more);

      # What installs the program in front of bundles beside the builder, for bundles of the builder's own system.
      launchers = pkgs: {
        postInstall = "ln -s ${self.packages.${pkgs.stdenv.hostPlatform.system}.binplz-launcher}/bin/binplz-launcher $out/bin/binplz-launcher-${pkgs.stdenv.hostPlatform.parsed.cpu.name}";
      };
    in
    {
      packages = each (pkgs: rec {
        default = binplz;
        # `binplz serve` starts the builder that lies beside it.
        binplz = programs pkgs "binplz" [ "binplz-cli" "binplz-builder" ] (launchers pkgs);
        binplz-builder = programs pkgs "binplz-builder" [ "binplz-builder" ] (launchers pkgs);
        # Static, as `scripts/launcher` compiles it.
        binplz-launcher = programs pkgs.pkgsStatic "binplz-launcher" [ "binplz-launcher" ] { buildType = "launcher"; };
        image = import ./infra/image { inherit pkgs binplz-builder; };
      });

      # `binplz` has no other program to run.
      apps = each (pkgs: rec {
        default = binplz;
        binplz = { type = "app"; program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.binplz}/bin/binplz"; };
      });

      # That the programs build, start, and name the version that they are of.
      checks = each (pkgs: let inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) binplz binplz-builder image; in {
        inherit binplz image;
        version = pkgs.runCommand "binplz-version" { } ''
          ${binplz}/bin/binplz --version | tee $out
          ${binplz}/bin/binplz-builder --version | tee -a $out
          [ "$(grep -c ' ${workspace.package.version}+' $out)" = 2 ]
          for builder in ${binplz} ${binplz-builder}; do [ -x $builder/bin/binplz-launcher-* ]; done
        '';
      });

      nixosModules.default = import ./infra/nix/module.nix self;

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [ cargo clippy rustc rustfmt shellcheck nix curl skopeo awscli2 ];
        };
      });
    };
}
