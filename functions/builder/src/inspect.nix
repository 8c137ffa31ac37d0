# All that the service wants to know of one attribute, in one evaluation.
#
# Everything arrives as data; the attribute path as JSON, so that no name is ever read as an expression. A package that
# the set marks as unusable throws when its drvPath is touched: the marks are read first, and drvPath only without one.
{ attrPath, system, path ? "", url ? "", narHash ? "" }:
let
  tarball = builtins.fetchTarball ({ inherit url; } // (if narHash == "" then { } else { sha256 = narHash; }));
  set = import (if path == "" then tarball else path) { inherit system; config = { }; overlays = [ ]; };

  # The value at the path, in a list; an empty list where the path leads nowhere.
  find = value: parts:
    if parts == [ ] then [ value ]
    else if builtins.isAttrs value && value ? ${builtins.head parts}
    then find value.${builtins.head parts} (builtins.tail parts)
    else [ ];
  found = find set ([ "pkgsStatic" ] ++ builtins.fromJSON attrPath);
  package = builtins.head found;

  # What should be a string, and may be anything.
  text = value: if builtins.isString value then builtins.unsafeDiscardStringContext value else null;
  meta = let meta = package.meta or { }; in if builtins.isAttrs meta then meta else { };
  marked = name: (meta.${name} or false) == true;
  marks = {
    broken = marked "broken";
    unsupported = marked "unsupported";
    insecure = marked "insecure";
    unfree = marked "unfree";
  };
  unusable = builtins.any (name: marks.${name}) (builtins.attrNames marks);
  vulnerabilities = meta.knownVulnerabilities or [ ];

  name = let name = text (package.name or null); in if name == null then "" else name;
  parsed = builtins.parseDrvName name;
  orElse = value: other: if value == null then other else value;
  outputs = package.outputs or [ "out" ];
in
if found == [ ] || !(builtins.isAttrs package) || (package.type or null) != "derivation" then { exists = false; inherit (builtins) nixVersion; }
else {
  exists = true;
  inherit (builtins) nixVersion;
  pname = orElse (text (package.pname or null)) parsed.name;
  version = orElse (text (package.version or null)) parsed.version;
  mainProgram = text (meta.mainProgram or null);
  inherit marks;
  reason =
    if builtins.isList vulnerabilities && vulnerabilities != [ ] then text (builtins.head vulnerabilities) else null;
  drvPath = if unusable then null else text package.drvPath;
  output =
    if builtins.elem "bin" outputs then "bin" else if builtins.elem "out" outputs then "out" else builtins.head outputs;
}
