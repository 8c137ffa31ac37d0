#!/bin/sh
# This is not the program yet. Run it (sh ./FILE ARGUMENTS): it waits for the build, downloads the
# program, checks its sha256, takes its own place with it, and runs it.
binplz() {
  origin=$1 target=$2 name=$3
  shift 3
  say() { printf 'binplz: %s\n' "$*" >&2; }
  die() {
    say "$@"
    exit 1
  }

  # The very file that holds this text, or a new one beside us where we came through a pipe.
  self=
  case $0 in
  */*) file=$0 ;;
  *) file=./$0 ;;
  esac
  while [ -h "$file" ] && link=$(readlink "$file"); do
    case $link in
    /*) file=$link ;;
    *) file=$(dirname -- "$file")/$link ;;
    esac
  done
  if [ -f "$file" ] && grep -qF "binplz '$origin' '$target' " "$file" 2>/dev/null; then
    self=$file
  else
    file=./$name
    [ ! -e "$file" ] || die "will not overwrite $file; move it away, or: curl -L '$origin/$target' -o FILE"
  fi

  [ "$(uname -s)" = Linux ] || die "$name is a Linux program; this is $(uname -s)"
  case $target in
  *[?\&]sys=*) ;;
  *)
    case $(uname -m) in
    x86_64 | amd64) system=x86_64-linux ;;
    aarch64 | arm64) system=aarch64-linux ;;
    *) die "there are no programs for this machine ($(uname -m))" ;;
    esac
    case $target in
    *\?*) target="$target&sys=$system" ;;
    *) target="$target?sys=$system" ;;
    esac
    ;;
  esac

  if command -v curl >/dev/null 2>&1; then
    get() { curl -fsSL "$1"; }
  elif command -v wget >/dev/null 2>&1; then
    get() { wget -q -O - "$1"; }
  else
    die "this needs curl or wget"
  fi

  tmp=
  trap '[ -z "$tmp" ] || rm -f "$tmp"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP

  waited=0 shown='' silent=0 asked=0
  while :; do
    line=$(get "$origin/-/status/$target") || line='unreachable 5 - - - no answer from the server'
    IFS=' ' read -r state after sha256 size url rest <<EOF_LINE
$line
EOF_LINE
    case $state in
    ready) break ;;
    queued | building) silent=0 ;;
    failed)
      [ "$url" = - ] || rest="$rest
binplz: the log is at $url"
      die "$rest"
      ;;
    unasked)
      asked=$((asked + 1))
      [ "$asked" -le 3 ] || die "the build of $name does not start; try again later"
      get "$origin/$target" >/dev/null || :
      continue
      ;;
    *)
      silent=$((silent + 1))
      [ "$silent" -le 60 ] || die "no answer from $origin; run this again later"
      rest='no answer from the server, trying again'
      after=5
      ;;
    esac
    if [ -t 2 ]; then
      while [ "$after" -gt 0 ]; do
        printf '\r\033[Kbinplz: %s: %s (%s s)' "$name" "$rest" "$waited" >&2
        sleep 1
        after=$((after - 1)) waited=$((waited + 1))
      done
      printf '\r\033[K' >&2
    else
      [ "$rest" = "$shown" ] || say "$name: $rest"
      shown=$rest
      sleep "$after"
    fi
  done

  say "$name: downloading $size bytes"
  tmp=$(dirname -- "$file")/.$name.binplz.$$
  # A copy of ourselves has our mode; its content is replaced.
  if [ -n "$self" ]; then
    cp -p "$self" "$tmp" || die "cannot write beside $file"
  fi
  get "$url" >"$tmp" || die "the download of $url to $tmp failed; run this again"
  if command -v sha256sum >/dev/null 2>&1; then
    sum=$(sha256sum <"$tmp")
  elif command -v shasum >/dev/null 2>&1; then
    sum=$(shasum -a 256 <"$tmp")
  elif command -v openssl >/dev/null 2>&1; then
    sum=$(openssl dgst -sha256 -r <"$tmp")
  else
    say "no sha256sum, shasum or openssl here: only the size is checked"
    sum=$sha256
    [ "$(wc -c <"$tmp")" -eq "$size" ] || sum=
  fi
  [ "${sum%% *}" = "$sha256" ] || die "what came is not $name: its sha256 is not $sha256; run this again"
  [ -x "$tmp" ] || chmod +x "$tmp" || die "cannot make $tmp executable"
  mv -f "$tmp" "$file" || die "cannot replace $file"
  tmp=
  if [ -z "$self" ]; then
    say "saved $file"
    exit 0
  fi
  exec "$file" "$@"
}
