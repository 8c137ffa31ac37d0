# Evaluates attributes one after the other, and tells of each as it goes, on stderr: what was told is known, even where a later
# attribute takes this process down, and which one that was is known, too.
#
# Of each path: `at` (its number), then `other`, `throws`, `set` and a `name` for each that is in it, or `package` (describe.nix) and,
# where that has no marks, `drv` (null: it throws). Paths, and the sets that are to be entered though they do not ask for it, arrive
# as JSON. `mark` begins each line; no package sees it. `bare`: nothing is caught, so that Nix says why.
{ describe, paths, enter, system, path, mark, bare ? "" }:
let
  set = (import path { inherit system; config = { }; overlays = [ ]; }).pkgsStatic;
  wanted = builtins.fromJSON paths;
  entered = builtins.fromJSON enter;

  say = line: builtins.trace "${mark} ${builtins.toJSON line}" null;
  attempt = if bare == "" then builtins.tryEval else (value: { success = builtins.seq value true; inherit value; });

  find = value: parts:
    if parts == [ ] then value
    else if builtins.isAttrs value && value ? ${builtins.head parts}
    then find value.${builtins.head parts} (builtins.tail parts)
    else null;

  look = parts: value:
    if parts != [ ] && !(builtins.isAttrs value) then { other = null; }
    else if (value.type or null) == "derivation" then { package = removeAttrs (describe value) [ "drvPath" "output" ]; }
    else if parts == [ ] || (value.recurseForDerivations or false) == true || builtins.elem parts entered then { set = builtins.attrNames value; }
    else { other = null; };

  tell = number:
    let
      parts = builtins.elemAt wanted number;
      value = find set parts;
      looked = attempt (let line = look parts value; in builtins.deepSeq line line);
      line = if looked.success then looked.value else { throws = null; };
      unusable = builtins.any (mark: mark) (builtins.attrValues line.package.marks);
      drv = attempt (describe value).drvPath;
    in
    builtins.seq (say { at = number; }) (
      if line ? set then builtins.seq (say { set = null; }) (builtins.foldl' (_: name: say { inherit name; }) null line.set)
      else builtins.seq (say line)
        (if line ? package && !unusable then say { drv = if drv.success then drv.value else null; } else null)
    );
in
builtins.foldl' (_: tell) null (builtins.genList (number: number) (builtins.length wanted))
