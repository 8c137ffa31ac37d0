# What binplz wants to know of a package. Nothing of it is evaluated before it is asked for: a package that the set marks as
# unusable throws when its drvPath is touched, so the marks are read first.
package:
let
  # What should be a string, and may be anything.
  text = value: if builtins.isString value then builtins.unsafeDiscardStringContext value else null;
  orElse = value: other: if value == null then other else value;

  meta = let meta = package.meta or { }; in if builtins.isAttrs meta then meta else { };
  marked = name: (meta.${name} or false) == true;
  vulnerabilities = meta.knownVulnerabilities or [ ];

  # A licence is a set, a string, or a list of them.
  licences = value:
    if builtins.isList value then builtins.concatLists (map licences value)
    else if builtins.isAttrs value then [ (text (value.spdxId or value.shortName or value.fullName or null)) ]
    else [ (text value) ];

  parsed = builtins.parseDrvName (orElse (text (package.name or null)) "");
  outputs = package.outputs or [ "out" ];
  specified = (package.outputSpecified or false) == true;
in
{
  inherit specified;
  pname = orElse (text (package.pname or null)) parsed.name;
  version = orElse (text (package.version or null)) parsed.version;
  mainProgram = text (meta.mainProgram or null);
  description = text (meta.description or null);
  homepage = let page = meta.homepage or null; in text (if builtins.isList page && page != [ ] then builtins.head page else page);
  license = builtins.filter builtins.isString (licences (meta.license or [ ]));
  marks = {
    broken = marked "broken";
    unsupported = marked "unsupported";
    insecure = marked "insecure";
    unfree = marked "unfree";
  };
  reason =
    if builtins.isList vulnerabilities && vulnerabilities != [ ] then text (builtins.head vulnerabilities) else null;
  drvPath = text package.drvPath;
  # What `nix-env -iA` installs: the attribute's own output if it stands for one, else those that meta names.
  output = {
    all = builtins.filter builtins.isString (map text outputs);
    own = if specified then text (package.outputName or null) else null;
    installed =
      let named = meta.outputsToInstall or outputs; in
      builtins.filter builtins.isString (map text (if builtins.isList named then named else outputs));
  };
}
