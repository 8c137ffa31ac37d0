# shellcheck shell=bash
# shellcheck disable=SC2154 # see common.sh
# Hits on a server, by wrk: for hits and signatures, which source this after common.sh.

setup_need wrk
seconds_each=${SECONDS_EACH:-5} connections=${CONNECTIONS:-32}

# The processor time of a process so far, in ns. A thread may end while this looks.
spent() { cat "/proc/$1/task"/*/schedstat 2> /dev/null | awk '{ all += $1 } END { printf "%.0f", all }'; }

# load NAME HOST PID: adds "hits-per-second p50 p99 cpu" (µs; the server's own time for one hit) to a file of that name
load() {
  local told before after
  before=$(spent "$3")
  told=$("${on_client_core[@]}" wrk --threads 1 --connections "$connections" --duration "${seconds_each}s" --latency "http://$2/tree")
  after=$(spent "$3")
  case $told in
  *Non-2xx* | *'Socket errors'*) fail "not all answers from $1 were good:" "$told" ;;
  esac
  awk -v cpu=$((after - before)) '
    function micro(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1000 : t * 1000000 }
    $1 == "50%" { p50 = micro($2) }
    $1 == "99%" { p99 = micro($2) }
    $2 == "requests" { cpu = cpu / 1000 / $1 }
    $1 == "Requests/sec:" { printf "%d %d %d %.1f\n", $2, p50, p99, cpu }' <<< "$told" >> "$dir/$1"
}

column() { awk -v n="$2" '{ print $n }' "$dir/$1" | median; }
