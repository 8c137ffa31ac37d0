# Small programs, for each thing that a program can need beyond its own file, and for each that it only mentions. Those that need
# something exit with 1 where it is missing.
{ package }:
let
  # What other packages bring.
  dep = package "dep" { } ''
    mkdir -p $out/bin $out/lib $out/include $out/share/terminfo/x $out/share/misc $out/etc/ssl/certs
    touch $out/share/terminfo/x/xterm $out/share/misc/magic.mgc $out/etc/ssl/certs/ca-bundle.crt $out/include/dep.h $out/lib/libdep.a
    compile -static -o $out/bin/tool
  '';

  programs = {
    # Nothing.
    plain = "0";
    prefix = ''mentions(OUT)'';
    missing = ''mentions(OUT "/share/missing")'';
    bindir = ''mentions(OUT "/bin")'';
    libdir = ''mentions(DEP "/lib")'';
    header = ''mentions(DEP "/include/dep.h")'';
    archive = ''mentions(DEP "/lib/libdep.a")'';
    messages = ''mentions(OUT "/share/locale")'';
    manual = ''mentions(OUT "/share/man/man1/needs.1")'';
    empty = ''mentions(OUT "/var/empty")'';
    itself = ''mentions(OUT "/bin/itself")'';
    elsewhere = ''mentions("${builtins.storeDir}/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-x/share/data")'';

    # Data.
    terminfo = ''lacks(place("TERMINFO_DIRS", DEP "/share/terminfo"), "/x/xterm")'';
    terminfoFixed = ''lacks(DEP "/share/terminfo", "/x/xterm")'';
    magic = ''lacks(place("MAGIC", DEP "/share/misc/magic.mgc"), "")'';
    magicFixed = ''lacks(DEP "/share/misc", "/magic.mgc")'';
    certificates = ''lacks(place("SSL_CERT_FILE", DEP "/etc/ssl/certs/ca-bundle.crt"), "")'';
    certificatesFixed = ''lacks(DEP "/etc/ssl", "/certs/ca-bundle.crt")'';
    font = ''lacks(OUT "/share/needs/block.flf", "")'';
    fonts = ''lacks(OUT "/share/fonts", "/truetype/x.ttf")'';
    runtime = ''lacks(OUT "/share/runtime", "/init")'';
    configuration = ''lacks(OUT "/etc/needs.conf", "")'';
    modules = ''lacks(OUT "/lib/modules", "/a.txt")'';
    plugin = ''lacks(OUT "/lib/plugin.so", "")'';
    both = ''lacks(place("TERMINFO_DIRS", DEP "/share/terminfo"), "/x/xterm") | lacks(OUT "/share/runtime", "/init")'';

    # Programs.
    helpers = ''lacks(OUT "/libexec/helpers", "/one")'';
    tool = ''runs(DEP "/bin/tool")'';
    script = ''runs(OUT "/libexec/script.sh")'';
    path = ''lacks(DEP "/bin", "/tool")'';
    sibling = ''runs(OUT "/bin/plain")'';

    # Wrapped ones.
    ".greeting-wrapped" = ''!getenv("GREETING")'';
    ".pathed-wrapped" = ''!(getenv("PATH") && strstr(getenv("PATH"), "-dep-1.0/bin"))'';
    ".trusting-wrapped" = ''lacks(place("SSL_CERT_FILE", "/missing"), "")'';
    ".quiet-wrapped" = "0";
    ".flagged-wrapped" = "argc < 2";
    ".twofold-inner" = ''!getenv("GREETING")'';
    ".handmade-wrapped" = "0";
    handmade = ''runs(OUT "/bin/.handmade-wrapped")'';
  };

  wrappers = {
    greeting = { runs = ".greeting-wrapped"; flags = [ "--inherit-argv0" "--set 'GREETING' 'good'" ]; };
    pathed = { runs = ".pathed-wrapped"; flags = [ "--prefix 'PATH' ':' '${dep}/bin'" ]; };
    trusting = { runs = ".trusting-wrapped"; flags = [ "--set-default 'SSL_CERT_FILE' '${dep}/etc/ssl/certs/ca-bundle.crt'" ]; };
    quiet = { runs = ".quiet-wrapped"; flags = [ "--inherit-argv0" ]; };
    flagged = { runs = ".flagged-wrapped"; flags = [ "--set 'GREETING' 'good'" "--add-flags '--loud'" ]; };
    scripted = { runs = ".scripted-wrapped"; flags = [ "--inherit-argv0" ]; };
    ".twofold-wrapped" = { runs = ".twofold-inner"; flags = [ "--set 'GREETING' 'good'" ]; };
    twofold = { runs = ".twofold-wrapped"; flags = [ "--inherit-argv0" ]; };
  };

  source = ''
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    static int mentions(const char *path) { return puts(path) < 0; }
    static const char *place(const char *variable, const char *fallback) {
      const char *named = getenv(variable);
      return named ? named : fallback;
    }
    /* Whether no directory of a list has the file. */
    static int lacks(const char *list, const char *file) {
      char copy[4096], path[4096];
      snprintf(copy, sizeof copy, "%s", list);
      for (char *part = strtok(copy, ":"); part; part = strtok(0, ":")) {
        snprintf(path, sizeof path, "%s%s", part, file);
        if (!access(path, R_OK)) return 0;
      }
      return 1;
    }
    static int runs(const char *path) { return execl(path, path, (char *)0); }
    int main(int argc, char **argv) { return RESULT ? 1 : 0; }
  '';

  # As nixpkgs' makeBinaryWrapper writes it, with the command in a string.
  wrapper = { runs, flags }: ''
    #include <unistd.h>
    int main(int argc, char **argv) { return execv("OUT/bin/${runs}", argv); }
    const char *DOCSTRING = ${builtins.toJSON ''


      # ------------------------------------------------------------------------------------
      # The C-code for this binary wrapper has been generated using the following command:


      makeCWrapper 'OUT/bin/${runs}'${builtins.concatStringsSep "" (map (flag: " \\\n    ${flag}") flags)}


      # (Use `nix-shell -p makeBinaryWrapper` to get access to makeCWrapper in your shell)
      # ------------------------------------------------------------------------------------


    ''};
  '';

  each = f: set: builtins.concatStringsSep "\n" (map (name: f name set.${name}) (builtins.attrNames set));
in
package "needs" { } ''
  mkdir -p $out/bin $out/etc $out/lib/modules $out/libexec/helpers $out/var/empty
  mkdir -p $out/share/locale/de $out/share/man/man1 $out/share/needs $out/share/fonts/truetype $out/share/runtime
  cd $out && touch share/locale/de/needs.mo share/man/man1/needs.1 share/needs/block.flf share/fonts/truetype/x.ttf share/runtime/init \
    etc/needs.conf lib/modules/a.txt lib/plugin.so
  for script in libexec/helpers/one libexec/script.sh bin/.scripted-wrapped; do printf '#!/bin/sh\n' > $script; chmod +x $script; done
  cd $NIX_BUILD_TOP
  ${each (name: result: ''
    echo '#define RESULT (${result})' | cat - ${builtins.toFile "needs.c" source} > program.c
    gcc -static -w -DOUT="\"$out\"" -DDEP="\"${dep}\"" -o $out/bin/${name} program.c &
    wait
  '') programs}
  ${each (name: it: ''
    sed "s|OUT|$out|g" ${builtins.toFile "wrapper.c" (builtins.unsafeDiscardStringContext (wrapper it))} > wrapper.c
    gcc -static -o $out/bin/${name} wrapper.c
  '') wrappers}
''
