# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is for flow, hits and lambda, which source this from the repository's root

fail() {
  printf 'bench: %s\n' "$@" >&2
  exit 1
}

command -v cargo > /dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
. scripts/setup
setup_need taskset=util-linux
target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

dir=$(mktemp -d "${TMPDIR:-/tmp}/binplz-bench.XXXXXX")
mkfifo "$dir/never"
exec 9<> "$dir/never" # to wait on, without starting a `sleep`

# The processes to end with this script, by their ids. One that has ended by itself is none of them any more.
declare -A ours=()
end() {
  unset "ours[$1]"
  kill "$1" 2> /dev/null || true
  wait "$1"
}
finish() {
  local pid
  for pid in "${!ours[@]}"; do end "$pid" || true; done
  rm -rf "$dir"
}
trap finish EXIT

# On two cores or more, a server has one for itself, and so has its client.
on_server_core=() on_client_core=()
if [ "$(nproc)" -ge 2 ]; then on_server_core=(taskset -c 0) on_client_core=(taskset -c 1); fi

median() { sort -n | awk '{ all[NR] = $1 } END { print NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# row KEY A [B]: hands A, or A over B, to tests/bench/report, which compares it with the target of that key. Units are left out.
row() {
  [ -n "$2" ] || fail "$1 was not measured"
  if [ -n "${BENCH_ROWS-}" ]; then
    awk -v key="$1" -v a="$2" -v b="${3-1}" 'BEGIN { printf "%s\t%.6g\n", key, a / b }' >> "$BENCH_ROWS"
  fi
}
# aim KEY: the target, as targets.tsv has it
aim() { awk -F '\t' -v key="$1" '$1 == key { print $4 ($5 == "" ? "" : " " $5) }' tests/bench/targets.tsv; }

# The machine, above a table.
headline() {
  printf '\n%s, %s, %s cores, load %s%s\n\n' "$(date -u +%Y-%m-%d)" "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)" \
    "$(nproc)" "$(cut -d ' ' -f 1 /proc/loadavg)" "${1+, $1}"
}
