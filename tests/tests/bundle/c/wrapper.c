#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  setenv("WRAPPED", "yes", 1);
  argv[0] = PROBE;
  execv(PROBE, argv);
  return argc ? 97 : 96;
}
