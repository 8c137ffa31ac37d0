# What a package declares of what it is made of: itself, the inputs of its host with theirs (which a static program can contain), and
# the inputs that only build it. Foreign sets may hold anything in any place. What throws is left out; what ends an evaluation for good
# is the caller's to survive.
package:
let
  text = value: if builtins.isString value then builtins.unsafeDiscardStringContext value else null;
  tried = value: other: let result = builtins.tryEval value; in if result.success then result.value else other;

  isDerivation = value:
    tried (builtins.isAttrs value && (value.type or null) == "derivation" && builtins.isString (value.drvPath or null)) false;
  flat = value: if builtins.isList value then builtins.concatLists (map (one: flat (tried one null)) value) else [ value ];
  inputs = names: drv: builtins.filter isDerivation (builtins.concatLists (map (name: tried (flat (drv.${name} or [ ])) [ ]) names));

  ofHost = inputs [ "buildInputs" "propagatedBuildInputs" "depsHostHost" "depsHostHostPropagated" ];
  ofBuild = inputs [
    "nativeBuildInputs" "propagatedNativeBuildInputs" "depsBuildBuild" "depsBuildBuildPropagated" "depsBuildTarget"
    "depsBuildTargetPropagated"
  ];
  # The C library, by the compiler's wrapper.
  libc = builtins.filter isDerivation [ (package.stdenv.cc.libc or null) ];

  # Each derivation once, with all that `more` finds from it.
  closed = more: drvs: map (item: item.drv) (builtins.genericClosure {
    startSet = items drvs;
    operator = item: items (more item.drv);
  });
  items = map (drv: { key = text drv.drvPath; inherit drv; });

  named = value: if builtins.isString value then [ { name = text value; } ] else [ ];
  licences = value:
    if builtins.isList value then builtins.concatLists (map licences value)
    else if !builtins.isAttrs value then named value
    else if builtins.isString (value.spdxId or null) then [ { spdx = text value.spdxId; } ]
    else named (value.fullName or value.shortName or null);

  describe = drv:
    let
      parsed = builtins.parseDrvName (let name = text (drv.name or null); in if name == null then "" else name);
      orElse = value: other: if value == null then other else value;
      meta = let meta = tried (drv.meta or { }) { }; in if builtins.isAttrs meta then meta else { };
      kept = value: other: tried (builtins.deepSeq value value) other;
      # Nixpkgs appends the platform to the name of what it cross-compiles.
      platform = "-" + tried (text (drv.stdenv.hostPlatform.config or "")) "";
      cut = builtins.stringLength parsed.version - builtins.stringLength platform;
      ours = cut > 0 && builtins.substring cut (-1) parsed.version == platform;
      version = if ours then builtins.substring 0 cut parsed.version else parsed.version;
    in
    {
      name = kept (orElse (text (drv.pname or null)) parsed.name) "";
      version = kept (orElse (text (drv.version or null)) version) "";
      derivation = text drv.drvPath;
      licences = kept (licences (meta.license or [ ])) [ ];
      cpe = kept (text (meta.identifiers.cpe or null)) null;
      purl = kept (text (meta.identifiers.purl or null)) null;
    };
in
{
  package = describe package;
  linked = map describe (closed ofHost (ofHost package ++ libc));
  build_time = map describe (closed (drv: [ ]) (ofBuild package));
}
