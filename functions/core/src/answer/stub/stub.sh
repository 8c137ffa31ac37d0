binplz() {
  sum=SUM try=0 gnu=
  has() { command -v "$1" >/dev/null 2>&1; }
  die() { printf 'binplz: %s\n' "$1" >&2; exit 1; }
  if has curl; then
    get() { curl -q -fsSL --connect-timeout 20 -y 60 "$1"; }
  elif has wget; then
    ! wget --version >/dev/null 2>&1 || gnu='--no-config -t1 -T60'
    get() { wget -q $gnu -O - "$1"; }
  else
    die 'curl or wget is required'
  fi
  for check in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' "echo $sum"; do
    ! has "${check%% *}" || break
  done
  while :; do
    steps=$(get "$1/-/stub/$sum" 2>&1)
    case $steps in
    "# binplz's"*'# end')
      is=$(printf '%s\n' "$steps" | $check)
      [ "${is%% *}" != "$sum" ] || break
      steps="what $1 sent is damaged"
      ;;
    "printf '%s\\n' 'binplz: "*) steps=${steps#*"'binplz: "}; die "${steps%%\'*}" ;;
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
