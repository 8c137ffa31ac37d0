# The NixOS module: `services.binplz.enable = true`. `self` is the flake.
self:
{ config, lib, pkgs, ... }:
let
  cfg = config.services.binplz;
  # The hardening is that of the unit for other systems.
  sections = builtins.filter builtins.isString (builtins.split "\n\n" (builtins.readFile ../binplz.service));
  section = builtins.head (builtins.filter (text: builtins.substring 0 10 text == "[Service]\n") sections);
  lines = builtins.filter (line: builtins.isString line && builtins.match "[A-Za-z]+=.*" line != null) (builtins.split "\n" section);
  setting = line: let parts = builtins.match "([A-Za-z]+)=(.*)" line; in { name = builtins.head parts; value = builtins.elemAt parts 1; };
  unit = builtins.removeAttrs (builtins.listToAttrs (map setting lines)) [ "ExecStart" "EnvironmentFile" "Environment" ];
in
{
  options.services.binplz = {
    enable = lib.mkEnableOption "binplz, which serves static Linux binaries of Nixpkgs packages";
    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.binplz;
      description = "The package with `binplz` and `binplz-builder`.";
    };
    arguments = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "--listen" "127.0.0.1:8080" "--origin" "https://example.org" "--trusted-proxy" "127.0.0.1" ];
      description = "Arguments of `binplz serve`.";
    };
  };

  config = lib.mkIf cfg.enable {
    systemd.services.binplz = {
      description = "binplz";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" "nix-daemon.socket" ];
      path = [ config.nix.package pkgs.util-linux pkgs.bash pkgs.coreutils pkgs.sqlite ];
      environment = { NIX_REMOTE = "daemon"; HOME = "/var/lib/binplz/home"; };
      serviceConfig = unit // {
        ExecStart = lib.escapeShellArgs ([ "${cfg.package}/bin/binplz" "serve" "--data" "/var/lib/binplz" ] ++ cfg.arguments);
      };
    };
    environment.systemPackages = [ cfg.package ];
  };
}
