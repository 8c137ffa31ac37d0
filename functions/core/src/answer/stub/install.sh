#!/bin/sh
# Installs a program for the current user: waits for the build, downloads the program, checks its sha256, and
# moves it into ~/.local/bin, or into $BINPLZ_DIR.
binplz() {
  start "$1" "$2" "$3"
  quiet=$hush
  [ "${BINPLZ_DIR-}${HOME-}" ] || die "HOME is not set; set BINPLZ_DIR to a directory"
  dir=${BINPLZ_DIR:-$HOME/.local/bin}
  case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
  mkdir -p "$dir" 2>/dev/null || :
  file=$dir/$name
  [ ! -d "$file" ] || die "$file is a directory"
  beside '; set BINPLZ_DIR to another directory' && rm -f "$tmp"
  ready
  if [ -f "$file" ] && [ -x "$file" ] && right "$file"; then
    say "$file is up to date"
  else
    load
    say "installed $file"
  fi
  case :$PATH: in
  *":$dir:"*) ;;
  *) say "$dir is not on your PATH; add it with: export PATH=\"$dir:\$PATH\"" ;;
  esac
  note
}
