binplz() {
  sum=SUM try=0 gnu=
  die() { printf 'binplz: %s\n' "$1" >&2; exit 1; }
  has() { command -v "$1" >/dev/null 2>&1; }
  has curl || has wget || die 'curl or wget is required'
  has curl || ! wget --version >/dev/null 2>&1 || gnu='--no-config -t1 -T60'
  get() { if has curl; then curl -q -fsSL --connect-timeout 20 -y 60 "$1"; else wget -q $gnu -O - "$1"; fi; }
  for check in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' "echo $sum"; do
    ! has "${check%% *}" || break
  done
  until
    steps=$(get "$1/-/stub/$sum" 2>&1)
    is=$(printf '%s\n' "$steps" | $check)
    case $steps in "# binplz's"*'# end') ;; *) is= ;; esac
    [ "${is%% *}" = "$sum" ]
  do
    case $steps in
    "printf '%s\\n' 'binplz: "*) steps=${steps#*"'binplz: "} && die "${steps%%\'*}" ;;
    curl:* | wget:*) ;;
    *) steps="no answer from $1" ;;
    esac
    try=$((try + 1))
    [ "$try" -lt 60 ] || die "$steps; run this again later"
    [ "$try" -gt 1 ] || printf 'binplz: retrying: %s\n' "$steps" >&2
    sleep "$((try < 5 ? try : 5))"
  done
  eval "$steps"
  become "$@"
}
