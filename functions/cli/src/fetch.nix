# A copy of a package set in the Nix store, so that what is built from it stays what its revision says.
{ path }:
builtins.path {
  name = "nixpkgs";
  path = /. + path;
  filter = file: _type: baseNameOf file != ".git";
}
