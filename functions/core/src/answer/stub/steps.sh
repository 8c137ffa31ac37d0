
say() { printf 'binplz: %s\n' "$*" >&2; }
tell() { [ "$quiet" ] || say "$@"; }
die() {
  say "$@"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# ORIGIN TARGET NAME
start() {
  origin=$1 target=$2 name=$3 tmp='' waited=0 told='' quiet='' hush=-q gnu='' instead=''
  [ "$(uname -s)" = Linux ] || die "$name is a Linux program; this is $(uname -s)"
  here "$target"
  [ ! -t 2 ] || hush=
  # -q and --no-config ignore the user's own settings of curl and wget.
  case $origin in https:*) proto='=https' ;; *) proto='=http,https' ;; esac
  # `more` resumes where $tmp ends.
  if has curl; then
    get() { curl -q -fsSL --proto "$proto" --connect-timeout 20 -y 60 "$1"; }
    more() { curl -q -fL "-${hush:+s}S" --proto "$proto" --connect-timeout 20 -y 60 -C "$1" "$url" >>"$tmp"; }
  elif has wget; then
    ! wget --version >/dev/null 2>&1 || gnu=y
    get() { wget -q ${gnu:+--no-config -t1 -T60} -O - "$1"; }
    more() { wget ${hush:+-q} ${gnu:+--no-config -t1 -T60} -c -O "$tmp" "$url"; }
  else
    die "curl or wget is required"
  fi
  if has sha256sum; then
    sum() { sha256sum; }
  elif has shasum; then
    sum() { shasum -a 256; }
  elif has openssl; then
    sum() { openssl dgst -sha256 -r; }
  else
    say "no sha256sum, shasum or openssl: only the size is checked"
    sum() { [ $(($(wc -c))) != "$bytes" ] || echo "$sha256"; }
  fi
  trap '[ -z "$tmp" ] || rm -f "$tmp"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# TARGET: sets $target, and adds this machine's system if TARGET names none.
here() {
  target=$1
  case $target in *\?*) sys="$target&sys" ;; *) sys="$target?sys" ;; esac
  case $target/$(uname -m) in
  *[?\&]sys=*) ;;
  */x86_64 | */amd64) target=$sys=x86_64-linux ;;
  */aarch64 | */arm64) target=$sys=aarch64-linux ;;
  *) die "this machine is not supported ($(uname -m))" ;;
  esac
}

# Waits for the build, then sets $url, $bytes and $sha256 of the program. All answers have status 200, because wget hides the body
# of any other status.
ready() {
  silent=0 ask=$origin/-/status/$target
  while :; do
    line=$(get "$ask" 2>/dev/null) || line="- - - - - $(get "$ask" 2>&1 >/dev/null)"
    IFS=' ' read -r state after sha256 bytes url rest <<EOF
$line
EOF
    case $state in
    ready)
      # The number is used in arithmetic, and the URL is an argument: anything else is refused.
      case $bytes in '' | *[!0-9]* | 0?* | ????????????????*) bytes='' ;; esac
      case $bytes:$url in [0-9]*:https://* | [0-9]*:"${origin%%:*}"://*) return ;; esac
      die "the answer from $origin is malformed; run this again later"
      ;;
    failed)
      case $instead/$rest in y/*'; available as one file with all that it needs: '*)
        say "$rest"
        instead=taken quiet='' target=-/bundle/$target
        ask=$origin/-/status/$target
        continue
        ;;
      esac
      [ "$url" = - ] || rest="$rest; the log: $url"
      die "$rest"
      ;;
    queued | building) silent=0 ask=$origin/-/status/$target ;;
    unasked)
      # Only a request for the program itself starts its build.
      [ "$ask" != "$origin/$target&status" ] || die "$rest"
      ask="$origin/$target&status"
      continue
      ;;
    *)
      silent=$((silent + 1))
      [ "$silent" -le 60 ] || die "no answer from $origin; run this again later"
      after=$((silent < 5 ? silent : 5)) rest="retrying: ${rest:-no answer from $origin}"
      ;;
    esac
    nap "$after" "$rest"
  done
}

# SECONDS TEXT: waits, and shows a progress line in a terminal. Elsewhere it prints TEXT when TEXT changes.
nap() {
  [ -z "$hush" ] || [ "$2" = "$told" ] || tell "$name: $2"
  told=$2 left=$1
  case $left in '' | *[!0-9]* | 0?* | ?????*) left=5 ;; esac
  while [ "$left" -gt 0 ]; do
    [ "$hush" ] || printf '\r\033[Kbinplz: %s: %.60s (%s s)' "$name" "$2" "$waited" >&2
    sleep 1
    left=$((left - 1)) waited=$((waited + 1))
  done
  [ "$hush" ] || printf '\r\033[K' >&2
}

# Prints the service's note on the program ($rest), after the download to $file.
note() {
  # The note says to keep the name, and the file has it.
  case $rest in "keep the name ${file##*/}:"*)
    case $rest in *'; '*) rest=${rest#*; } ;; *) rest='' ;; esac
    ;;
  esac
  [ -z "$rest" ] || say "${file##*/}: $rest"
}

# FILE: succeeds if FILE is the program.
right() {
  is=$(sum <"$1")
  [ "${is%% *}" = "$sha256" ]
}

# Creates $tmp beside $file, or fails with a hint.
beside() {
  tmp=${file%/*}/.$name.binplz.$$
  (set -C && : >"$tmp") 2>/dev/null || {
    tmp=
    die "cannot write to ${file%/*}/$1"
  }
}

# TEXT: fails with TEXT if $file cannot be written or run. It is called before any wait.
usable() {
  beside "$1"
  case $name in
  *.tar.gz) ;;
  *)
    # The shell's own test of an executable file passes on a noexec mount for some users.
    { printf '#!/bin/sh\n' >"$tmp" && chmod +x "$tmp" && "$tmp"; } 2>/dev/null
    [ $? != 126 ] || die "programs cannot be run in ${file%/*}/: it is mounted noexec$1"
    ;;
  esac
  rm -f "$tmp"
}

# Downloads to a file beside $file, checks it, and replaces $file, keeping the mode and the owner.
load() {
  tell "$name: downloading $((bytes / 1024 + 1)) kB"
  have=0 failed=0
  beside ''
  until more "$have"; right "$tmp"; do
    had=$have have=$(($(wc -c <"$tmp")))
    # A download that grew but is too short is resumed.
    if [ "$have" -ge "$bytes" ]; then
      failed=$((failed + 1)) why="the downloaded file is not $name: its sha256 is not $sha256" have=0
      : >"$tmp"
    elif [ "$have" -le "$had" ]; then
      failed=$((failed + 1)) why="the download stopped at $have of $bytes bytes"
    fi
    if [ "$failed" -ge 3 ]; then
      # The disk is full only if it takes no more bytes.
      printf '%65536s' '' 2>/dev/null >>"$tmp"
      [ $(($(wc -c <"$tmp"))) -ge $((have + 65536)) ] || why="${file%/*}/ is full: $have of $bytes bytes fit"
      die "$why; run this again"
    fi
    nap "$failed" "retrying the download"
    ready
  done
  if [ -e "$file" ]; then
    chown "$(stat -c %u:%g "$file")" "$tmp"
    chmod "$(stat -c %a "$file")" "$tmp"
  fi 2>/dev/null
  [ -x "$tmp" ] || chmod +x "$tmp" || die "cannot make $tmp executable"
  mv -f "$tmp" "$file" || die "cannot replace $file"
  tmp=
}
