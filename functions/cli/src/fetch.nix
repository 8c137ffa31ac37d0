# A package set in the Nix store, so that what is built from it stays what its revision says: a copy of a directory, or a
# tarball's content.
{ path ? "", url ? "", narHash ? "" }:
if path != "" then
  builtins.path {
    name = "nixpkgs";
    path = /. + path;
    filter = file: _type: baseNameOf file != ".git";
  }
else
  "${builtins.fetchTarball ({ inherit url; } // (if narHash == "" then { } else { sha256 = narHash; }))}"
