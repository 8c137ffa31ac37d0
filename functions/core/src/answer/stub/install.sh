#!/bin/sh
# Installs a program for the current user. It waits for the build, downloads the program, checks its sha256, and moves it into
# ~/.local/bin, or into $BINPLZ_DIR. If there is no static program, it installs the bundle, which is larger. With --with-docs
# (sh -s -- --with-docs), it also puts the package's manual pages, completions and other files into share/ beside that directory.
# With --require-signature KEY, or BINPLZ_KEY=KEY, it installs only what this minisign key has signed.
binplz() {
  start "$1" "$2" "$3"
  docs=$4 with=
  shift 4
  while [ $# -gt 0 ]; do
    case $1 in
    --with-docs)
      with=y
      has tar || die "tar is required for --with-docs"
      ;;
    --require-signature)
      [ "${2-}" ] || die "--require-signature needs a key; $origin/-/keys lists this service's"
      BINPLZ_KEY=$2
      shift
      ;;
    *) die "unknown option $1; the options are --with-docs and --require-signature KEY" ;;
    esac
    shift
  done
  quiet=$hush
  [ "${BINPLZ_DIR-}${HOME-}" ] || die "HOME is not set; set BINPLZ_DIR to a directory"
  dir=${BINPLZ_DIR:-$HOME/.local/bin}
  case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
  mkdir -p "$dir" 2>/dev/null || :
  file=$dir/$name
  [ ! -d "$file" ] || die "$file is a directory"
  usable '; set BINPLZ_DIR to another directory'
  instead=y
  ready
  if [ -f "$file" ] && [ -x "$file" ] && right "$file"; then
    signed "$file"
    say "$file is up to date"
  else
    load
    say "installed $file"
  fi
  case $with/$instead in y/taken) say "a bundle has no manual pages" ;; y/*) documents ;; esac
  case :$PATH: in
  *":$dir:"*) ;;
  *) say "$dir is not on your PATH; add it with: export PATH=\"$dir:\$PATH\"" ;;
  esac
  note
}

# Puts the archive's share/ beside $dir.
documents() {
  instead=
  here "$docs"
  name="the archive of $name" file=$dir/.binplz.$$.tar.gz parts=$dir/.binplz.$$.d
  trap 'rm -rf "$tmp" "$file" "$parts" "$proof"' EXIT
  ready
  load
  { mkdir "$parts" && tar -xzf "$file" -C "$parts"; } || die "$name cannot be unpacked in $dir"
  for share in "$parts"/*/share; do
    if [ -d "$share" ]; then
      cp -R "$share" "${dir%/*}/" || die "cannot write to ${dir%/*}/share"
      say "installed the package's files in ${dir%/*}/share"
    else
      say "$name has no files other than its programs"
    fi
  done
  rm -rf "$file" "$parts"
}
