# All that the service wants to know of one attribute, in one evaluation.
#
# Everything arrives as data; the attribute path, from the top of the set, as JSON, so that no name is ever read as an
# expression. `describe` is describe.nix, and `declare` declare.nix. An evaluation that ends after the mark was printed has failed in
# `declare`; without a mark, nothing is declared.
{ describe, declare, mark, attrPath, system, path }:
let
  set = import path { inherit system; config = { }; overlays = [ ]; };

  # The value at the path, in a list; an empty list where the path leads nowhere.
  find = value: parts:
    if parts == [ ] then [ value ]
    else if builtins.isAttrs value && value ? ${builtins.head parts}
    then find value.${builtins.head parts} (builtins.tail parts)
    else [ ];
  found = find set (builtins.fromJSON attrPath);
  package = builtins.head found;
  described = describe package;
  unusable = builtins.any (mark: mark) (builtins.attrValues described.marks);
in
if found == [ ] || !(builtins.isAttrs package) || (package.type or null) != "derivation" then { exists = false; inherit (builtins) nixVersion; }
else
  let
    plain = {
      exists = true;
      inherit (builtins) nixVersion;
      inherit (described) pname version mainProgram license marks reason;
      drvPath = if unusable then null else described.drvPath;
      output = if unusable then null else described.output;
    };
  in
  if unusable || mark == "" then plain
  else plain // { declared = builtins.deepSeq plain (builtins.trace mark (declare package)); }
