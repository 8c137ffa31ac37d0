# binplz's script, second part. It waits for the build, downloads the program, checks its sha256, replaces the script's file with
# the program, and runs the program. With BINPLZ_KEY=KEY it accepts only what this minisign
# key has signed. The first part (stub.sh) fetches this one.
# ORIGIN TARGET NAME ARGUMENTS...
become() {
  mark="binplz '$1' '$2' " may="will not overwrite ./$3; move it away, or: curl -L '$1/$2' -o FILE"
  start "$1" "$2" "$3"
  shift 3
  # The file that holds this script, or a new one if the script came through a pipe.
  case $0 in /* | [!-]*/*) called=$0 ;; *) called=./$0 ;; esac
  self=$called
  while [ -h "$self" ] && [ -f "$self" ]; do
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=${self%/*}/$link ;; esac
  done
  file=$self
  grep -qF "$mark" "$self" 2>/dev/null || file=./$name
  [ "$file" = "$self" ] || [ -f "$self" ] || [ ! -e "$file" ] || die "$may"
  usable '; use another directory'
  ready
  if [ "$file" != "$self" ]; then
    # Another run of this file may have finished first.
    if [ -f "$self" ] && right "$self"; then exec "$called" "$@"; fi
    [ ! -e "$file" ] || die "$may"
  fi
  load
  # An archive is unpacked, not run.
  case $name in *.tar.gz) self= ;; esac
  if [ "$file" != "$self" ]; then
    say "saved $file"
    note
    exit
  fi
  note
  exec "$called" "$@"
}
