# A set of a thousand attributes, of which one in twenty throws, twenty never end and five take all memory: some as soon as they
# are looked at, some only when their derivation is. And one for every other way to take an evaluator down.
{ system, config, overlays }:
let
  range = builtins.genList (number: number);

  package = pname: attrs: derivation
    {
      name = "${pname}-1.0";
      builder = "/bin/sh";
      inherit system;
    } // { inherit pname; version = "1.0"; meta.mainProgram = pname; } // attrs;

  # As long as the age of the universe, in little memory.
  endless = builtins.foldl' (_: _: builtins.foldl' (_: _: builtins.foldl' (_: _: builtins.foldl' (_: n: n) 0 long) 0 long) 0 long) 0 long;
  long = range 20000;

  exhausting = builtins.stringLength (builtins.foldl' (text: _: text + text) "sixteen letters." (range 60));

  attribute = number:
    let
      pname = "p${toString number}";
      every = period: rest: number - period * (number / period) == rest;
      among = period: first: last: builtins.any (every period) (map (n: first + n) (range (last - first + 1)));
    in
    if every 40 3 then throw "attribute ${toString number} throws"
    else if every 40 23 then package pname { drvPath = throw "derivation ${toString number} throws"; }
    # Neighbours: after the first of them, a process begins with the next.
    else if among 500 7 11 then endless
    else if among 500 257 261 then package pname { drvPath = toString endless; }
    else if every 400 115 then exhausting
    else if every 400 315 then package pname { drvPath = toString exhausting; }
    else package pname { };

  digits = number: builtins.substring 1 4 (toString (10000 + number));
in
{
  pkgsStatic = builtins.listToAttrs (map (number: { name = "a${digits number}"; value = attribute number; }) (range 1000)) // {
    aborts = abort "not even tryEval";
    recurses = let self = self; in self;
    lacks = { }.attribute;
    mistypes = 1 + "one";
    overflows = let down = n: 1 + down n; in down 0;
    late = package "late" { drvPath = let self = self; in self; };
    asserts = assert false; 1;
    # In words that a machine in trouble has, too.
    forbidden = builtins.readFile "/proc/1/no such: permission denied";

    # Names that no request can have, and that must stay data.
    "x\" + builtins.readFile \"/etc/hostname\" + \"" = package "quoted" { };
    "3.3" = package "dotted" { };
    "@scoped/name" = package "scoped" { };
    pkgsCross = throw "never evaluated";

    sets = { recurseForDerivations = true; inner = package "inner" { }; deeper = { recurseForDerivations = true; bad = throw "deep"; }; };
    closed = { inner = package "closed" { }; };
    notAPackage = x: x;
    text = "text";
    alias = attribute 0;
  };
}
