# Evaluates attributes one at a time in a process that lives on (`nix repl`). What is found is printed as trace lines; a call returns null.
#
# `at` takes a path and prints `other`; or `set` (the number of names in it) and each `name`; or `package` (describe.nix and the full
# name) and, where that has no marks, `drv`. `throws` comes before an error that tryEval can catch, a `throw` or an assertion: the
# attribute's own if it comes first, else its derivation's. `end` follows each path, also after an error.
#
# `mark` begins each line; no package sees it. The expression is passed on one line, so a comment has a line of its own.
{ describe, enter, system, path, mark }:
let
  set = (import path { inherit system; config = { }; overlays = [ ]; }).pkgsStatic;

  say = line: builtins.trace "${mark} ${builtins.toJSON line}" null;
  caught = value:
    let tried = builtins.tryEval value;
    in if tried.success then tried.value else builtins.seq (say { throws = null; }) value;

  find = value: parts:
    if parts == [ ] then value
    else if builtins.isAttrs value && value ? ${builtins.head parts}
    then find value.${builtins.head parts} (builtins.tail parts)
    else null;

  # The first words of a long text: Nix would cut it anywhere, and its line be lost.
  short = value:
    if !(builtins.isString value) || builtins.stringLength value <= 10000 then value
    else
      let words = builtins.filter builtins.isString (builtins.split " " (builtins.substring 0 1000 value));
      in builtins.concatStringsSep " " (builtins.genList (builtins.elemAt words) (builtins.length words - 1));
  described = package:
    builtins.mapAttrs (_: short) (removeAttrs (describe package) [ "drvPath" "output" ])
    // { name = short (builtins.unsafeDiscardStringContext (package.meta.name or package.name or "")); };

  look = parts: value:
    if parts != [ ] && !(builtins.isAttrs value) then { other = null; }
    else if (value.type or null) == "derivation" then { package = described value; }
    else if parts == [ ] || (value.recurseForDerivations or false) == true || builtins.elem parts enter
    then { names = builtins.attrNames value; }
    else { other = null; };

  tell = value: line:
    if line ? names
    then builtins.seq (say { set = builtins.length line.names; }) (builtins.foldl' (_: name: say { inherit name; }) null line.names)
    else builtins.seq (say line)
      (if line ? package && !(builtins.any (mark: mark) (builtins.attrValues line.package.marks))
      then say { drv = caught (describe value).drvPath; }
      else null);
in
{
  at = parts:
    let
      value = find set parts;
      line = look parts value;
    in
    tell value (caught (builtins.deepSeq line line));
  end = number: say { end = number; };
}
