# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # see common.sh
# A `binplz serve` of its own, on a demo set of its own: for flow and hits, which source this after common.sh.

runs=${RUNS:-7}

scripts/sources
cargo build --release --package binplz-cli --package binplz-builder
# A tree of this run's own, so that its output can be deleted while other builds use the set's.
cp -r tests/fixtures/set "$dir/set"
sed -i "s/pname = \"tree\";/pname = \"tree\"; bench = \"$$ $(date +%s%N)\";/" "$dir/set/packages.nix"

# More arguments for the server.
options=()

# serve DATA [PREFIX…]: starts binplz on a free port, and returns when it listens: $server, $host
serve() {
  local data=$1 said=$1.said line
  shift
  [ -p "$said" ] || mkfifo "$said"
  "$@" "$target/release/binplz" serve --nixpkgs "$dir/set" --data "$data" --listen 127.0.0.1:0 "${options[@]}" 2> "$said" &
  server=$!
  ours[$server]=binplz
  exec 3< "$said"
  while read -r line <&3; do
    echo "$line" >> "$dir/log"
    case $line in
    *' serves '*' at http://'*)
      host=${line##* at http://}
      cat <&3 >> "$dir/log" &
      exec 3<&-
      return
      ;;
    esac
  done
  fail "the service did not start: $(cat "$dir/log")"
}

stop() { end "$server" || fail "the service ended badly: $(cat "$dir/log")"; }

# get PATH: one request on the open connection 4; the body's first line in $answer.
get() {
  local line length=0
  printf 'GET %s HTTP/1.1\r\nHost: %s\r\n\r\n' "$1" "$host" >&4
  while IFS= read -r line <&4; do
    line=${line%$'\r'}
    case ${line,,} in
    '') break ;;
    content-length:*) length=${line##* } ;;
    esac
  done
  LC_ALL=C IFS= read -r -N "$length" answer <&4
  answer=${answer%%$'\n'*}
}

# get_built NAME: asks for a program and then for its status, every 10 ms and on one connection, until it is there.
get_built() {
  exec 4<> "/dev/tcp/${host%:*}/${host##*:}"
  get "/$1"
  while
    get "/-/status/$1"
    [ "${answer%% *}" != ready ]
  do
    case $answer in
    queued* | building*) read -r -t 0.01 -u 9 || true ;;
    *) fail "$1: $answer" ;;
    esac
  done
  exec 4<&-
}
