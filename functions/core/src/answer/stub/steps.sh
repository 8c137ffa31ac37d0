
say() { printf 'binplz: %s\n' "$*" >&2; }
tell() { [ "$quiet" ] || say "$@"; }
die() {
  say "$@"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# ORIGIN TARGET NAME
start() {
  origin=$1 target=$2 name=$3 tmp='' proof='' waited=0 told='' quiet='' hush=-q gnu='' instead=''
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
  trap '[ -z "$tmp$proof" ] || rm -rf "$tmp" "$proof"' EXIT
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
      if [ "$silent" -gt 60 ]; then
        [ "$state" != unavailable ] || die "$rest"
        die "no answer from $origin; run this again later"
      fi
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

# FILE: fails if BINPLZ_KEY is set, unless that key has signed the file as this program.
signed() {
  [ "${BINPLZ_KEY-}" ] || return 0
  has minisign || case $(openssl version 2>&1) in 'OpenSSL '[3-9]* | 'OpenSSL '[1-9][0-9]*) ;; *)
    die "minisign or OpenSSL 3 is required to check the signature of $name"
    ;;
  esac
  proof=$(mktemp -d) || die "cannot make a directory in ${TMPDIR:-/tmp}"
  if ! get "$origin/-/sig/$target" >"$proof/sig" 2>"$proof/why"; then
    die "$origin has no signature of $name; $(tail -n 1 "$proof/why")"
  fi
  if has minisign; then
    minisign -Vqm "$1" -x "$proof/sig" -P "$BINPLZ_KEY" >/dev/null 2>&1
  else
    by_openssl "$1" >/dev/null 2>&1
  fi || die "the signature of $name is not by the key $BINPLZ_KEY; do not run this program"
  is=$(sed -n 3p "$proof/sig")
  # Another program of this service has a valid signature, too.
  base=${name%.tar.gz}
  case $is in
  *'"program":"'"$base"'",'* | *'"package":"'"$base"'",'* | *'"package":"'*".$base"'",'*) ;;
  *) die "the signature is of another program than $name: ${is#trusted comment: }" ;;
  esac
  rm -rf "$proof"
  proof=
  say "$name: the signature is by the key $BINPLZ_KEY"
}

# The same as minisign: the key signs the file's BLAKE2b-512, and then its signature with the comment.
by_openssl() {
  # An Ed25519 key in DER: a prefix, and the last 32 bytes of minisign's.
  { printf '\060\052\060\005\006\003\053\145\160\003\041\000' && echo "$BINPLZ_KEY" | openssl base64 -d | tail -c 32; } >"$proof/key"
  openssl dgst -blake2b512 -binary "$1" >"$proof/hash"
  sed -n 2p "$proof/sig" | openssl base64 -d -A | tail -c 64 >"$proof/first"
  { cat "$proof/first" && sed -n 3p "$proof/sig" | tr -d '\n' | tail -c +18; } >"$proof/text"
  sed -n 4p "$proof/sig" | openssl base64 -d -A >"$proof/second"
  verify hash first && verify text second
}
verify() { openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$proof/key" -in "$proof/$1" -sigfile "$proof/$2"; }

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
  case ${BINPLZ_KEY-} in '' | RW*) ;; *) die "$BINPLZ_KEY is not a minisign key; $origin/-/keys lists this service's" ;; esac
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
  signed "$tmp"
  if [ -e "$file" ]; then
    chown "$(stat -c %u:%g "$file")" "$tmp"
    chmod "$(stat -c %a "$file")" "$tmp"
  fi 2>/dev/null
  [ -x "$tmp" ] || chmod +x "$tmp" || die "cannot make $tmp executable"
  mv -f "$tmp" "$file" || die "cannot replace $file"
  tmp=
}
